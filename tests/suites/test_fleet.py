# SPDX-License-Identifier: Apache-2.0
"""Two hosts, one stream: what each has of a container and of an identifier is found in one place by the page's queries.

Both guests have no network but one port, which leads to a nats-server on this machine's loopback. Users and stream are
made as docs/fleet.md says, and each host may publish as itself alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats
import pytest

from enricher.cli.main import main
from tests.delivery.natsservers import NatsServers
from tests.delivery.test_collect import PAGE, ask, collect
from tests.suites.contid_bench import contids, of_true, settled
from tests.suites.staging import COMMAND, SHARE, installed, stage
from tests.vm.qemu import FORWARD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suites.test_metadata import Bench

pytestmark = [
    pytest.mark.vm,
    pytest.mark.full,
    pytest.mark.timeout(1500),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two guests take two cores"),
]

HOSTS = {"6.1": "11111111111111111111111111111111", "6.12": "22222222222222222222222222222222"}
"""By kernel, the machine id."""
CONTAINER = "c0ffee" + "0123456789abcdef" * 3 + "0123456789"
"""One that is on both hosts, as after a checkpoint here and a restore there."""
CONTID = "4711"
PORT = 4222
PASSWORD = "/etc/audit-enricher/fleet.password"  # noqa: S105 - where it is
PACKAGES = "/usr/local/lib/python3.11/dist-packages"
ROUNDS = 20


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every suite has in its guest, and nats-py, which Debian 12 has no package of."""
    made = stage(tmp_path_factory.mktemp("share"))
    shutil.copytree(Path(nats.__file__).parent, made / "nats", ignore=shutil.ignore_patterns("__pycache__"))
    return made


@pytest.fixture
def users(tmp_path: Path) -> Path:
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{each}\n" for each in HOSTS.values()))
    assert main(["fleet", "users", str(tmp_path / "users"), "--hosts", str(hosts)]) == 0
    return tmp_path / "users"


@pytest.fixture
def servers(tmp_path: Path, users: Path) -> Iterator[NatsServers]:
    include = os.path.relpath(users / "users.conf", tmp_path / "s" / "n1")
    made = NatsServers(tmp_path / "s", more=f'authorization {{ include "{include}" }}\n')
    try:
        made.start()
        words = [
            "fleet",
            "setup",
            "nats",
            "--servers",
            made.address,
            "--replicas",
            "1",
            *login(users, "setup"),
        ]
        assert main(words) == 0
        yield made
    finally:
        made.stop()


def login(users: Path, name: str) -> list[str]:
    return ["--username", name, "--password-file", str(users / f"{name}.password")]


@contextmanager
def host(slot: str, share: Path, users: Path, servers: NatsServers) -> Iterator[Bench]:
    """Boot a host whose service publishes to the stream."""
    ident = HOSTS[slot]
    [port] = servers.ports().values()
    settings = (
        f'[sinks.fleet]\ntype = "nats"\naddress = "{FORWARD}:{PORT}"\n'
        f'username = "{ident}"\npassword_file = "{PASSWORD}"\n'
    )
    with installed(slot, share, forward=(PORT, port)) as guest:
        guest.join_network()
        guest.run(["sh", "-c", f"mkdir -p {PACKAGES} && cp -r {SHARE}/nats {PACKAGES}/"], check=True)
        guest.put("/etc/machine-id", f"{ident}\n".encode(), 0o444)
        guest.put(PASSWORD, (users / f"{ident}.password").read_bytes(), 0o600)
        with contids(guest, settings) as bench:
            yield bench


def acts(bench: Bench) -> list[dict[str, Any]]:
    """Do what is looked for later, and something else; return all events that this host has itself."""
    settled(bench)
    bench.sh(f"systemd-run --quiet --scope --unit=docker-{CONTAINER}.scope /bin/true moved")
    bench.sh(f"{COMMAND} exec --contid {CONTID} -- /bin/true numbered")
    bench.sh("/bin/true neither")
    events = settled(bench)
    [moved], [numbered], [neither] = (of_true(events, tag) for tag in ("moved", "numbered", "neither"))
    assert moved["container"]["id"] == CONTAINER
    assert numbered["contid"] == [CONTID]
    assert "container" not in neither
    return events


def found(directory: Path, query: str) -> list[tuple[str, str]]:
    """Return host and uid of what a query of the page finds, in its order."""
    rows = ask(directory, query)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    return [(row[1], json.loads(row[-1])["uid"]) for row in rows]


def test_one_containers_and_one_identifiers_events_across_two_hosts(
    share: Path, users: Path, servers: NatsServers, tmp_path: Path
) -> None:
    own: dict[str, list[dict[str, Any]]] = {}
    out = tmp_path / "out"
    everything = "SELECT time, host, event FROM '/srv/audit/day=*/host=*/*.parquet' ORDER BY time"
    with ExitStack() as stack:
        benches = {HOSTS[slot]: stack.enter_context(host(slot, share, users, servers)) for slot in HOSTS}
        for ident, bench in benches.items():
            own[ident] = acts(bench)
        wanted = {(ident, event["uid"]) for ident, events in own.items() for event in events}
        # What is on its way is waited for by collecting: each run goes on from the one before.
        for _ in range(ROUNDS):
            collect(servers.address, out, *login(users, "collect"))
            if wanted <= set(found(out, everything)):
                break
        told = {ident: bench.status()["sinks"] for ident, bench in benches.items()}
    there = found(out, everything)
    assert wanted <= set(there), told
    assert len(there) == len(set(there))
    assert {ident for ident, _ in there} == set(HOSTS.values())

    container, contid = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    container, replaced = re.subn(r"(?<=container_id = ')\w+", CONTAINER, container)
    assert replaced == 1
    assert f"'{CONTID}'" in contid
    for query, asked in (
        (container, lambda event: event.get("container", {}).get("id") == CONTAINER),
        (contid, lambda event: CONTID in event.get("contid", [])),
    ):
        expected = {
            (ident, event["uid"]) for ident, events in own.items() for event in events if asked(event)
        }
        assert {ident for ident, _ in expected} == set(HOSTS.values())
        assert set(found(out, query)) == expected
