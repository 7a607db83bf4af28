# SPDX-License-Identifier: Apache-2.0
"""A batch of events as Parquet files, one for each day and host, written by DuckDB.

Owns the columns, which events are rejected, and what is a duplicate: the same host, by the subject that it may
publish to and not by what it says of itself, and the same uid. Never decides when a batch is taken: `Lane` does.

An event's time is part of it, so that a duplicate falls into the same day and host. A file's name has the times of its
first and last event (ms since the epoch): only files that overlap a batch are read to find duplicates.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from enricher.errors import OutputFailed
from enricher.sinks.delivery.extras import extra

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enricher.runtime.collect.lane import Lane

_NAME: Final = re.compile(r"([0-9]+)-([0-9]+)-.*\.parquet")

_SHAPE: Final = (
    '{"time":"VARCHAR","uid":"VARCHAR","host":{"name":"VARCHAR","boot_id":"VARCHAR"},"type":"VARCHAR",'
    '"where":"VARCHAR","outcome":"VARCHAR","keys":["VARCHAR"],"contid":["VARCHAR"],'
    '"container":{"id":"VARCHAR","name":"VARCHAR","image":"VARCHAR","pod":{"name":"VARCHAR","namespace":"VARCHAR"}},'
    '"subject":{"auid":"BIGINT","uid":"BIGINT","pid":"BIGINT","exe":"VARCHAR","comm":"VARCHAR"}}'
)
COLUMNS: Final = {
    "time": "t",
    "uid": "s.uid",
    "host_name": "s.host.name",
    "boot": "s.host.boot_id",
    "type": "s.type",
    '"where"': 's."where"',
    "container_id": "s.container.id",
    "container_name": "s.container.name",
    "container_image": "s.container.image",
    "pod": "s.container.pod.name",
    "pod_namespace": "s.container.pod.namespace",
    "contid": "s.contid",
    "auid": "s.subject.auid",
    "user_id": "s.subject.uid",
    "pid": "s.subject.pid",
    "exe": "s.subject.exe",
    "comm": "s.subject.comm",
    "outcome": "s.outcome",
    "keys": "s.keys",
    "event": "event",
}
"""Each column and what it is of; ``day`` and ``host`` are in the path."""

_READ: Final = """
CREATE OR REPLACE TEMP TABLE batch AS
WITH raw AS (
    SELECT seq, host, event, CASE WHEN json_valid(event) THEN json_transform(event, '{shape}') END AS s
    FROM read_csv('{path}', delim='\x01', quote='', escape='', header=false, auto_detect=false, max_line_size=33554432,
        buffer_size=134217728, columns={{'seq':'BIGINT','host':'VARCHAR','event':'VARCHAR'}})
), timed AS (SELECT *, TRY_CAST(s.time AS TIMESTAMP) AS t FROM raw)
SELECT *, coalesce(t >= TIMESTAMP '1970-01-01' AND t < TIMESTAMP '2200-01-01' AND s.uid <> '', false) AS good
FROM timed
"""


class Row(NamedTuple):
    """One message: its sequence in the stream, the host of its subject, and its body."""

    seq: int
    host: str
    body: bytes


class Written(NamedTuple):
    """What became of a batch: files as `Position` has them, and counts. `newest` is of the newest event, in ms."""

    files: list[tuple[str, str]]
    written: int
    duplicates: int
    late: int
    newest: int
    rejected: list[tuple[Row, str]]


class ParquetWriter:
    """Writes batches for one lane. `memory` is DuckDB's limit, such as 1GB. Raises UsageError without DuckDB."""

    def __init__(self, lane: Lane, memory: str, lateness: float) -> None:
        self._error = extra("duckdb", "collect").Error
        self._lane = lane
        self._late = int(lateness * 1000)
        self._db: Any = extra("duckdb", "collect").connect(
            config={"threads": 1, "memory_limit": memory, "autoinstall_known_extensions": False}
        )
        self._db.execute(f"SET temp_directory = '{_quoted(lane.new)}'")
        self._db.execute("SET partitioned_write_max_open_files = 4096")
        self._db.execute("SET enable_progress_bar = false")

    def write(self, rows: Sequence[Row]) -> Written:
        """Write the files of a batch under the lane's ``new``. Raises OutputFailed."""
        try:
            return self._write(rows)
        except (OSError, self._error) as error:
            raise OutputFailed(
                f"{self._lane.directory}: {str(error)[:300]}", "nothing of this batch was taken"
            ) from error

    def _write(self, rows: Sequence[Row]) -> Written:
        rejected = self._read(rows)
        new, db = self._lane.new, self._db
        duplicates = self._drop_duplicates()
        newest = self._lane.position.newest
        late, written, newest_here = db.execute(
            "SELECT count(*) FILTER (epoch_ms(t) < ?), count(*), coalesce(max(epoch_ms(t)), 0) FROM batch",
            [newest - self._late],
        ).fetchone()
        chosen = ", ".join(f"{what} AS {name}" for name, what in COLUMNS.items())
        db.execute(
            f"COPY (SELECT {chosen}, CAST(t AS DATE) AS day, host FROM batch ORDER BY host, t, seq)"  # noqa: S608
            f" TO '{_quoted(new / 'out')}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day, host))"
        )
        return Written(self._files(), written, duplicates, late, max(newest, newest_here), rejected)

    def _read(self, rows: Sequence[Row]) -> list[tuple[Row, str]]:
        """Fill the table with what can be an event, and return the rest."""
        rejected = []
        lines = []
        for row in rows:
            body = row.body
            if b"\n" in body or b"\r" in body or b"\x01" in body or b"\0" in body:
                rejected.append((row, "it has control characters that no event on one line has"))
            else:
                lines.append(b"%d\x01%b\x01%b\n" % (row.seq, row.host.encode(), body))
        text = b"".join(lines)
        try:
            text.decode()
        except UnicodeDecodeError:
            lines, more = _utf8(lines)
            by_seq = {row.seq: row for row in rows}
            rejected += [(by_seq[seq], "it is not UTF-8") for seq in more]
            text = b"".join(lines)
        path = self._lane.new / "batch"
        path.write_bytes(text)
        self._db.execute(_READ.format(path=_quoted(path), shape=_SHAPE))
        path.unlink()
        bad = {seq for (seq,) in self._db.execute("SELECT seq FROM batch WHERE NOT good").fetchall()}
        if bad:
            self._db.execute("DELETE FROM batch WHERE NOT good")
            why = "it is no JSON, or has no time or uid as an event has"
            rejected += [(row, why) for row in rows if row.seq in bad]
        return rejected

    def _drop_duplicates(self) -> int:
        """Remove what the batch has twice, and what is in files already."""
        (before,) = self._db.execute("SELECT count(*) FROM batch").fetchone()
        self._db.execute(
            "DELETE FROM batch WHERE seq IN (SELECT seq FROM (SELECT seq, row_number() OVER"
            " (PARTITION BY host, s.uid, t ORDER BY seq) AS n FROM batch) WHERE n > 1)"
        )
        for day, host, first, last in self._db.execute(
            "SELECT CAST(CAST(t AS DATE) AS VARCHAR), host, min(epoch_ms(t)), max(epoch_ms(t)) FROM batch GROUP BY 1, 2"
        ).fetchall():
            files = self._overlapping(day, host, first, last)
            if files:
                self._db.execute(
                    "DELETE FROM batch WHERE host = ? AND (s.uid, t) IN"
                    " (SELECT (uid, time) FROM read_parquet(?, hive_partitioning = false))",
                    [host, files],
                )
        (after,) = self._db.execute("SELECT count(*) FROM batch").fetchone()
        return int(before) - int(after)

    def _overlapping(self, day: str, host: str, first: int, last: int) -> list[str]:
        place = self._lane.directory / f"day={day}" / f"host={host}"
        if not place.is_dir():
            return []
        return [
            str(each)
            for each in place.iterdir()
            if (found := _NAME.fullmatch(each.name)) and int(found[1]) <= last and int(found[2]) >= first
        ]

    def _files(self) -> list[tuple[str, str]]:
        """Return what was written, with a name that has the times that are in it."""
        out, lane = self._lane.new / "out", self._lane
        found = []
        times = {
            (day, host): (first, last)
            for day, host, first, last in self._db.execute(
                "SELECT CAST(CAST(t AS DATE) AS VARCHAR), host, min(epoch_ms(t)), max(epoch_ms(t)) FROM batch"
                " GROUP BY 1, 2"
            ).fetchall()
        }
        for number, path in enumerate(sorted(out.rglob("*.parquet"))):
            day, host = (part.partition("=")[2] for part in path.parent.parts[-2:])
            first, last = times[day, host]
            name = f"{first}-{last}-{lane.name}-{lane.position.batch + 1}-{number}.parquet"
            found.append((str(path.relative_to(lane.new)), f"day={day}/host={host}/{name}"))
        return found

    def close(self) -> None:
        """Let DuckDB go."""
        self._db.close()


def _utf8(lines: Sequence[bytes]) -> tuple[list[bytes], list[int]]:
    good, bad = [], []
    for line in lines:
        try:
            line.decode()
        except UnicodeDecodeError:
            bad.append(int(line.partition(b"\x01")[0]))
        else:
            good.append(line)
    return good, bad


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
