# SPDX-License-Identifier: Apache-2.0
"""The service with destinations: from its start to what it tells at its end, and over reloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enricher.errors import ConfigInvalid
from enricher.runtime import privileges
from enricher.runtime.routes import Routes
from tests import schema
from tests.unit.fake_host import Host
from tests.unit.fake_host import install as install_host
from tests.unit.sample_sinks import Double, Made, install, table
from tests.unit.test_service import Asked, Bench


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    return install(monkeypatch)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    host = Host()
    install_host(host, monkeypatch)
    made = Bench(tmp_path, host, monkeypatch)
    monkeypatch.setattr(Routes.stop, "__defaults__", (20.0,))
    yield made
    made.manager.close()


def add(bench: Bench, *tables: str) -> None:
    bench.configure()
    with bench.file.open("a") as file:
        file.write("".join(tables))


def of_records(double: Double, address: str) -> list[dict[str, Any]]:
    """What it got of the events of a test; the run's own nonce comes last."""
    return schema.parse(
        b"\n".join(each.body for each in double.got.get(address, []) if each.type == "SYSCALL")
    )


def test_events_of_a_run_go_to_a_destination_and_to_the_output(bench: Bench, double: Double) -> None:
    add(bench, table("a"), table("b", 'filter = "type == LOGIN"'))
    seen: list[Any] = []
    bench.run(bench.event, lambda _: seen.append(bench.running._status()["sinks"]))
    assert of_records(double, "a:1") == [each for each in bench.events() if each["type"] == "SYSCALL"]
    assert of_records(double, "b:1") == []
    assert [each["name"] for each in seen[0]] == ["a", "b"]


def test_without_destinations_status_has_an_empty_list(bench: Bench) -> None:
    seen: list[Any] = []
    bench.run(bench.event, lambda _: seen.append(bench.running._status()["sinks"]))
    assert seen == [[]]


def test_threads_begin_when_capabilities_are_gone(
    bench: Bench, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(bench, table("a"))
    order: list[str] = []

    def drop(*_: object) -> int:
        order.append("dropped")
        assert double.made == ["a:1"]  # which may have read what only root can
        return 0

    def start(self: Routes) -> None:
        order.append("started")
        begin(self)

    begin = Routes.start
    monkeypatch.setattr(Routes, "start", start)
    monkeypatch.setattr(privileges, "drop", drop)
    bench.run(bench.event)
    assert order == ["dropped", "started"]


def test_wrong_tables_end_the_start_with_every_place(bench: Bench, double: Double) -> None:
    add(bench, table("a", "windw = 3"), table("b", 'filter = "("'))
    with pytest.raises(ConfigInvalid) as caught:
        bench.run(bench.event)
    assert [line.rpartition("/")[2].partition(" ")[0] for line in caught.value.message.splitlines()] == [
        "settings.toml:10:",
        "settings.toml:14:",
    ]
    assert double.made == []
    assert "dropped" not in bench.host.log


def test_losses_of_a_queue_are_told_in_the_stream_and_do_not_loop(
    bench: Bench, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.away.add("a:1")
    monkeypatch.setattr(Routes.stop, "__defaults__", (0.2,))
    add(bench, table("a", 'queue = "memory"\nmax_size = 900\npolicy = "drop_newest"'))

    def later(_: Asked) -> None:
        bench.host.now += 2.0

    bench.run(bench.event, later, later, later, later)
    told = [each["lost"] for each in bench.events() if each["type"] == "LOST"]
    # Once of the event, and at the end of the run's last record.
    assert [(each["stage"], each["records"]) for each in told] == [
        ("queue", len(event["records"])) for event in bench.events() if event["records"]
    ]
    assert {each["sink"] for each in told} == {"a"}


def test_what_waits_at_the_end_is_for_the_next_run(
    bench: Bench, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.away.add("a:1")
    monkeypatch.setattr(Routes.stop, "__defaults__", (0.2,))
    add(bench, table("a"))
    bench.run(bench.event)
    assert any("messages wait for the next start" in each for each in bench.said)
    assert of_records(double, "a:1") == []
    double.away.clear()
    again = Made(bench.directory, table("a"))
    again.routes.start()
    double.wait("a:1", 2)
    again.routes.stop()
    again.routes.close()
    assert of_records(double, "a:1") == [each for each in bench.events() if each["type"] == "SYSCALL"]


def test_a_reload_adds_changes_and_removes(bench: Bench, double: Double) -> None:
    add(bench, table("a"), table("b"))

    def change(_: Asked) -> None:
        add(bench, table("b", "window = 7"), table("c"))

    bench.run(bench.event, change, bench.reload, bench.event)
    (notice,) = [each for each in bench.notices() if each["kind"] == "reload"]
    assert notice["settings"] == ["sinks.a", "sinks.b", "sinks.c"]
    assert [len(of_records(double, f"{name}:1")) for name in "abc"] == [1, 2, 1]


def test_the_first_destination_may_come_with_a_reload(bench: Bench, double: Double) -> None:
    bench.run(lambda _: add(bench, table("a")), bench.reload, bench.event)
    assert len(of_records(double, "a:1")) == 1


def test_wrong_tables_on_a_reload_leave_all_as_it_is(bench: Bench, double: Double) -> None:
    add(bench, table("a"))
    bench.run(lambda _: add(bench, table("a", "windw = 1"), table("b")), bench.reload, bench.event)
    assert any("there is no key windw in [sinks.a]" in each for each in bench.said)
    assert [each["kind"] for each in bench.notices()] == ["refused"]
    assert len(of_records(double, "a:1")) == 1
    assert "b:1" not in double.made


def test_an_output_that_is_wrong_on_a_reload_keeps_destinations_too(bench: Bench, double: Double) -> None:
    add(bench, table("a"))

    def wrong(_: Asked) -> None:
        bench.configure(path="/nowhere/events.json")
        text = bench.file.read_text().replace(f'path = "{bench.events_file}"\n', "")
        bench.file.write_text(text + table("a", address="new") + table("b"))

    def right(_: Asked) -> None:
        assert "b:1" not in double.got
        add(bench, table("a"), table("b"))

    bench.run(wrong, bench.reload, bench.event, right, bench.reload, bench.event)
    assert len(of_records(double, "a:1")) == 2
    assert len(of_records(double, "b:1")) == 1  # whose spool the wrong settings do not hold
    assert [each["kind"] for each in bench.notices()] == ["refused", "reload"]


@pytest.mark.parametrize("form", [{"raw": True}, {"format": "text"}, {}])
def test_what_the_output_shows_is_not_what_a_destination_gets(
    form: dict[str, object], bench: Bench, double: Double
) -> None:
    bench.configure(**form)
    with bench.file.open("a") as file:
        file.write(table("a") + table("b", "raw = true"))
    bench.run(bench.event)
    (plain,), (rich,) = of_records(double, "a:1"), of_records(double, "b:1")
    assert ["raw" in plain["records"][0], "raw" in rich["records"][0]] == [False, True]
