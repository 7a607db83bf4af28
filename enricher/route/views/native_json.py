# SPDX-License-Identifier: Apache-2.0
"""Native JSON: one event, one line.

Owns the line form (JSON, then one newline, no newline inside) and nothing of the content: the event is
built by `enrich.native` and encoded by `codec`. Never adds, drops or reorders a member.

A consumer may split the stream at newline bytes: inside JSON they only exist as escapes.

`NativeJson` writes the same line without building the event, where it is of the usual form: its records by
`fragments`, and what stands around them, which is a dict of its own and small, as `enrich.native` makes it. For a log's
event, of which nothing but its records is known, that is text that differs in a few places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher import scan, writing
from enricher.clock import LAST_SECOND, utc_second
from enricher.codec import dumps
from enricher.enrich.attribution import SYSCALL
from enricher.enrich.native import Gist, NativeBuilder, enrichment_of
from enricher.enrich.values import text_of
from enricher.messages import ContextFlag
from enricher.model import UNSET
from enricher.route.views.fragments import Fragments

if TYPE_CHECKING:
    from enricher.enrich.cgroups import Home
    from enricher.enrich.namespaces import Known
    from enricher.enrich.native import Outcome
    from enricher.enrich.shape import NativeEvent
    from enricher.messages import Context
    from enricher.model import Event
    from enricher.route.views.fragments import Primary

_NONE: Final = b'"records":[],'
_KNOWN: Final = 64
_COMMS: Final = 4096
"""Names of tasks that are remembered, and as many logins."""
_SUBJECT: Final = int(ContextFlag.SUBJECT)
_OF_SUBJECTS: Final = int(ContextFlag.SUBJECT | ContextFlag.AFTER_SERVING)
_SECONDS: Final = 10  # digits


def render(native: NativeEvent) -> bytes:
    """Return the event as one line of JSON with its newline."""
    return dumps(native) + b"\n"


class NativeJson:
    """Makes lines of events; `builder` makes those that are not of the usual form, and what stands around records."""

    def __init__(self, builder: NativeBuilder) -> None:
        self._builder = builder
        self._fragments = Fragments(builder.decoder)
        self._out = writing.fresh()
        self._enrichments: dict[tuple[bool | None, str, bool], bytes] = {}
        self._times: dict[bytes, bytes] = {}
        self._hosts: dict[bytes, tuple[bytes, bytes]] = {}
        self._comms: dict[bytes, bytes] = {}
        self._logins: dict[tuple[int, int], bytes] = {}
        self._where = builder.where

    def line(self, event: Event) -> bytes:
        """Return what `render` makes of the event that the builder builds."""
        if event.records and not self._builder.raw:
            till = self._fragments.put(event.records, event.stamp)
            primary = self._fragments.primary
            if till >= 0 and primary is not None and primary.outcome:
                line = None
                if event.beside is None and event.recalled is None:
                    line = (
                        self._of_a_log(event, till, primary)
                        if event.context is None
                        else self._of_a_task(event, till, primary)
                    )
                return self._around(event, till, primary) if line is None else line
        return render(self._builder.build(event))

    def _around(self, event: Event, till: int, primary: Primary) -> bytes:
        records = writing.taken(self._fragments.out, till)
        tail = primary.tail
        fields = {"pid": int(primary.pid), "ppid": int(primary.ppid), **tail.fields}
        outcome: Outcome = "success" if primary.outcome == b"success" else "failure"
        native = self._builder.around(event, Gist("SYSCALL", fields, list(tail.key_names), outcome), [])
        line = dumps(native)
        at = line.rindex(_NONE) + len(_NONE) - 2
        return b"%b%b%b\n" % (line[:at], records, line[at:])

    def _of_a_log(self, event: Event, till: int, primary: Primary) -> bytes | None:
        """Make the line of an event without a context; None where its stamp is not as the kernel writes it."""
        at = self._put_beginning(event, primary)
        if at < 0:
            return None
        about = (event.complete, event.reason, event.self_caused)
        enrichment = self._enrichments.get(about)
        if enrichment is None:
            enrichment = self._enrichment(event, about)
        out = self._out
        at = writing.put_two(out, at, b',"ppid":', primary.ppid)
        at = writing.put_two(out, at, primary.tail.subject, b'},"where":"unknown","records":[')
        return writing.taken_with(out, at, self._fragments.out, till, enrichment)

    def _of_a_task(self, event: Event, till: int, primary: Primary) -> bytes | None:
        """Make the line of an event whose context is its subject's and not unusual; None for any other."""
        context = event.context
        if context is None or context.flags & _OF_SUBJECTS != _SUBJECT or context.contid:
            return None
        # `enrich.attribution` goes by the pid in the first record of those that have one.
        first, pid = event.records[0], primary.pid
        if first.type != SYSCALL or scan.number(pid, 0, len(pid)) != context.pid:
            return None
        at = self._put_beginning(event, primary)
        if at < 0:
            return None
        at = self._put_subject(at, context, primary)
        known = self._where.namespaces.known(context)
        home = self._where.home_of_task(context)
        if home is None:
            place = self._place(None, context)
        else:
            if home.inquiry.wants and not event.self_caused:
                self._where.ask(home)
            place = home.written or self._place(home, context)
        if known.owned:
            namespaces = self._with_others(known, context, home)
        else:
            namespaces = known.written or self._namespaces(known)
        if home is None or not event.complete or event.reason or event.self_caused or known.missing:
            ending = self._ending(event, known.missing, home)
        else:
            ending = home.ending or self._ending(event, "", home)
            home.ending = ending
        out = self._out
        at = writing.put_three(out, at, namespaces, place, b',"records":[')
        return writing.taken_with(out, at, self._fragments.out, till, ending)

    def _put_beginning(self, event: Event, primary: Primary) -> int:
        """Write a line up to the subject's pid; -1 where the stamp is not as the kernel writes it."""
        stamp = event.stamp
        size = len(stamp)
        dot = scan.digits(stamp, 0, size)
        colon = dot + 4
        if (
            not 1 <= dot <= _SECONDS
            or colon + 1 >= size
            or not scan.is_at(stamp, b".", dot, size)
            or scan.digits(stamp, dot + 1, size) != colon
            or not scan.is_at(stamp, b":", colon, size)
            or scan.digits(stamp, colon + 1, size) != size
        ):
            return -1
        data = stamp
        second = data[:dot]
        time = self._times.get(second)
        if time is None:
            time = self._time(second)
        host = self._hosts.get(event.node)
        if host is None:
            host = self._host(event)
        tail, out = primary.tail, self._out
        at = writing.begin(out)
        at = writing.put_two(out, at, b'{"schema":"audit-enricher/1","time":"', time)
        at = writing.put_part(out, at, b"", stamp, dot + 1, colon)
        at = writing.put_three(out, at, b'Z","id":"', stamp, host[0])
        at = writing.put(out, at, stamp)
        at = writing.put(out, at, b'"') if event.part == 1 else writing.put(out, at, b'/%d"' % event.part)
        at = writing.put_three(out, at, host[1], tail.keys, b',"outcome":"')
        return writing.put_three(out, at, primary.outcome, b'","subject":{"pid":', primary.pid)

    def _put_subject(self, at: int, context: Context, primary: Primary) -> int:
        """Write what stands behind the pid of a subject with this context, as `subject_of` has it, and ``inside``."""
        tail, out = primary.tail, self._out
        comm = self._comms.get(context.comm)
        if comm is None:
            comm = self._comm(context.comm)
        login = self._logins.get((context.auid, context.ses))
        if login is None:
            login = self._login(context)
        at = writing.put_number(out, at, b',"tid":', context.tid)
        at = writing.put_number(out, at, b',"ppid":', context.ppid)
        at = writing.put_number(out, at, b',"start":"', context.start)
        at = writing.put_three(out, at, b'",', comm, tail.program)
        before = b',"pids":[{"ns":'
        for level in context.levels:
            at = writing.put_number(out, at, before, level.ns)
            at = writing.put_number(out, at, b',"pid":', level.pid)
            before = b'},{"ns":'
        at = writing.put(out, at, b"}]" if context.levels else b',"pids":[]')
        at = writing.put_two(out, at, login, tail.credentials)
        where = self._where
        if where.users.knows(context):
            said = where.users.inside(context, tail.numbers, where.namespaces)
            if said is not None:
                at = writing.put_two(out, at, b',"inside":', dumps(said))
        return at

    def _comm(self, comm: bytes) -> bytes:
        if len(self._comms) >= _COMMS:
            self._comms.clear()
        text, exact = text_of(comm)
        said = {"comm": text} if exact is None else {"comm": text, "comm_hex": exact}
        made: bytes = self._comms.setdefault(comm, dumps(said)[1:-1])
        return made

    def _login(self, context: Context) -> bytes:
        if len(self._logins) >= _COMMS:
            self._logins.clear()
        auid, ses = context.auid, context.ses
        said = {name: number for name, number in (("auid", auid), ("ses", ses)) if number < UNSET}
        made = self._logins[auid, ses] = b"," + dumps(said)[1:-1] if said else b""
        return made

    def _place(self, home: Home | None, context: Context) -> bytes:
        said: dict[str, object] = {}
        self._where.enter(said, home, context.cgroup_id)
        made: bytes = b"," + dumps(said)[1:-1]
        if home is not None:
            home.written = made
        return made

    def _namespaces(self, known: Known) -> bytes:
        made = known.written = b'},"namespaces":' + dumps(known.namespaces)
        return made

    def _with_others(self, known: Known, context: Context, home: Home | None) -> bytes:
        """Return the member ``namespaces`` of a task that may have another container's, anew when more is known."""
        tenants, cgroups = self._where.tenants, self._where.cgroups
        if (
            known.home is home
            and known.tenants_epoch == tenants.epoch
            and known.cgroups_epoch == cgroups.epoch
        ):
            return known.with_others
        made = self._where.with_others(known.namespaces, context, home)
        written: bytes = b'},"namespaces":' + dumps(made)
        if tenants.steady(context):
            known.home = home
            known.with_others = written
            known.tenants_epoch = tenants.epoch
            known.cgroups_epoch = cgroups.epoch
        return written

    def _ending(self, event: Event, missing: str, home: Home | None) -> bytes:
        doubt = missing if home is None else missing or home.reason
        return b'],"enrichment":%b}\n' % dumps(enrichment_of(event, event.context, doubt, home))

    def _time(self, second: bytes) -> bytes:
        if len(self._times) >= _KNOWN:
            self._times.clear()
        time = self._times[second] = b"%b." % utc_second(min(int(second), LAST_SECOND)).encode("ascii")
        return time

    def _host(self, event: Event) -> tuple[bytes, bytes]:
        if len(self._hosts) >= _KNOWN:
            self._hosts.clear()
        boot = dumps(self._builder.boot_of(event))[:-1]
        rest = b',"host":%b,"type":"SYSCALL","keys":' % dumps(self._builder.host_of(event))
        host = self._hosts[event.node] = (b'","uid":%b' % boot, rest)
        return host

    def _enrichment(self, event: Event, about: tuple[bool | None, str, bool]) -> bytes:
        if len(self._enrichments) >= _KNOWN:
            self._enrichments.clear()
        said = enrichment_of(event, None, "no kernel context", None)
        made = self._enrichments[about] = b'],"enrichment":%b}\n' % dumps(said)
        return made
