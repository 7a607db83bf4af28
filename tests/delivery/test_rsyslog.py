# SPDX-License-Identifier: Apache-2.0
"""Syslog and RELP into the real rsyslogd, configured as our documentation says: what is sent is what arrives."""

from __future__ import annotations

import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.sinks.delivery.message import ALL_TAKEN, Message, Sender, Unreachable
from enricher.sinks.delivery.relp import RelpOptions, RelpSender
from enricher.sinks.delivery.rfc5424 import LENGTH_MIN
from enricher.sinks.delivery.syslog import SyslogOptions, SyslogSender
from tests.certificates import Authority, Pair
from tests.delivery.rsyslog import SECONDS, Rsyslog, blocks, wait_for

COUNT = 2_000
UDP, TCP, TLS, RELP, RELP_TLS = 10514, 10601, 6514, 2514, 20514
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.sign("client", "DNS:client.test")


def running(page: str, directory: Path, authority: Authority) -> Iterator[Rsyslog]:
    made = Rsyslog(page, directory, authority)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def syslog(tmp_path: Path, authority: Authority) -> Iterator[Rsyslog]:
    yield from running("syslog.md", tmp_path, authority)


@pytest.fixture
def relp(tmp_path: Path, authority: Authority) -> Iterator[Rsyslog]:
    yield from running("relp.md", tmp_path, authority)


def events(count: int = COUNT, first: int = 0) -> list[Message]:
    """Make events of differing lengths, some with several lines."""
    made = []
    for number in range(first, first + count):
        body = b'{"n":%d,"x":"%b"}' % (number, b"\xc3\xa9" * (number % 700))
        if number % 10 == 0:
            body = b"type=SYSCALL msg=audit(1.000:%d): a\ntype=EOE msg=audit(1.000:%d): " % (number, number)
        made.append(Message(f"boot/{number}", 1_700_000_000.0 + number, "SYSCALL", body, number, 2))
    return made


def expected(messages: list[Message]) -> Counter[str]:
    """Return how many lines there have to be for each uid."""
    return Counter({message.uid: message.body.count(b"\n") + 1 for message in messages})


def deliver(sender: Sender, messages: list[Message]) -> None:
    """Do what a courier does: until all are taken, in their order, whatever breaks."""
    waiting = list(messages)
    deadline = time.monotonic() + SECONDS
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} are not taken"
        batch = waiting[: sender.most]
        try:
            receipt = sender.send(batch)
        except Unreachable:
            time.sleep(0.01)
            continue
        assert not receipt.refused
        waiting = [batch[index] for index in receipt.again] + waiting[len(batch) :]


def syslog_sender(receiver: Rsyslog, documented: int, authority: Authority, client: Pair) -> SyslogSender:
    address = f"127.0.0.1:{receiver.port[documented]}"
    if documented != TLS:
        return SyslogSender(SyslogOptions(address, "udp" if documented == UDP else "tcp"))
    return SyslogSender(
        SyslogOptions(
            address, tls_ca_file=authority.file, tls_cert_file=client.cert, tls_key_file=client.key, renew=500
        )
    )


def relp_sender(receiver: Rsyslog, documented: int, authority: Authority, client: Pair) -> RelpSender:
    address = f"127.0.0.1:{receiver.port[documented]}"
    if documented == RELP:
        return RelpSender(RelpOptions(address))
    return RelpSender(
        RelpOptions(
            address,
            tls=True,
            tls_ca_file=authority.file,
            tls_cert_file=client.cert,
            tls_key_file=client.key,
        )
    )


@pytest.mark.parametrize("documented", [TCP, TLS], ids=["tcp", "tls"])
def test_everything_arrives_once_over_a_stream(
    syslog: Rsyslog, authority: Authority, client: Pair, documented: int
) -> None:
    sent = events()
    sender = syslog_sender(syslog, documented, authority, client)
    deliver(sender, sent)
    sender.close()
    assert sender.unsure() == 0
    wait_for(lambda: syslog.uids().total() >= expected(sent).total(), "all lines are written")
    assert syslog.uids() == expected(sent)
    assert sender.renewed == (3 if documented == TLS else 0)


def test_everything_arrives_once_over_udp_that_is_not_in_a_hurry(
    syslog: Rsyslog, authority: Authority, client: Pair
) -> None:
    """Nothing but the receiver's buffer can overflow on loopback, so each batch waits until the last is written."""
    sent = events()
    sender = syslog_sender(syslog, UDP, authority, client)
    for start in range(0, COUNT, sender.most):
        batch = sent[start : start + sender.most]
        so_far = expected(sent[: start + len(batch)]).total()
        assert sender.send(batch) == ALL_TAKEN
        wait_for(lambda: syslog.uids().total() >= so_far, "the batch is written")  # noqa: B023 - called at once
    sender.close()
    assert syslog.uids() == expected(sent)


