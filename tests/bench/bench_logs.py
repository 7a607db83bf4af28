# SPDX-License-Identifier: Apache-2.0
"""What `replay` makes of an audit.log in a second: plain log to JSON on one core, whole and stage by stage.

    python -m tests.bench.bench_logs [events]

The log is made first, as auditd writes it: 500 000 distinct execs of six records each (there is no EOE in
auditd's files), a thousand for each second of the log's time. No two events are alike; what repeats is
what bench_views says. The whole is the command itself, in a process of its own; the stages are measured in
this process over a tenth of the events, each by what it adds to the ones before, in CPU time, the least
of five runs.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from enricher.cli.replay import NOWHERE
from enricher.correlate.join import EOE
from enricher.correlate.logjoin import LogJoin
from enricher.enrich.native import NativeBuilder
from enricher.route.views.native_json import render
from enricher.sources.audit.types import text_name_of
from enricher.sources.logfile import read_log
from tests.bench.bench_replay import whole
from tests.bench.bench_views import exec_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.model import Event

EVENTS = 500_000
PER_SECOND = 1_000
_SECOND = 1_772_366_400  # of every event that bench_views makes


def make_log(path: Path, events: int) -> int:
    """Write the log; returns how many records it has."""
    records = 0
    with path.open("wb") as file:
        for number in range(1, events + 1):
            before, now = b"audit(%d." % _SECOND, b"audit(%d." % (_SECOND + number // PER_SECOND)
            lines = [
                b"type=%b msg=%b\n" % (text_name_of(each.type).encode(), each.text.replace(before, now, 1))
                for each in exec_event(number).records
                if each.type != EOE
            ]
            file.writelines(lines)
            records += len(lines)
    return records


def spent(path: Path, each: Callable[[list[Event]], object] | None) -> float:
    """CPU seconds for reading alone, or up to what is done with the events."""
    join = LogJoin()
    begin = time.process_time()
    for batch in read_log([str(path)]):
        if each:
            each(join.feed(batch))
    if each:
        each(join.finish())
    return time.process_time() - begin


def stages(path: Path, records: int) -> None:
    """Microseconds a record, stage by stage."""
    build = NativeBuilder(NOWHERE).build
    fd = os.open("/dev/null", os.O_WRONLY)
    steps: dict[str, Callable[[list[Event]], object] | None] = {
        "read and take apart": None,
        "events": lambda _: None,
        "native event": lambda events: [build(event) for event in events],
        "JSON": lambda events: [render(build(event)) for event in events],
        "write": lambda events: os.write(fd, b"".join([render(build(event)) for event in events])),
    }
    before = 0.0
    for name, each in steps.items():
        now = min(spent(path, each) for _ in range(5)) / records * 1e6
        print(f"  {name:24} {now - before:6.2f} us a record, {now:6.2f} with all before it")
        before = now
    os.close(fd)


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "audit.log")
        records = make_log(path, events)
        print(f"{events} events, {records} records, {path.stat().st_size >> 20} MiB of log")
        whole(path, records, "--format=json")
        whole(path, records, "--format=text")
        few = Path(directory, "few.log")
        count = make_log(few, events // 10)
        packed = Path(directory, "few.log.gz")
        with few.open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as file:
            shutil.copyfileobj(plain, file)
        print("a tenth of it, gzip:")
        whole(packed, count, "--format=json")
        print("a tenth of it, stage by stage:")
        stages(few, count)


if __name__ == "__main__":
    main()
