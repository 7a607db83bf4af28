# SPDX-License-Identifier: Apache-2.0
"""What ``collect`` costs for an event: its message from a real nats-server, and its row in Parquet.

Processor time of this process, so that other work on the machine does not count:

    python -m tests.bench.bench_collect [EVENTS]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from enricher.runtime.collect.lane import Lane, Position
from enricher.runtime.collect.parquet import ParquetWriter, Row
from enricher.runtime.collect.stream import Stream
from enricher.sinks.delivery.jetstream import NatsOptions
from tests.delivery.natsservers import NatsServers
from tests.delivery.test_collect import publish, spread


async def _read(address: str, count: int) -> list[Row]:
    rows: list[Row] = []
    stream = Stream(NatsOptions(address))
    async for found in stream.batches(Position()):
        rows += found.rows
        stream.ended = len(rows) >= count
    return rows


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        servers = NatsServers(Path(name) / "nats")
        try:
            servers.start()
            servers.make_stream()
            publish(servers.address, spread(count))
            begun = time.process_time()
            rows = asyncio.run(_read(servers.address, count))
            read = time.process_time() - begun
        finally:
            servers.stop()
        lane = Lane(Path(name) / "out", 0, 1)
        writer = ParquetWriter(lane, "1024MiB", 60.0)
        begun = time.process_time()
        written = writer.write(rows)
        wrote = time.process_time() - begun
        sizes = sum((lane.new / new).stat().st_size for new, _ in written.files)
        writer.close()
        lane.close()
    assert written.written == count
    bodies = sum(len(row.body) for row in rows)
    print(f"collect: {count} events of {bodies / count:.0f} bytes, {len(written.files)} files")
    print(f"  messages {count / read:9.0f} events/s   {read / count * 1e6:6.1f} us each")
    print(f"  parquet  {count / wrote:9.0f} events/s   {wrote / count * 1e6:6.1f} us each")
    print(
        f"  both     {count / (read + wrote):9.0f} events/s of a core; {sizes / count:.0f} bytes an event in the files"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
