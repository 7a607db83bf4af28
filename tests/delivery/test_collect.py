# SPDX-License-Identifier: Apache-2.0
"""Many hosts' events from a real stream into Parquet: each once, whatever is killed, and found by DuckDB."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import nats
import pytest

from tests.delivery.natsservers import NatsServers
from tests.unit.sample_native import in_pod

HOSTS = 20
MANY, FEW = 100_000, 4_000
PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"


def body(number: int, host: str) -> bytes:
    event: dict[str, Any] = in_pod()
    event["time"] = f"2026-03-01T12:{number // 60_000:02}:{number // 1000 % 60:02}.{number % 1000:03}Z"
    event["uid"] = f"{event['host']['boot_id']}/1772366400.000:{number}"
    event["host"]["machine_id"] = host
    event["contid"] = ["4711"] if number % 10 == 0 else ["1", "2"]
    event["container"]["id"] = "ab" * 32 if number % 10 == 1 else "cd" * 32
    return json.dumps(event, separators=(",", ":")).encode()


def publish(address: str, messages: list[tuple[str, bytes]]) -> None:
    async def work() -> None:
        client = await nats.connect([f"nats://{each}" for each in address.split(",")])
        stream = client.jetstream()
        for number, (host, data) in enumerate(messages, start=1):
            if number % 500:
                await client.publish(f"audit.events.{host}", data)
            else:
                await stream.publish(f"audit.events.{host}", data)
        await client.flush()
        await client.close()

    asyncio.run(work())


def collector(address: str, directory: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "enricher", "collect", str(directory), "--servers", address, *more]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def collect(address: str, directory: Path, *more: str) -> str:
    with collector(address, directory, "--until-idle", *more) as process:
        said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said
    return said


def ask(directory: Path, query: str) -> list[Any]:
    with duckdb.connect() as db:
        found: list[Any] = db.execute(query.replace("/srv/audit", str(directory))).fetchall()
    return found


def counts(directory: Path) -> tuple[int, int]:
    ((rows, different),) = ask(
        directory,
        "SELECT count(*), count(DISTINCT (host, uid)) FROM"
        " read_parquet('/srv/audit/day=*/host=*/*.parquet', hive_types_autocast = false)",
    )
    return rows, different


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[NatsServers]:
    made = NatsServers(tmp_path / "nats")
    try:
        made.start()
        made.make_stream()
        yield made
    finally:
        made.stop()


def spread(count: int) -> list[tuple[str, bytes]]:
    return [(f"host{number % HOSTS}", body(number, f"host{number % HOSTS}")) for number in range(count)]


@pytest.mark.timeout(1800)
@pytest.mark.grows
def test_each_event_is_there_once_through_kills(servers: NatsServers, tmp_path: Path, full: bool) -> None:  # noqa: FBT001
    count = MANY if full else FEW
    chance = random.Random(10)  # noqa: S311 - the same kills each time
    directory = tmp_path / "out"
    publish(servers.address, spread(count))
    kills = 0
    for _ in range(12 if full else 4):
        process = collector(servers.address, directory, "--batch-events", str(count // 8), "--until-idle")
        assert process.stderr is not None
        for _ in range(chance.randrange(1, 3)):  # a batch or two, then at any moment of the next
            process.stderr.readline()
        time.sleep(chance.random() * 0.3)  # which moment is what is being tried
        kills += process.poll() is None
        process.kill()
        process.communicate()
    servers.restart("n1")
    publish(
        servers.address, spread(count // 10)
    )  # a spool that was sent again, too late for the stream's window
    said = collect(servers.address, directory, "--batch-events", str(count // 8))
    assert counts(directory) == (count, count), said
    assert f", {count // 10} duplicates" in said
    assert kills
    assert list((directory / ".collect" / "lane-0-of-1.new").iterdir()) == []


def test_a_host_cannot_hide_anothers_event(servers: NatsServers, tmp_path: Path) -> None:
    publish(servers.address, [("evil", body(1, "good")), ("good", body(1, "good"))])
    collect(servers.address, tmp_path / "out")
    found = ask(tmp_path / "out", "SELECT host FROM '/srv/audit/day=*/host=*/*.parquet' ORDER BY host")
    assert found == [("evil",), ("good",)]


def test_what_is_no_event_is_rejected_and_the_rest_is_written(servers: NatsServers, tmp_path: Path) -> None:
    bad = [
        b"",
        b"{",
        b"\xff",
        b'{"a":1}\n',
        b'{"uid":"x","time":"never"}',
        b"[1]",
        b'{"uid":"x\x01"}',
        b"null",
    ]
    publish(servers.address, [*(("one", each) for each in bad), ("one", body(1, "one"))])
    said = collect(servers.address, tmp_path / "out")
    assert f"{len(bad)} rejected" in said
    assert counts(tmp_path / "out") == (1, 1)
    lines = (tmp_path / "out" / ".collect" / "lane-0-of-1.rejected").read_text().splitlines()
    assert len(lines) == len(bad)


def test_lanes_share_the_hosts_and_one_has_one_collector(servers: NatsServers, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    publish(servers.address, spread(400))
    for lane in ("0/2", "1/2"):
        collect(servers.address, directory, "--lane", lane)
    assert counts(directory) == (400, 400)
    with collector(servers.address, directory, "--lane", "0/3") as process:
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "divided into 2 lanes" in said


def test_files_are_in_the_order_of_time_and_late_events_are_counted(
    servers: NatsServers, tmp_path: Path
) -> None:
    directory = tmp_path / "out"
    publish(servers.address, [("one", body(number, "one")) for number in (90_000, 89_000, 89_500)])
    collect(servers.address, directory)
    publish(servers.address, [("one", body(number, "one")) for number in (20, 10, 80_000)])
    said = collect(servers.address, directory)
    assert " 2 late" in said
    for path in directory.glob("day=*/host=*/*.parquet"):
        times = ask(directory, f"SELECT time FROM '{path}'")  # noqa: S608 - a path of ours
        assert times == sorted(times)
        assert len(times) == 3


def test_the_queries_of_the_page_find_a_container_across_hosts(servers: NatsServers, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    publish(servers.address, spread(400))
    collect(servers.address, directory)
    container, contid = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(ask(directory, container)) == 40
    assert len(ask(directory, contid)) == 40
    assert len({row[1] for row in ask(directory, contid)}) == 2
