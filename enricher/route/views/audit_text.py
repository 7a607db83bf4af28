# SPDX-License-Identifier: Apache-2.0
"""Audit text: the kernel's lines as they came, and one line of ours beside them.

Owns where our line stands and how it is quoted, so that ausearch, auparse and LAUREL still read one
event. Never edits a record, with one exception that is announced in the output itself (below), and
never interprets one.

Our line is ``type=UNKNOWN[1390]`` (NS_INFO; a *named* type that those tools do not know splits the
event) with the event's own stamp and every value quoted (LAUREL takes unquoted digits of even length
for hex). It has the facts of the context, where that may be named as the subject's, and says what is
missing: ``complete="no"``, ``truncated="1"``, ``reason="no_kernel_context"``. Lines like it, behind it, have what not
every event has: who the subject is inside of a user namespace, targets, a packet; ``type=UNKNOWN[1391]``
(CONTAINER_ID) ties audit container identifiers to the record at a place. It stands

* before PROCTITLE, which ends an event for auparse, when the event has a SYSCALL record; else before EOE
  or after the last record;
* before the first record when there is no SYSCALL: one that is outside 1300..1399 (USER_*, LOGIN, AVC...),
  or inside but of a type that an older auparse does not know (DM_EVENT), is an event of its own for it, and
  everything after it another one. What stands before is of the same event to all.

An event of our own is one line, ``type=UNKNOWN[1394]`` (LOST), with serial 0, which no record of the kernel
has, and an ``event_uid=`` that is the event's ``uid`` in JSON: what is named ``uid`` is a user to ausearch. Where its
subject has audit container identifiers a line CONTAINER_ID with the same ``event_uid=`` is behind it.

Control characters: the kernel encodes most names that hold any, but not a network device's, and it passes
on what a program with CAP_AUDIT_WRITE puts inside ``msg='...'``. A newline there would forge a line, a
carriage return would to a reader in universal-newline mode, NUL cuts a line for C readers, and an escape
sequence runs on the terminal of whoever reads the file, one that begins with U+009B included. In such a
record each byte of a control character but tab is written as a space, and the record's bytes are kept, all
of them, in hex in lines ``type=UNKNOWN[1398]`` (NOTICE, ``op="control-bytes"``) in the place where ours
stand. Nothing is lost, and every line that begins with ``type=`` was written by the kernel or by us. A
log's ``node=`` stands before everything, so there not even a space may come out: each such byte is a
question mark.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enricher.enrich import beside, contid
from enricher.enrich.attribution import attribute, left_doubt, not_read, reason_of
from enricher.enrich.cgroups import home_of
from enricher.enrich.namespaces import KEPT, SETS
from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.enrich.told import type_of
from enricher.enrich.whereabouts import Whereabouts
from enricher.facts import ContainerOp
from enricher.model import KINDS, Recalled
from enricher.recent import Recent
from enricher.route.views import textlines
from enricher.route.views.flat import flat, told
from enricher.route.views.textlines import place_of, prefix_of, quoted
from enricher.sources.audit.types import is_user, name_of, number_of, text_name_of

if TYPE_CHECKING:
    from enricher.enrich.cgroups import Home
    from enricher.enrich.shape import Inside
    from enricher.facts import Told
    from enricher.model import Context, Event, HostFacts, Loss, Notice

_NS_INFO = b'type=UNKNOWN[1390] msg=audit(%b): record="1"'
_NS_INFO_MORE = b"type=UNKNOWN[1390] msg=audit(%b):"
_CONTAINER_ID = b'type=UNKNOWN[1391] msg=audit(%b): record="%d" contid="%b"'
_NS_CHANGE = b"type=UNKNOWN[1393] msg=audit(%b):"
_NUMBERS = {
    name: number_of(name) or 0 for name in ("NS_CHANGE", "NS_INIT", "NS_DEL", "USER_REFUSED", "CONTAINER_OP")
}
_OWN_CONTAINER_ID = b'type=UNKNOWN[1391] msg=audit(%b): %b record="1" contid="%b"'
_NOT_IN_LINES = frozenset(
    {"schema", "time", "id", "uid", "host", "type", "keys", "records", "contid", "container_ids"}
)
_LOST = b"type=UNKNOWN[1394] msg=audit(%b): "
_TOLD = b"type=UNKNOWN[1398] msg=audit(%b): "
_NOTICE = b'type=UNKNOWN[1398] msg=audit(%b): op="control-bytes"'

# A control byte becomes a space; tab is harmless and stays.
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_SPACED = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))

# U+0080 to U+009F in UTF-8, and the same as single bytes where they are part of no UTF-8 character.
_HIGH_CONTROL = re.compile("[\x80-\x9f\udc80-\udc9f]")

_SEPARATOR = b"\x1d"  # auditd's ENRICHED log format appends names behind it

_PIECE = 4000  # bytes in hex in one line: ausearch reads no more than 8970 characters of a line

_HOMES = 8192
_INSIDES = 8192

_TOLD_MAX = 256  # bytes of what a runtime says: a value is never cut, and a line has little room


def _spaced(line: bytes) -> bytes:
    """Return a line with each byte of a control character but tab as a space."""
    line = line.translate(_SPACED)
    if line.isascii():
        return line
    text = line.decode("utf-8", "surrogateescape")
    spaced = _HIGH_CONTROL.sub(lambda found: " " * len(found[0].encode("utf-8", "surrogateescape")), text)
    return spaced.encode("utf-8", "surrogateescape")


def _enriched(line: bytes, *, user: bool) -> bytes:
    """Return a log's line likewise, but keep the byte after which auditd's ENRICHED log format goes on.

    In a program's record that is the one behind its message's closing quote, the last of all.
    """
    body, separator, names = line.rpartition(_SEPARATOR)
    if not separator or (user and (b"'" in names or (b"'" in body and not body.endswith(b"'")))):
        return _spaced(line)
    return b"%b%b%b" % (_spaced(body), separator, _spaced(names))


def _node_of(name: bytes) -> bytes:
    """Return ``node=NAME `` with nothing in the name that ends it."""
    return b"node=%b " % _spaced(name).replace(b"\t", b" ").replace(b" ", b"?")


def _hex(content: bytes) -> bytes:
    return content.hex().upper().encode("ascii")


class AuditText:
    """Renders events as audit text; keeps one prepared namespace part per distinct set."""

    def __init__(self, host: HostFacts, around: Surroundings | None = None) -> None:
        self._host = host
        self._around = Surroundings(host) if around is None else around
        self._cgroups = self._around.cgroups
        self._where = Whereabouts(host, self._around)
        self._builder = NativeBuilder(host, around=self._around)
        self._namespaces = Recent(SETS, KEPT)
        self._homes: dict[int, tuple[Home, bytes]] = {}
        self._insides: dict[int, tuple[Inside, bytes]] = {}

    def render(self, event: Event) -> bytes:
        """Return all lines of one event, each with its newline."""
        if event.loss is not None:
            return self._own(event, _LOST, _lost(event.loss))
        if event.notice is not None:
            return self._own(event, _TOLD, _notice(event.notice))
        if event.told is not None:
            return self._fact(event, event.told)
        if (bare := textlines.bare(event)) is not None:
            return bare
        records = event.records
        lines = [prefix_of(record.type) + record.text for record in records]
        joined = b"".join(lines)
        context, doubt = attribute(event)
        ours = [
            self._ns_info(event, context, doubt),
            *[
                _CONTAINER_ID % (event.stamp, number, chains.encode("ascii"))
                for number, chains in contid.container_ids(event, context)
            ],
            *self._inside(event, context),
            *self._beside(event, context),
        ]
        if joined.translate(_SPACED) != joined or not joined.isascii():
            ours += self._defuse(event, lines)
        node = _node_of(event.node) if event.node else b""
        if event.node not in node:
            ours.append(_NOTICE % event.stamp + b' node_hex="%b"' % _hex(event.node))
        place = place_of(records)
        lines[place:place] = ours
        if node:
            lines = [node + line for line in lines]
        lines.append(b"")
        return b"\n".join(lines)

    def _ns_info(self, event: Event, context: Context | None, doubt: str) -> bytes:
        parts = [_NS_INFO % event.stamp]
        if event.recalled is not None:
            doubt = self._recalled(event.recalled, parts)
        elif context is None:
            # Where there is a context, it is that of a task that did not act.
            parts.append(b'context="none"' if event.context is None else b'context="kernel" subject="no"')
        else:
            namespaces, missing = self._namespaces_of(context, self._host)
            doubt = doubt or missing
            pids = ",".join([f"{level.ns}:{level.pid}" for level in context.levels])
            parts.append(
                b'context="kernel" %b pid="%d" tid="%d" pids="%b" start="%d" cgroup_id="%d"'
                % (
                    namespaces,
                    context.pid,
                    context.tid,
                    pids.encode("ascii"),
                    context.start,
                    context.cgroup_id,
                )
            )
            if (home := self._cgroups.of(context.cgroup_id)) is not None:
                if home.inquiry.wants and not event.self_caused:
                    self._cgroups.ask(home.inquiry)
                home = home.seen_by(context.inums, self._host.initial)
                doubt = doubt or home.reason
                parts.append(self._home_of(context.cgroup_id, home))
        if event.complete is not None:
            parts.append(b'complete="yes"' if event.complete else b'complete="no"')
        if event.part != 1:
            parts.append(b'part="%d"' % event.part)
        if event.self_caused:
            parts.append(b'self_caused="yes"')
        cut = [str(number) for number, record in enumerate(event.records, start=1) if record.truncated]
        if cut:
            parts.append(b"truncated=" + quoted(",".join(cut)))
        if reason := reason_of(event, doubt):
            parts.append(b"reason=" + quoted(reason))
        return b" ".join(parts)

    def _recalled(self, recalled: Recalled, parts: list[bytes]) -> str:
        """Add what a journal has kept of the context; returns what is missing of it."""
        namespaces, missing = self._namespaces_of(recalled, recalled.host)
        boot = recalled.host.boot_id.encode("ascii")
        parts.append(
            b'context="journal" boot_id="%b" %b cgroup_id="%d"' % (boot, namespaces, recalled.cgroup_id)
        )
        if recalled.cgroup_path:
            home = home_of(recalled.cgroup_id, recalled.cgroup_path, recalled.cgroup_said)
            home = home.seen_by(recalled.inums, recalled.host.initial)
            missing = missing or home.reason
            parts.append(_home(home))
        return left_doubt(recalled.flags) or missing

    def _namespaces_of(self, context: Context | Recalled, host: HostFacts) -> tuple[bytes, str]:
        """Return the prepared part for the context's namespaces, and which could not be read."""
        now = 0 if isinstance(context, Recalled) else context.time
        known: tuple[bytes, str] | None = self._namespaces.get(context.key, now)
        if known is None:
            known = _namespace_part(context, host)
            self._namespaces.put(context.key, known, now)
        return known

    def _home_of(self, ident: int, home: Home) -> bytes:
        """Return the prepared part for a cgroup. What is known of it changes with the object."""
        known = self._homes.get(ident)
        if known is None or known[0] is not home:
            if len(self._homes) >= _HOMES:
                del self._homes[next(iter(self._homes))]
            known = self._homes[ident] = (home, _home(home))
        return known[1]

    def _inside(self, event: Event, context: Context | None) -> list[bytes]:
        """Return a line with who the subject is inside of his user namespace, where that is not the initial one."""
        inside = None if context is None else self._builder.inside(event, context)
        if inside is None:
            return []
        known = self._insides.get(id(inside))  # it is the same object for the same user of the same namespace
        if known is None or known[0] is not inside:
            if len(self._insides) >= _INSIDES:
                del self._insides[next(iter(self._insides))]
            parts = b" ".join(flat({"subject": {"inside": inside}}))
            known = self._insides[id(inside)] = (inside, parts)
        return [b"%b %b" % (_NS_INFO_MORE % event.stamp, known[1])]

    def _beside(self, event: Event, context: Context | None) -> list[bytes]:
        """Return lines for a packet, for what the call changed or made, whose namespaces the task has, and targets."""
        about = None if event.beside is None else event.beside.packet
        lines: list[list[bytes]] = []
        if about is not None:
            lines.append([_NS_INFO_MORE % event.stamp, *flat({"packet": self._where.packets.of(about)})])
        if context is None:
            return [b" ".join(parts) for parts in lines]
        members: dict[str, object] = {}
        namespaces = self._where.with_others({}, context, self._where.home_of(context))
        if event.beside is not None:
            namespaces = beside.with_change(namespaces, event.beside, self._where)
            beside.enter(members, event.beside, context, event.records, self._where)
        targets = members.pop("targets", [])
        if namespaces or members:
            lines.append([_NS_CHANGE % event.stamp, *flat({"namespaces": namespaces, **members})])
        if isinstance(targets, list):
            lines += [[_NS_INFO_MORE % event.stamp, *flat({"target": target})] for target in targets]
        return [b" ".join(parts) for parts in lines]

    def _fact(self, event: Event, fact: Told) -> bytes:
        """Return the line of an event of our own about namespaces or a refused message, and its CONTAINER_ID's.

        Serial 0 ties no two lines together, since others may be of the same millisecond: the uid does.
        """
        native = self._builder.build(event)
        members: dict[str, object] = {
            name: value for name, value in native.items() if name not in _NOT_IN_LINES
        }
        op: list[bytes] = []
        if isinstance(fact, ContainerOp):
            fields = contid.op_fields(fact)
            op = [told(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()]
            said = native["container_op"]
            members["container_op"] = {
                name: said[name] for name in ("orchestrator", "engine") if name in said
            }
        head = b"type=%b msg=audit(%b):" % (
            text_name_of(_NUMBERS[type_of(fact)]).encode("ascii"),
            event.stamp,
        )
        uid = told(b"event_uid", native["uid"].encode("ascii"))
        line = b" ".join([head, uid, *op, *flat(members)]) + b"\n"
        if chain := contid.chain_of(fact):
            chains = contid.joined((chain,)).encode("ascii")
            line += _OWN_CONTAINER_ID % (event.stamp, uid, chains) + b"\n"
        return line

    def _own(self, event: Event, prefix: bytes, facts: dict[str, str]) -> bytes:
        facts = {"event_uid": f"{self._host.boot_id}/{event.own_id}", **facts}
        said = b" ".join(b"%b=%b" % (name.encode("ascii"), quoted(fact)) for name, fact in facts.items())
        return prefix % event.stamp + said + b"\n"

    @staticmethod
    def _defuse(event: Event, lines: list[bytes]) -> list[bytes]:
        """Replace control bytes in ``lines``; return lines with the original bytes of each such record."""
        notices = []
        from_log = event.complete is None  # the kernel itself writes no names behind a separator
        for index, record in enumerate(event.records):
            line = lines[index]
            safe = _enriched(line, user=is_user(record.type)) if from_log else _spaced(line)
            if safe != line:
                lines[index] = safe
                notices += [
                    _NOTICE % event.stamp
                    + b' type="%d" place="%d" offset="%d" text_hex="%b"'
                    % (record.type, index + 1, offset, _hex(record.text[offset : offset + _PIECE]))
                    for offset in range(0, len(record.text), _PIECE)
                ]
        return notices


def _lost(loss: Loss) -> dict[str, str]:
    facts = {"cause": loss.cause, "stage": loss.stage, loss.unit: str(loss.lost)}
    if loss.first is not None:
        facts["first"] = str(loss.first)
    if loss.last is not None:
        facts["last"] = str(loss.last)
    if loss.types:
        facts["types"] = ",".join(f"{name_of(number)}:{times}" for number, times in loss.types)
    if loss.sink:
        facts["sink"] = loss.sink
    return facts


def _notice(notice: Notice) -> dict[str, str]:
    facts = {
        name: str(value)
        for name, value in notice._asdict().items()
        if value is not None and value not in ("", ())
    }
    if notice.settings:
        facts["settings"] = ",".join(notice.settings)
    return facts


def _home(home: Home) -> bytes:
    """Return where the task is. A path or a name is somebody's choice: it is in hex where it could end the value."""
    parts = [b'where="%b"' % home.where.encode("ascii"), told(b"cgroup_path", home.path)]
    container = home.container
    if container is not None:
        pod = container.get("pod")
        facts = {
            "container": container["id"],
            "runtime": container.get("runtime", ""),
            "pod": pod["uid"] if pod else "",
        }
        parts += [b"%b=%b" % (name.encode("ascii"), quoted(fact)) for name, fact in facts.items() if fact]
        said = {
            b"container_name": container.get("name", ""),
            b"container_image": container.get("image", ""),
            b"pod_name": pod.get("name", "") if pod else "",
            b"pod_namespace": pod.get("namespace", "") if pod else "",
        }
        for name, text in said.items():
            value = text.encode("utf-8", "replace")
            if 0 < len(value) <= _TOLD_MAX:
                parts.append(told(name, value))
    return b" ".join(parts)


def _namespace_part(context: Context | Recalled, host: HostFacts) -> tuple[bytes, str]:
    """Return what is the same for every event of a namespace set, and the words for what was not read.

    ``ns_dev=... ns_mnt=... ns_host="..."``; a kind that has no initial namespace either is not missing.
    """
    parts = [f'ns_dev="{host.ns_dev}"'] if host.ns_dev else []
    initial = []
    missing = []
    for kind, inum, ident, first in zip(KINDS, context.inums, context.ids, host.initial, strict=True):
        if inum:
            parts.append(f'ns_{kind}="{inum}"')
            if ident:
                parts.append(f'ns_{kind}_id="{ident}"')
            if inum == first:
                initial.append(kind)
        elif first:
            missing.append(kind)
    parts.append(f'ns_host="{",".join(initial)}"')
    return " ".join(parts).encode("ascii"), not_read(missing)
