# SPDX-License-Identifier: Apache-2.0
"""The demo's last part, where it is asked for: the guest's events go to a real receiver on this machine.

Owns the way there: what the guest's run read, its capture, is replayed to a destination as the documentation
configures it, and what the receiver has written itself is compared with the run's own file. Never audits anything,
and never touches a receiver of this machine that is not its own. The receiver listens on the loopback alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from enricher.route.views.table import cut, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from enricher.enrich.shape import NativeEvent

__all__ = ["KNOWN", "Arrived", "show", "verdict"]

_LIMIT: Final = "60s"
_LINES: Final = 4
_SERVERS: Final = 3
_WIDTH: Final = 260
_MEMBERS: Final = ("where", "container", "keys", "subject")
_SUBJECT: Final = ("pid", "comm", "uid")


class Arrived(NamedTuple):
    """What came of a delivery: the receiver's own lines with their uids, and what the program said and how it ended.

    ``where`` is what the receiver keeps them in, ``unit`` what each is there.
    """

    lines: Sequence[tuple[str, bytes]]
    said: str
    code: int
    where: str = "file"
    unit: str = "lines"


def show(  # noqa: PLR0913 - the demo, and what it shows with
    name: str,
    capture: Path,
    events: Sequence[NativeEvent],
    keys: Sequence[str],
    say: Callable[[str], None],
    headline: Callable[[str], None],
) -> list[str]:
    """Deliver the capture's events with these keys to the receiver; returns sentences about what went wrong.

    ``events`` are those of the run's own file. What the receiver wrote stays beside the capture.
    """
    with tempfile.TemporaryDirectory(prefix="demo-sink-") as directory:
        try:
            arrived = KNOWN[name](Path(directory), capture, keys, say, headline)
        except (AssertionError, OSError, pytest.fail.Exception) as error:  # as the tests of delivery fail
            return [f"{name}: {error}"]
    (capture.parent / f"{name}.log").write_bytes(b"".join(line + b"\n" for _, line in arrived.lines))
    wrong, told = verdict(name, events, arrived)
    for line in told:
        say(line)
    return wrong


def verdict(name: str, events: Iterable[NativeEvent], arrived: Arrived) -> tuple[list[str], list[str]]:
    """Compare the file of the run with that of the receiver: what is wrong, and the lines to show."""
    sent = {event["uid"] for event in events}
    there = {uid for uid, _ in arrived.lines}
    where = f"{name}'s {arrived.where}"
    has = f"{len(there)} events in {len(arrived.lines)} {arrived.unit}"
    told = [f"{name}'s own {arrived.where} has {has}; the run's file has {len(sent)}."]
    wrong = []
    if arrived.code:
        wrong.append(f"the delivery ended with {arrived.code}: {arrived.said[-500:]}")
    if missing := sent - there:
        wrong.append(f"{len(missing)} events are not in {where}, as {min(missing)}")
    if foreign := there - sent:
        wrong.append(f"{len(foreign)} events are in {where} that the run did not write, as {min(foreign)}")
    if not missing and not foreign:
        told.append("The two sets of uids are equal: nothing is missing, and nothing else is there.")
    containers = [line for _, line in arrived.lines if b'"where":"container"' in line]
    if not containers:
        wrong.append(f"no event of a container is in {where}")
    else:
        told.append(f"{len(containers)} of its {arrived.unit} are of containers. Some of them, shortened:")
        told += ["  " + _shortened(line) for line in containers[:: -(-len(containers) // _LINES)]]
    return wrong, told


def _shortened(line: bytes) -> str:
    """Return the line's head as it is, where it has one, and the telling members of the JSON behind it."""
    text = line.decode(errors="replace")
    head, brace, body = ("", "", text) if text.startswith("{") else text.partition(" {")
    try:
        whole = json.loads(brace + body)
    except ValueError:  # a part of a long one
        return cut(escape(line.decode(errors="replace")), _WIDTH)
    short = {member: whole[member] for member in _MEMBERS if member in whole}
    if isinstance(subject := short.get("subject"), dict):
        short["subject"] = {member: subject[member] for member in _SUBJECT if member in subject}
    if isinstance(container := short.get("container"), dict):
        short["container"] = {
            member: container[member][:12] for member in ("id", "name") if member in container
        }
    return cut(escape(f"{head} {json.dumps(short, ensure_ascii=False)}".lstrip()), _WIDTH)


