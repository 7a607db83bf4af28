# SPDX-License-Identifier: Apache-2.0
"""`fleet setup` and `fleet users` with a real nats-server: what they make, whom it lets do what, and the example."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.msg import Msg

from enricher.cli.main import main
from enricher.sinks.delivery.jetstream import NatsOptions, NatsSender
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Unreachable
from tests.certificates import Authority
from tests.delivery.natsservers import NatsServers
from tests.delivery.test_collect import body, collect, collector, counts
from tests.lint.tree import ROOT

HOSTS = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210")
EXAMPLE = ROOT / "packaging" / "fleet" / "nats-server.conf"


@contextmanager
def running(directory: Path, count: int = 1, **more: object) -> Iterator[NatsServers]:
    servers = NatsServers(directory, count, **more)  # type: ignore[arg-type]
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


def setup(servers: NatsServers, *words: str) -> int:
    return main(["fleet", "setup", "nats", "--servers", servers.address, *words])


def users(directory: Path) -> Path:
    hosts = directory / "hosts"
    hosts.write_text("".join(f"{host}\n" for host in HOSTS))
    made = directory / "users"
    assert main(["fleet", "users", str(made), "--hosts", str(hosts)]) == 0
    return made


def login(made: Path, user: str) -> tuple[str, ...]:
    return ("--username", user, "--password-file", str(made / f"{user}.password"))


def sender(servers: NatsServers, made: Path, user: str, host: str, **more: object) -> NatsSender:
    password = str(made / f"{user}.password")
    options = NatsOptions(servers.address, username=user, password_file=password, **more)  # type: ignore[arg-type]
    return NatsSender(options, host)


def test_it_is_made_once_and_then_as_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, 3) as servers:
        assert setup(servers, "--dry-run") == 0
        assert "stream AUDIT: would be made: {" in capsys.readouterr().out
        assert setup(servers, "--check") == 16
        assert setup(servers) == 0
        assert "stream AUDIT: made\n" in capsys.readouterr().out
        assert setup(servers) == 0
        assert setup(servers, "--check") == 0
        said = capsys.readouterr()
        assert said.out == "stream AUDIT: as wanted\n" * 2
        assert "the server lets anybody in" in said.err


def test_what_differs_is_left_alone_until_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as servers:
        servers.make_stream(description="ours")
        words = ("--replicas", "1", "--max-age", "2d", "--window", "1h")
        assert setup(servers, *words) == 16
        said = capsys.readouterr()
        assert "left alone without --update: " in said.out
        assert "max_age is 0, wanted is 2d" in said.out
        assert "hint: --update changes it" in said.err
        assert setup(servers, *words, "--update", "--dry-run") == 0
        assert "would be changed: " in capsys.readouterr().out
        assert setup(servers, *words, "--check") == 16
        assert setup(servers, *words, "--update") == 0
        assert setup(servers, *words, "--check") == 0
        info = servers.ask(lambda stream: stream.stream_info("AUDIT"))
        assert (info.config.max_age, info.config.duplicate_window) == (2 * 86_400, 3_600)
        assert info.config.description == "ours"


def test_refusals_have_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path) as servers:
        assert setup(servers) == 16
        assert "hint: a server alone keeps one copy: --replicas 1" in capsys.readouterr().err
        assert setup(servers, "--replicas", "1") == 0
        capsys.readouterr()
        assert setup(servers, "--replicas", "1", "--stream", "OTHER") == 16
        assert "hint: another stream has these subjects" in capsys.readouterr().err
        servers.kill("n1")
        assert setup(servers) == 16
        assert "is it the right port" in capsys.readouterr().err


def test_a_host_may_publish_as_itself_alone_and_read_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = users(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o600}
    one, other = HOSTS
    with running(tmp_path / "s", more='authorization { include "../../users/users.conf" }\n') as servers:
        assert setup(servers, "--replicas", "1") == 16
        assert setup(servers, "--replicas", "1", *login(made, one)) == 16
        assert "permissions violation" in capsys.readouterr().err
        assert setup(servers, "--replicas", "1", *login(made, "setup")) == 0
        own, foreign = sender(servers, made, one, one), sender(servers, made, one, other)
        event = [Message("u/1", 1772366400.0, "X", body(1, one))]
        assert own.send(event) == ALL_TAKEN
        with pytest.raises(Unreachable, match=r"(?i)permissions violation"):
            foreign.send(event)
        own.close()
        foreign.close()
        assert asyncio.run(overheard(servers, made, one)) == []
        collect(servers.address, tmp_path / "out", *login(made, "collect"))
    assert counts(tmp_path / "out") == (1, 1)


def test_collect_says_why_nothing_comes_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    made = users(tmp_path)
    include = 'authorization { include "../../users/users.conf" }\n'
    with running(tmp_path / "s", more=include) as servers:
        for words, said in (
            ((), "Authorization Violation"),
            (login(made, HOSTS[0]), "permissions violation"),
        ):
            with collector(servers.address, tmp_path / "out", *words) as process:
                assert process.stderr is not None
                # A server that refuses closes at once, and what it said before may be lost with that: then it is
                # said at another try.
                read = ""
                while said not in read:
                    read = process.stderr.readline()
                    assert read, "ended by itself"
                process.terminate()
                process.communicate(timeout=30)
            assert process.returncode == 0


async def overheard(servers: NatsServers, made: Path, user: str) -> list[bytes]:
    """Return what this user can read of the stream, or of what is sent to others that read it."""
    found: list[bytes] = []
    refused: list[str] = []

    async def complain(error: Exception) -> None:
        refused.append(str(error))

    async def hear(message: Msg) -> None:
        found.append(message.data)

    password = (made / f"{user}.password").read_text().strip()
    client = await nats.connect(
        f"nats://{servers.address}", user=user, password=password, error_cb=complain, max_reconnect_attempts=0
    )
    for subject in ("audit.events.>", "_COLLECT.>", ">", "$JS.>"):
        await client.subscribe(subject, cb=hear)
    await client.flush()
    with pytest.raises(nats.errors.TimeoutError):
        await client.request("$JS.API.STREAM.MSG.GET.AUDIT", b'{"seq":1}', timeout=0.5)
    await client.flush()  # its answer comes behind what it has to say of that
    await client.close()
    assert len(refused) == 5, refused
    return found


def test_the_example_is_a_configuration_that_servers_take(tmp_path: Path) -> None:
    """As it is, but for where things are: three servers of this test, with their ports and certificates."""
    authority = Authority(tmp_path)
    pair = authority.sign("server", "IP:127.0.0.1")
    made = users(tmp_path)
    places = {"server.pem": pair.cert, "server.key": pair.key, "ca.pem": authority.file}
    text = EXAMPLE.read_text()
    text, files = re.subn(r'"/etc/nats/tls/([a-z.]+)"', lambda found: f'"{places[found[1]]}"', text)
    text, includes = re.subn(r'include "audit/users.conf"', 'include "../../users/users.conf"', text)
    assert (files, includes) == (5, 1)
    with running(tmp_path / "s", 3, example=text) as servers:
        tls = ("--tls", "--tls-ca-file", authority.file)
        assert setup(servers, *tls, *login(made, "setup")) == 0
        one = sender(servers, made, HOSTS[0], HOSTS[0], tls=True, tls_ca_file=authority.file)
        assert one.send([Message("u/1", 1772366400.0, "X", body(1, HOSTS[0]))]) == ALL_TAKEN
        one.close()
        collect(servers.address, tmp_path / "out", *tls, *login(made, "collect"))
    assert counts(tmp_path / "out") == (1, 1)
