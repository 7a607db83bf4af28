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

import re
from typing import TYPE_CHECKING, Final

from enricher.clock import LAST_SECOND, utc_second
from enricher.codec import dumps
from enricher.enrich.native import Gist, NativeBuilder, enrichment_of
from enricher.route.views.fragments import Fragments

if TYPE_CHECKING:
    from enricher.enrich.native import Outcome
    from enricher.enrich.shape import NativeEvent
    from enricher.model import Event
    from enricher.route.views.fragments import Primary

_NONE: Final = b'"records":[],'
_KNOWN: Final = 64
_stamp_form = re.compile(rb"([0-9]{1,10})\.([0-9]{3}):[0-9]+").fullmatch


def render(native: NativeEvent) -> bytes:
    """Return the event as one line of JSON with its newline."""
    return dumps(native) + b"\n"


class NativeJson:
    """Makes lines of events; `builder` makes those that are not of the usual form, and what stands around records."""

    def __init__(self, builder: NativeBuilder) -> None:
        self._builder = builder
        self._fragments = Fragments(builder.decoder)
        self._enrichments: dict[tuple[bool | None, str, bool], bytes] = {}
        self._times: dict[bytes, bytes] = {}
        self._hosts: dict[bytes, tuple[bytes, bytes]] = {}

    def line(self, event: Event) -> bytes:
        """Return what `render` makes of the event that the builder builds."""
        if event.records and not self._builder.raw:
            records = self._fragments.of(event.records, event.stamp)
            primary = self._fragments.primary
            if records is not None and primary is not None and primary.outcome:
                if event.context is None and event.recalled is None and event.beside is None:
                    line = self._of_a_log(event, records, primary)
                else:
                    line = self._around(event, records, primary)
                if line is not None:
                    return line
        return render(self._builder.build(event))

    def _around(self, event: Event, records: bytes, primary: Primary) -> bytes:
        tail = primary.tail
        fields = {"pid": int(primary.pid), "ppid": int(primary.ppid), **tail.fields}
        outcome: Outcome = "success" if primary.outcome == b"success" else "failure"
        native = self._builder.around(event, Gist("SYSCALL", fields, list(tail.key_names), outcome), [])
        line = dumps(native)
        at = line.rindex(_NONE) + len(_NONE) - 2
        return b"%b%b%b\n" % (line[:at], records, line[at:])

    def _of_a_log(self, event: Event, records: bytes, primary: Primary) -> bytes | None:
        """Make the line of an event without a context; None where its stamp is not as the kernel writes it."""
        stamp = event.stamp
        form = _stamp_form(stamp)
        if form is None:
            return None
        second, milliseconds = form.groups()
        time = self._times.get(second)
        if time is None:
            time = self._time(second)
        host = self._hosts.get(event.node)
        if host is None:
            host = self._host(event)
        about = (event.complete, event.reason, event.self_caused)
        enrichment = self._enrichments.get(about)
        if enrichment is None:
            enrichment = self._enrichment(event, about)
        tail = primary.tail
        return b"".join(
            (
                b'{"schema":"audit-enricher/1","time":"',
                time,
                milliseconds,
                b'Z","id":"',
                stamp,
                host[0],
                stamp,
                b'"' if event.part == 1 else b'/%d"' % event.part,
                host[1],
                tail.keys,
                b',"outcome":"',
                primary.outcome,
                b'","subject":{"pid":',
                primary.pid,
                b',"ppid":',
                primary.ppid,
                tail.subject,
                b'},"where":"unknown","records":[',
                records,
                enrichment,
            )
        )

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