@pytest.mark.parametrize("documented", [RELP, RELP_TLS], ids=["plain", "tls"])
def test_everything_arrives_once_over_relp_and_is_written_when_it_is_acknowledged(
    relp: Rsyslog, authority: Authority, client: Pair, documented: int
) -> None:
    sent = events()
    sender = relp_sender(relp, documented, authority, client)
    deliver(sender, sent)
    assert relp.uids() == expected(sent)
    sender.close()
    assert (sender.sessions, sender.errors) == (1, 0)


@pytest.mark.parametrize("documented", [RELP, RELP_TLS], ids=["plain", "tls"])
def test_over_relp_a_killed_receiver_costs_nothing(
    relp: Rsyslog, authority: Authority, client: Pair, documented: int
) -> None:
    """It is killed twice while messages are on their way, and there are as many of them as that takes."""
    sent: list[Message] = []
    sender = relp_sender(relp, documented, authority, client)
    survived = threading.Event()

    def send() -> None:
        while len(sent) < COUNT or not survived.is_set():
            more = events(sender.most, len(sent))
            sent.extend(more)
            deliver(sender, more)

    courier = threading.Thread(target=send)
    courier.start()
    for _ in range(2):
        enough = relp.uids().total() + 300
        wait_for(lambda: relp.uids().total() >= enough, "a part is written")  # noqa: B023 - called at once
        relp.kill()
        relp.start()
    survived.set()
    courier.join(SECONDS)
    assert not courier.is_alive()
    sender.close()
    assert expected(sent) - relp.uids() == Counter()
    assert set(relp.uids()) == set(expected(sent))
    assert sender.sessions >= 3


def test_over_tcp_what_a_killed_receiver_lost_is_no_more_than_was_said(
    syslog: Rsyslog, authority: Authority, client: Pair
) -> None:
    sent = events()
    sender = syslog_sender(syslog, TCP, authority, client)
    half = COUNT // 2
    deliver(sender, sent[:half])
    wait_for(lambda: syslog.uids().total() > 0, "something is written")
    syslog.kill()
    with pytest.raises(Unreachable):
        sender.send(sent[half:])
    unsure = sender.unsure()
    syslog.start()
    deliver(sender, sent[half:])
    sender.close()
    wait_for(lambda: sent[-1].uid in syslog.uids(), "the last line is written")
    whole = syslog.uids()
    lost = [message.uid for message in sent if whole[message.uid] < expected([message])[message.uid]]
    assert len(lost) <= unsure
    assert unsure >= half


def test_a_receivers_limit_is_kept_and_parts_are_marked(syslog: Rsyslog) -> None:
    body = "é€" * 3000
    address = f"127.0.0.1:{syslog.port[TCP]}"
    for length in (LENGTH_MIN, 8096, 65_536):
        sender = SyslogSender(SyslogOptions(address, "tcp", max_length=length))
        sender.send([Message(f"boot/{length}", 1.0, "SYSCALL", body.encode(), 1, 1)])
        sender.close()
    wait_for(lambda: syslog.uids()["boot/65536"] == 1, "the last message is written")
    for length in (LENGTH_MIN, 8096, 65_536):
        mine = [line.decode() for line in syslog.lines() if b'uid="boot/%d"' % length in line]
        pieces = [line.partition("] ")[2] for line in mine]
        assert "".join(pieces) == body
        marks = [line.partition(' part="')[2].partition('"')[0] for line in mine]
        assert marks == ([""] if len(mine) == 1 else [f"{n}/{len(mine)}" for n in range(1, len(mine) + 1)])
    assert syslog.uids()["boot/8096"] == 2


def test_an_rsyslog_that_asks_for_a_certificate_gets_nothing_without_one(
    syslog: Rsyslog, authority: Authority
) -> None:
    """With TLS 1.3 our side of the handshake ends before the receiver has refused: what was sent is unsure."""
    sender = SyslogSender(
        SyslogOptions(f"127.0.0.1:{syslog.port[TLS]}", tls_ca_file=authority.file, timeout=SECONDS)
    )
    unsure = 1
    try:
        sender.send(events(1))
        sender.close()
        unsure = sender.unsure()
    except Unreachable:
        pass  # it was quick to refuse
    assert unsure == 1
    assert not syslog.uids()


def test_control_characters_stay_what_they_are(syslog: Rsyslog, authority: Authority, client: Pair) -> None:
    sender = syslog_sender(syslog, TCP, authority, client)
    body = b"a\x1db\tc\r<1>1 - - - - - - x\xff"
    sender.send([Message("boot/1", 1.0, "SYSCALL", body, 1, 1)])
    sender.close()
    wait_for(lambda: bool(syslog.uids()), "it is written")
    (line,) = syslog.lines()
    assert line.endswith(b"] " + body)


def test_our_side_of_the_documentation_is_what_the_senders_take() -> None:
    for page, options in (("syslog.md", SyslogOptions), ("relp.md", RelpOptions)):
        (block,) = blocks(page, "toml")
        (given,) = tomllib.loads(block)["sinks"].values()
        assert given.pop("type") == page.removesuffix(".md")
        options(**given)