def _rsyslog(
    directory: Path,
    capture: Path,
    keys: Sequence[str],
    say: Callable[[str], None],
    headline: Callable[[str], None],
) -> Arrived:
    """RELP with TLS into Debian's rsyslogd, which has the configuration that docs/sinks/relp.md gives."""
    # Here, since the demo without a receiver needs neither what these need.
    from tests.certificates import Authority
    from tests.delivery.rsyslog import Rsyslog, uid_of

    authority = Authority(directory)
    client = authority.sign("client", "DNS:client.test")
    receiver = Rsyslog("relp.md", directory, authority)
    config = directory / "demo.toml"
    config.write_text(
        f"""\
[sinks.rsyslog]
type = "relp"
address = "127.0.0.1:{receiver.port[20514]}"
tls = true
tls_ca_file = "{authority.file}"
tls_cert_file = "{client.cert}"
tls_key_file = "{client.key}"
max_length = 65536
{_filter(keys)}"""
    )
    headline(
        "The same events to a receiver: rsyslog on this machine, over RELP with TLS.\n"
        "It has the configuration of docs/sinks/relp.md; the events are those of the run's capture"
    )
    say(f"$ rsyslogd -n -f rsyslog.conf\n$ cat demo.toml\n{config.read_text().rstrip()}")
    say(f"$ audit-enricher replay {capture.name} --sinks --config demo.toml")
    receiver.start()
    try:
        done = _replay(capture, config, directory / "state")
    finally:
        receiver.stop()
    say(done.stderr.rstrip().rpartition("\n")[2])  # the figures; the account was shown in the guest
    lines = [(uid, line) for line in receiver.lines() if (uid := uid_of(line)) is not None]
    return Arrived(lines, done.stderr, done.returncode)


def _nats(
    directory: Path,
    capture: Path,
    keys: Sequence[str],
    say: Callable[[str], None],
    headline: Callable[[str], None],
) -> Arrived:
    """A stream in three copies on Debian's nats-server, with the configuration that docs/sinks/nats.md gives."""
    from tests.delivery.natsservers import STREAM, NatsServers

    servers = NatsServers(directory / "nats", _SERVERS)
    config = directory / "demo.toml"
    config.write_text(f'[sinks.fleet]\ntype = "nats"\naddress = "{servers.address}"\n{_filter(keys)}')
    headline(
        "The same events to a receiver: NATS JetStream, a cluster of three servers on this machine.\n"
        "Its stream drops what it has already: the capture is delivered twice, the second time without the leader"
    )
    say(f"$ cat demo.toml\n{config.read_text().rstrip()}")
    try:
        servers.start()
        servers.make_stream()

        def deliver(number: int) -> subprocess.CompletedProcess[str]:
            say(f"$ audit-enricher replay {capture.name} --sinks --config demo.toml")
            done = _replay(capture, config, directory / f"state{number}")
            say(done.stderr.rstrip().rpartition("\n")[2])
            return done

        done = deliver(1)
        if not done.returncode:
            leader = servers.leader()
            say(f"$ kill -9 $(pidof {leader})  # it leads the stream {STREAM}")
            servers.kill(leader)
            done = deliver(2)
        lines = [(uid, body) for uid, _, body in servers.messages()]
    finally:
        servers.stop()
    said, code = done.stderr, done.returncode
    if len({uid for uid, _ in lines}) < len(lines):
        said, code = f"{said}\nthe stream has an event twice", code or 1
    return Arrived(lines, said, code, f"stream {STREAM}", "messages")


def _filter(keys: Sequence[str]) -> str:
    quoted = ", ".join(f'"{key}"' for key in keys)
    return f"filter = 'key in ({quoted})'\n" if keys else ""


def _replay(capture: Path, config: Path, state: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "enricher", "replay", str(capture), "--sinks", "--config", str(config)]
    # Without what is said to the tests in names that the program takes for settings of its own.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AUDIT_ENRICHER_")}
    environment = {**ours, "STATE_DIRECTORY": str(state)}
    return subprocess.run(  # noqa: S603 - our own words
        [*argv, "--for", _LIMIT], capture_output=True, text=True, check=False, env=environment
    )


KNOWN: Final = {"rsyslog": _rsyslog, "nats": _nats}
"""By the name that `make demo SINK=` takes."""
