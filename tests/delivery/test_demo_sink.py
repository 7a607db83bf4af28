# SPDX-License-Identifier: Apache-2.0
"""What `make demo SINK=rsyslog` or `nats` does behind the guest: a capture into a receiver, and the comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.enrich.shape import NativeEvent
from tests.unit.sample_replay import Act, Live, answered, login, made
from tests.vm import demo_report, demo_sink

KEYS = ("exec",)
ACTS: list[Act] = [made, answered, lambda live: live.exec(0), lambda live: live.exec(1000), login]


class Shown:
    """The capture and the events of a run, and what is shown of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        live = Live(directory, monkeypatch)
        live.run(ACTS)
        monkeypatch.undo()  # the fake host's time is not for who delivers
        self.capture = live.path
        events = demo_report.parse(live.output.read_bytes())
        self.events: list[NativeEvent] = [event for event in events if set(KEYS) & set(event["keys"])]
        self.said: list[str] = []

    def show(self, events: list[NativeEvent], name: str = "rsyslog") -> list[str]:
        say = self.said.append
        return demo_sink.show(name, self.capture, events, KEYS, say, say)


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(tmp_path, monkeypatch)


def test_the_events_of_a_run_are_in_the_file_of_a_real_rsyslog(shown: Shown) -> None:
    assert len(shown.events) == 2
    assert shown.show(shown.events) == []
    said = "\n".join(shown.said)
    assert "rsyslog's own file has 2 events in 2 lines; the run's file has 2." in said
    assert "The two sets of uids are equal" in said
    assert "rsyslog: 2 taken, 0 retries, 0 waiting, 0 refused, 0 lost, 0 unsure" in said
    lines = shown.capture.with_name("rsyslog.log").read_bytes().splitlines()
    assert all(any(event["uid"].encode() in line for line in lines) for event in shown.events)


def test_one_event_more_in_the_runs_file_is_a_failure(shown: Shown) -> None:
    more = {**shown.events[0], "uid": "boot/9.999:9"}
    (wrong,) = shown.show([*shown.events, more])  # type: ignore[list-item]
    assert wrong == "1 events are not in rsyslog's file, as boot/9.999:9"


def test_the_events_of_a_run_are_in_a_stream_once_though_they_come_twice_and_its_leader_dies(
    shown: Shown,
) -> None:
    assert shown.show(shown.events, "nats") == []
    said = "\n".join(shown.said)
    assert "nats's own stream AUDIT has 2 events in 2 messages; the run's file has 2." in said
    assert "The two sets of uids are equal" in said
    assert said.count("fleet: 2 taken") == 2
    assert "it leads the stream AUDIT" in said
    shortened = [line for line in shown.said if line.startswith('  {"where": "container", ')]
    assert shortened
    assert all(len(line) < 260 for line in shortened)
