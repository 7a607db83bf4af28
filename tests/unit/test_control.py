# SPDX-License-Identifier: Apache-2.0
"""The control socket's server: it answers, bounds everything, and nothing a client does ends or slows it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.model import ContextFlag, Event, Loss
from enricher.runtime import control
from enricher.runtime.control import CLIENTS_MAX, FOLLOWERS_MAX, QUEUE_MAX, REQUEST_MAX, ControlServer
from tests.unit.fake_control import answer, asked, connected, here, offer, rest_of, run, wakes
from tests.unit.sample_events import SYSCALL, context, event

STATUS: dict[str, object] = {"version": "1", "mode": "full"}
FOLLOW = b'{"op":"follow"}\n'
FOLLOWING = b'{"ok":true,"following":true}\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    made = ControlServer(str(tmp_path / "sock"), "", lambda: STATUS)
    yield made
    made.close()


def keyed(key: bytes, pid: int = 4711, flags: int = ContextFlag.SUBJECT) -> Event:
    """Make an event with this audit key, of this process."""
    body = SYSCALL.replace(b'"exec"', b'"%b"' % key)
    return event((1300, body), context=context(pid=pid, flags=flags))


def lines_of(events: list[Event]) -> list[bytes]:
    return [b'{"event":%d}\n' % number for number, _ in enumerate(events)]


# -- requests ----------------------------------------------------------------------------------------


def test_status_is_one_line_and_the_end(server: ControlServer) -> None:
    assert answer(server, b'{"op":"status"}\n') == STATUS
    assert answer(server, b' { "op" : "status" } \r\n') == STATUS
    assert (server.refused, server.followers, server.wants_events) == (0, 0, False)
    assert not server._clients


def test_births_are_answered_by_who_knows_them_and_else_refused(
    server: ControlServer, tmp_path: Path
) -> None:
    assert set(answer(server, b'{"op":"births"}\n')) == {"error", "hint"}
    other = ControlServer(str(tmp_path / "other"), "", lambda: STATUS, lambda: {"born": {}})
    assert answer(other, b'{"op":"births"}\n') == {"born": {}}
    other.close()


def test_between_a_connection_and_its_answer_the_loop_has_a_turn(server: ControlServer) -> None:
    """What the kernel side told before somebody connected has been read when he is answered."""
    with connected(server) as client:
        client.sendall(b'{"op":"births"}\n')
        server.serve()
        assert here(client) == b""
        server.serve()
        assert b"error" in rest_of(client)


def test_a_request_may_come_in_pieces(server: ControlServer) -> None:
    with connected(server) as client:
        for byte in b'{"op":"status"}\n':
            client.sendall(bytes([byte]))
            run(server)
        assert json.loads(rest_of(client)) == STATUS


def test_the_end_of_what_is_sent_ends_the_line_too(server: ControlServer) -> None:
    with asked(server, b'{"op":"status"}') as client:
        assert here(client) == b""
        client.shutdown(socket.SHUT_WR)
        run(server)
        assert json.loads(rest_of(client)) == STATUS


def test_a_client_that_says_nothing_costs_nothing(server: ControlServer) -> None:
    with connected(server):
        run(server)
        assert len(server._clients) == 1
    run(server)
    assert (len(server._clients), server.refused) == (0, 0)


@pytest.mark.parametrize(
    "request_line",
    [
        b"",
        b"status",
        b"\xff\xfe",
        b"\0" * 100,
        b"[]",
        b"null",
        b'"status"',
        b"[" * 10_000,
        b'{"op":"status"',
        b"9" * 10_000,
        b"{}",
        b'{"op":1}',
        b'{"op":null}',
        b'{"op":["status"]}',
        b'{"op":"stop"}',
        b'{"op":"status","keys":[]}',
        b'{"op":"births","kind":"net"}',
        b'{"op":"follow","key":["a"]}',
        b'{"op":"follow","keys":"a"}',
        b'{"op":"follow","keys":[1]}',
        b'{"op":"follow","keys":null}',
        b'{"op":"follow","keys":["\\ud800"]}',
        b'{"op":"follow","types":[1300]}',
        b'{"op":"follow","types":["SYSCALLS"]}',
        b'{"op":"follow","types":["' + b"\\u001b" * 1000 + b'"]}',
        b'{"op":"follow","skip_self":1}',
        b'{"op":"follow","filter":1}',
        b'{"op":"follow","filter":null}',
        b'{"op":"follow","filter":"where == here"}',
        b'{"op":"follow","filter":"key == \\ud800"}',
        b'{"op":"follow","filter":"' + b"(" * 10_000 + b'"}',
    ],
)
def test_what_is_no_request_is_told_so(server: ControlServer, request_line: bytes) -> None:
    said = answer(server, request_line + b"\n")
    assert set(said) == {"error", "hint"}
    assert said["error"]
    assert said["hint"]
    assert (server.refused, server.followers, len(server._clients)) == (1, 0, 0)


def test_a_type_that_there_is_not_comes_with_those_that_are_close(server: ControlServer) -> None:
    assert "SYSCALL" in answer(server, b'{"op":"follow","types":["SYSCALLS"]}\n')["hint"]


def test_what_is_wrong_with_a_filter_is_shown_with_its_place(server: ControlServer) -> None:
    said = answer(server, b'{"op":"follow","filter":"key == a\\n  and where == contaner"}\n')
    assert said == {
        "error": "filter, line 2, column 16: no such value: contaner\n"
        "    and where == contaner\n"
        "                 ^",
        "hint": "did you mean container?",
    }


def test_two_requests_are_one_too_many(server: ControlServer) -> None:
    assert "one request" in answer(server, b'{"op":"status"}\n{"op":"status"}\n')["hint"]
    assert server.refused == 1


def test_a_line_is_bounded(server: ControlServer) -> None:
    request = b'{"op":"status"}'
    assert answer(server, request.rjust(REQUEST_MAX) + b"\n") == STATUS
    assert server.oversized == 0
    with asked(server, request.rjust(REQUEST_MAX)) as client:
        client.sendall(b"\n")
        run(server)
        assert json.loads(rest_of(client)) == STATUS
    with asked(server, request.rjust(REQUEST_MAX + 1)) as client:
        assert b"more than" in rest_of(client)
    assert server.oversized == 1


def test_what_is_no_unicode_can_be_in_a_status(tmp_path: Path) -> None:
    status: dict[str, object] = {"files": ["/etc/\udcff\x1b\x9b"], "odd": {1}}
    server = ControlServer(str(tmp_path / "sock"), "", lambda: status)
    with asked(server, b'{"op":"status"}\n') as client:
        said = rest_of(client)
    assert said.isascii()
    assert json.loads(said) == {"files": ["/etc/\udcff\x1b\x9b"], "odd": "{1}"}
    server.close()


def test_a_long_answer_waits_for_its_reader(tmp_path: Path) -> None:
    status: dict[str, object] = {"words": "x" * 3_000_000}
    server = ControlServer(str(tmp_path / "sock"), "", lambda: status)
    with asked(server, b'{"op":"status"}\n') as client:
        said = b""
        while chunk := client.recv(1 << 16):
            said += chunk
            run(server)
    assert json.loads(said) == status
    assert not server._clients
    server.close()


# -- followers ---------------------------------------------------------------------------------------


def test_a_follower_gets_events_until_it_goes(server: ControlServer) -> None:
    events = [keyed(b"a"), keyed(b"b")]
    with asked(server, FOLLOW) as client:
        assert (server.followers, server.wants_events) == (1, True)
        offer(server, events, lines_of(events))
        offer(server, events[:1], [b"third\n"])
        assert here(client) == FOLLOWING + b'{"event":0}\n{"event":1}\nthird\n'
        assert not wakes(server)
    run(server)
    assert (server.followers, server.wants_events, len(server._clients)) == (0, False, 0)
    offer(server, events, lines_of(events))


def test_nobody_is_served_for_nobody(server: ControlServer) -> None:
    """No system call where nobody follows: each would be a record."""
    with connected(server):
        run(server)
        epoll, clients = server._epoll, server._clients
        del server._epoll, server._clients
        offer(server, [keyed(b"a")], [b"line\n"])
        server._epoll, server._clients = epoll, clients


@pytest.mark.parametrize(
    ("wish", "passing"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"keys": ["a"]}, [0, 2, 3]),
        ({"keys": ["a", "b"]}, [0, 1, 2, 3]),
        ({"keys": ["\udcff"]}, [3, 4]),
        ({"types": ["SYSCALL"]}, [0, 1, 2, 3, 4]),
        ({"types": ["CWD", "1400"]}, [3]),
        ({"skip_self": True}, [0, 1, 3, 4]),
        ({"skip_self": True, "keys": ["a"]}, [0, 3]),
        ({"skip_self": False}, [0, 1, 2, 3, 4]),
        ({"filter": ""}, [0, 1, 2, 3, 4]),
        ({"filter": "key in (a, b)"}, [0, 1, 2, 3]),
        ({"filter": "syscall == execve and key != a"}, [1, 3, 4]),
        ({"filter": "syscall == open"}, [3]),
        ({"filter": "pid == 4711 and type != LOST"}, [0, 1, 2, 4]),
        ({"filter": "pid == 4711", "keys": ["a"], "skip_self": True}, [0, 3]),
    ],
)
def test_a_follower_gets_what_it_asks_for(
    server: ControlServer, wish: dict[str, object], passing: list[int]
) -> None:
    ours, lost = keyed(b"a"), event()
    ours.self_caused = True
    lost.own_id = "run/1"
    lost.loss = Loss("ring", "ring", 1, "messages", None, None, ())
    events = [keyed(b"a"), keyed(b"b"), ours, lost, keyed(b"\xff")]
    with asked(server, json.dumps({"op": "follow"} | wish).encode() + b"\n") as client:
        offer(server, events, lines_of(events))
        assert here(client) == FOLLOWING + b"".join(lines_of(events)[number] for number in passing)


def test_a_follower_need_not_follow_itself(server: ControlServer) -> None:
    events = [keyed(b"a"), keyed(b"a", pid=os.getpid()), keyed(b"a", pid=os.getpid(), flags=0)]
    with (
        asked(server, b'{"op":"follow","skip_self":true}\n') as client,
        asked(server, FOLLOW) as other,
    ):
        offer(server, events, lines_of(events))
        assert here(client) == FOLLOWING + b'{"event":0}\n{"event":2}\n'
        assert here(other) == FOLLOWING + b"".join(lines_of(events))


def test_a_follower_that_has_said_all_still_listens(server: ControlServer) -> None:
    with asked(server, FOLLOW) as client:
        client.shutdown(socket.SHUT_WR)
        run(server)
        offer(server, [keyed(b"a")], [b"line\n"])
        assert here(client) == FOLLOWING + b"line\n"
    run(server)
    assert server.followers == 0


def test_a_follower_that_goes_on_talking_goes(server: ControlServer) -> None:
    with asked(server, FOLLOW) as client:
        client.sendall(FOLLOW)
        run(server)
        assert here(client) == FOLLOWING
    assert (server.followers, server.refused, len(server._clients)) == (0, 1, 0)


def test_a_follower_that_went_is_found_by_publishing(server: ControlServer) -> None:
    gone, stays = asked(server, FOLLOW), asked(server, FOLLOW)
    gone.close()
    offer(server, [keyed(b"a")], [b"line\n"])
    assert server.followers == 1
    run(server)
    assert here(stays) == FOLLOWING + b"line\n"
    stays.close()


def test_a_slow_follower_is_told_what_it_missed_and_keeps_nobody_waiting(server: ControlServer) -> None:
    """Every event is shown or counted, where it was; another follower gets all of them at once."""
    total, one = 3000, [keyed(b"a")]
    with asked(server, FOLLOW) as client, asked(server, FOLLOW) as quick:
        got, all_of_it = bytearray(), bytearray()
        for number in range(total):
            offer(server, one, [b'{"event":%d,"%b":0}\n' % (number, b"x" * 8000)])
            all_of_it += here(quick)
            assert all(len(each.out) <= QUEUE_MAX for each in server._clients.values())
            if number > 700:  # half as fast as they come
                got += client.recv(4096)
                run(server)
        while more := here(client):
            got += more
            run(server)
        client.sendall(b"more\n")
        run(server)
        assert server.followers == 1, "it is listened to again"
    assert all_of_it.count(b"\n") == 1 + total
    first, *said = map(json.loads, got.splitlines())
    assert first == {"ok": True, "following": True}
    due = notes = 0
    for line in said:
        if "skipped" in line:
            notes += 1
            due += line["skipped"]
        else:
            assert line["event"] == due
            due += 1
    assert due == total, "what was skipped last is told without another event"
    assert sum(line.get("skipped", 0) for line in said) == server.skipped > 0
    assert notes <= 5, "not event by event"


def test_a_follower_that_does_not_read_costs_no_system_call(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asked(server, FOLLOW):
        offer(server, [keyed(b"a")], [b"x" * 1_000_000 + b"\n"])
        assert not wakes(server)

        def send(_client: object) -> None:
            raise AssertionError("there is no room, and it was not asked for")

        monkeypatch.setattr(server, "_send", send)
        offer(server, [keyed(b"a")], [b"line\n"])
        monkeypatch.undo()


def test_an_event_that_never_fits_is_skipped(server: ControlServer) -> None:
    with asked(server, FOLLOW) as client:
        offer(server, [keyed(b"a")] * 2, [b"x" * QUEUE_MAX + b"\n", b"next\n"])
        assert here(client) == FOLLOWING + b'{"skipped":1}\nnext\n'
    assert server.skipped == 1


# -- bounds ------------------------------------------------------------------------------------------


def test_who_says_nothing_makes_room(server: ControlServer) -> None:
    follower = asked(server, FOLLOW)
    idle = [connected(server) for _ in range(CLIENTS_MAX - 1)]
    run(server)
    assert (len(server._clients), server.crowded_out) == (CLIENTS_MAX, 0)
    assert answer(server, b'{"op":"status"}\n') == STATUS
    assert server.crowded_out == 1
    assert rest_of(idle[0]) == b"", "the oldest"
    offer(server, [keyed(b"a")], [b"line\n"])
    assert here(follower) == FOLLOWING + b"line\n"
    for _ in range(3):
        idle += [connected(server) for _ in range(CLIENTS_MAX)]
        run(server)
        assert len(server._clients) == CLIENTS_MAX
    assert server.followers == 1
    for client in [follower, *idle]:
        client.close()
    run(server)
    assert not server._clients


def test_followers_are_bounded_apart(server: ControlServer) -> None:
    followers = [asked(server, FOLLOW) for _ in range(FOLLOWERS_MAX)]
    assert "follow already" in answer(server, FOLLOW)["error"]
    assert (server.followers, server.turned_away) == (FOLLOWERS_MAX, 1)
    assert answer(server, b'{"op":"status"}\n') == STATUS
    followers.pop().close()
    run(server)
    followers.append(asked(server, FOLLOW))
    assert here(followers[-1]) == FOLLOWING
    assert server.counts() == {
        "followers": FOLLOWERS_MAX,
        "skipped": 0,
        "refused": 1,
        "oversized": 0,
        "crowded_out": 0,
        "turned_away": 1,
        "unaccepted": 0,
    }
    for client in followers:
        client.close()


def test_without_descriptors_a_client_is_turned_off(server: ControlServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [connected(server) for _ in range(3)]
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(10):
            server.serve()
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert server.unaccepted == 3
    assert [rest_of(client) for client in clients] == [b""] * 3
    assert answer(server, b'{"op":"status"}\n') == STATUS
    for client in clients:
        client.close()


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = count()
    server = ControlServer(str(tmp_path / "sock"), "", lambda: STATUS)
    for request in (b'{"op":"status"}\n', b"nonsense\n", FOLLOW, b""):
        asked(server, request).close()
        run(server)
    client = asked(server, FOLLOW)
    server.close()
    assert here(client) == FOLLOWING
    client.close()
    assert count() == before


def test_the_bounds_fit_together() -> None:
    assert FOLLOWERS_MAX < CLIENTS_MAX
    assert control._RESUME < QUEUE_MAX - control._NOTE_MAX
