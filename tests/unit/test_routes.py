# SPDX-License-Identifier: Apache-2.0
"""Routes: what goes where and in which form, what is told of losses, reloads, and the order of an end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Event as Event_
from threading import Semaphore

import pytest

from enricher.enrich.native import NativeBuilder
from enricher.errors import EnricherError, UsageError
from enricher.model import Event, Loss
from enricher.route.filters import Shared
from enricher.route.schemas import renderer
from enricher.runtime import route as route_module
from enricher.runtime import sinktypes
from enricher.runtime.routes import Routes
from enricher.sinks.delivery.courier import Courier
from enricher.sinks.delivery.message import Receipt
from enricher.sinks.delivery.rejected import RejectedFile
from enricher.sinks.delivery.spool import Spool
from tests import schema
from tests.unit.sample_events import EXEC, HOST, event
from tests.unit.sample_sinks import DEADLINE, Double, Made, Sender, install, settings, table
from tests.unit.test_service import documented


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    return install(monkeypatch)


def of_serial(serial: int, key: bytes = b"exec") -> Event:
    body = EXEC[0][1].rsplit(b" key=", 1)[0] + b' key="%b"' % key
    made = event((1300, body))
    made.stamp = b"1772366400.042:%d" % serial
    return made


def lost(serial: int = 0) -> Event:
    made = Event(b"1772366400.042:%d" % serial, 0.0)
    made.own_id, made.complete = "1a2b3c4d/7", True
    made.loss = Loss("sink", "sink", 3, "records", None, None, ())
    return made


class Counted:
    """Shared events whose native builds are counted."""

    def __init__(self, *events: Event) -> None:
        self.built = 0
        builder = NativeBuilder(HOST)

        def build(one: Event):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as the builder's
            self.built += 1
            return builder.build(one)

        self.shared = [Shared(one, build, builder.place) for one in events]


def test_messages_have_what_an_event_says(tmp_path: Path, double: Double) -> None:
    made = Made(tmp_path, table("a"))
    made.routes.start()
    made.routes.emit_events([of_serial(7)])
    (message,) = double.wait("a:1", 1)
    made.routes.stop()
    made.routes.close()
    (native,) = schema.parse(message.body)
    assert (message.uid, message.type) == (native["uid"], native["type"])
    assert (message.time, message.serial, message.records) == (1772366400.042, 7, 1)


def test_the_native_event_is_made_once_and_each_form_once(
    tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[str] = []

    def counted(schema, host, *, raw):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as the one it stands for
        render = renderer(schema, host, raw=raw)

        def one(native):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            rendered.append(schema)
            return render(native)

        return one

    monkeypatch.setattr(route_module, "renderer", counted)
    made = Made(
        tmp_path,
        table("a"),
        table("b"),
        table("c", 'schema = "ecs"'),
        table(
            "d", 'redact = ["subject.exe"]\nfilter = "subject.pid == 1 or has container or auid >= 0"'
        ).replace("subject.pid == 1 or ", ""),
    )
    counts = Counted(of_serial(1), of_serial(2))
    made.routes.start()
    made.routes.emit(counts.shared)
    assert counts.built == 2
    assert sorted(rendered) == ["ecs", "ecs", "native", "native", "native", "native"]
    for address in ("a:1", "b:1", "c:1"):
        double.wait(address, 2)
    made.routes.stop()
    made.routes.close()
    assert double.bodies("a:1") == double.bodies("b:1") != double.bodies("c:1")


def test_what_no_route_wants_is_not_made(tmp_path: Path, double: Double) -> None:  # noqa: ARG001 - installs itself
    made = Made(tmp_path, table("a", 'filter = "key == nobody"'))
    counts = Counted(of_serial(1))
    made.routes.emit(counts.shared)
    assert counts.built == 0
    made.routes.close()


def test_each_route_has_its_filter_its_fields_and_what_it_hides(tmp_path: Path, double: Double) -> None:
    made = Made(
        tmp_path,
        table("a", 'filter = "key == mount"\nfields = ["keys"]'),
        table("b", 'redact = ["subject.exe"]'),
        table("c", 'schema = "text"'),
        table("d", "raw = true"),
    )
    made.routes.start()
    made.routes.emit_events([of_serial(1), of_serial(2, b"mount")])
    (only,) = (double.wait("a:1", 1), schema.parse(b"\n".join(double.bodies("a:1"))))[1]
    assert (only["keys"], "exe" in only.get("subject", {})) == (["mount"], False)
    double.wait("b:1", 2)
    assert {event["subject"]["exe"] for event in schema.parse(b"\n".join(double.bodies("b:1")))} == {
        "[redacted]"
    }
    assert double.wait("c:1", 2)[0].body.startswith(b"type=SYSCALL msg=audit(1772366400.042:")
    assert not double.bodies("c:1")[0].endswith(b"\n")
    assert "raw" in schema.parse(double.wait("d:1", 2)[0].body)[0]["records"][0]
    assert "raw" not in schema.parse(double.bodies("b:1")[0])[0]["records"][0]
    made.routes.stop()
    made.routes.close()


def test_own_events_pass_and_those_that_we_caused_need_not(tmp_path: Path, double: Double) -> None:
    made = Made(tmp_path, table("a", "skip_self = true"))
    caused = of_serial(1)
    caused.self_caused = True
    made.routes.start()
    made.routes.emit_events([caused, lost()])
    assert [each.type for each in double.wait("a:1", 1)] == ["LOST"]
    made.routes.stop()
    made.routes.close()


def test_a_dead_sink_beside_a_healthy_one(tmp_path: Path, double: Double) -> None:
    double.away.add("dead:1")
    made = Made(tmp_path, table("dead"), table("well"))
    made.routes.start()
    for serial in range(1, 51):
        made.routes.emit_events([of_serial(serial)])
    assert [each.serial for each in double.wait("well:1", 50)] == list(range(1, 51))
    assert made.facts("dead")["waiting"] == 50
    made.routes.stop(0.1)
    assert made.facts("dead")["error"] == "dead:1 is away"
    made.routes._routes["dead"].queue.error = "its disk is full"
    assert made.facts("dead")["error"] == "dead:1 is away; its disk is full"
    assert made.routes.close() == []
    # The next run has them.
    double.away.clear()
    again = Made(tmp_path, table("dead"))
    again.routes.start()
    assert [each.serial for each in double.wait("dead:1", 50)] == list(range(1, 51))
    again.routes.stop()
    again.routes.close()


def test_a_bug_in_one_form_costs_this_route_alone(
    tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(schema, host, *, raw):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        render = renderer(schema, host, raw=raw)
        return (lambda _: 1 / 0) if schema == "ecs" else render

    monkeypatch.setattr(route_module, "renderer", broken)
    made = Made(tmp_path, table("a", 'schema = "ecs"'), table("b"))
    made.routes.start()
    made.routes.emit_events([of_serial(1), lost()])
    double.wait("b:1", 2)
    assert [(loss.cause, loss.lost, loss.sink) for loss in made.routes.losses()] == [("sink", 1, "a")]
    assert (made.facts("a")["bugs"], made.facts("a")["lost"]) == (2, 2)
    assert [each for each in made.said if "a bug" in each] == [
        "a: a bug, please report it: ZeroDivisionError: division by zero"
    ]
    made.routes.stop()
    made.routes.close()


def test_losses_are_told_once_and_those_of_own_events_never(tmp_path: Path, double: Double) -> None:
    double.away.add("a:1")
    made = Made(tmp_path, table("a", 'queue = "memory"\nmax_size = 1000\npolicy = "drop_newest"'))
    made.routes.emit_events([of_serial(1)])
    assert [(loss.stage, loss.lost, loss.first) for loss in made.routes.losses()] == [("queue", 1, 1)]
    assert made.routes.losses() == []
    made.routes.emit_events([lost(), lost()])
    assert made.routes.losses() == []
    assert made.facts("a")["lost"] == 2  # one of them found room
    assert made.routes.close() == []


def test_what_a_receiver_refuses_is_written_down_and_told(tmp_path: Path, double: Double) -> None:
    double.refuses.add("a:1")
    made = Made(tmp_path, table("a"))
    made.routes.start()
    made.routes.emit_events([of_serial(5)])
    losses = made.routes.stop()
    assert [(loss.stage, loss.lost, loss.first) for loss in losses] == [("sink", 1, 5)]
    made.routes.close()
    (line,) = (tmp_path / "rejected" / "a.json").read_text().splitlines()
    assert json.loads(line)["reason"] == "no"
    for directory in ("spool", "rejected"):
        assert (tmp_path / directory).stat().st_mode & 0o777 == 0o700


def test_a_queue_in_memory_tells_at_the_end_what_it_held(tmp_path: Path, double: Double) -> None:
    double.away.add("a:1")
    made = Made(tmp_path, table("a", 'queue = "memory"'))
    made.routes.start()
    made.routes.emit_events([of_serial(3)])
    assert made.routes.stop(0.1) == []
    assert [(loss.stage, loss.lost) for loss in made.routes.close()] == [("queue", 1)]
    assert made.routes.close() == []


def test_the_order_of_an_end(tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path, table("a"), table("b"))
    log: list[str] = []
    for owner, name in (
        (Courier, "begin_stop"),
        (Courier, "join"),
        (Courier, "losses"),
        (Spool, "close"),
        (RejectedFile, "close"),
    ):
        before = getattr(owner, name)

        def logged(self, *args, _before=before, _name=f"{owner.__name__}.{name}"):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
            log.append(_name)
            return _before(self, *args)

        monkeypatch.setattr(owner, name, logged)
    made.routes.start()
    made.routes.stop()
    made.routes.close()
    assert log == [
        *["Courier.begin_stop"] * 2,
        *["Courier.join"] * 2,
        *["Courier.losses"] * 2,
        *["Spool.close", "RejectedFile.close"] * 2,
    ]
    assert sorted(double.log) == ["close a:1", "close b:1"]


def test_status_has_these_names(tmp_path: Path, double: Double) -> None:
    made = Made(tmp_path, table("a", 'schema = "ecs"'))
    made.routes.start()
    made.routes.emit_events([of_serial(1)])
    double.wait("a:1", 1)
    made.routes.stop()
    facts = made.facts("a")
    made.routes.close()
    assert facts == {
        "name": "a",
        "type": "relp",
        "schema": "ecs",
        "queue": "spool",
        "waiting": 0,
        "waiting_bytes": facts["waiting_bytes"],
        "max_bytes": 256 << 20,
        "oldest_seconds": 0.0,
        "sent": 1,
        "taken": 1,
        "refused": 0,
        "retries": 0,
        "errors": 0,
        "bugs": 0,
        "lost": 0,
        "unsure": 0,
        "unheard": 0,
        "error": "",
    }
    assert set(facts) == documented("The members of each object in `sinks`")


# -- a reload ----------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_touched(tmp_path: Path, double: Double) -> None:
    made = Made(tmp_path, table("a"), table("b"))
    made.routes.start()
    assert made.reload(table("b"), table("c"), "\n\n", table("a")) == ["c"]
    made.routes.emit_events([of_serial(1)])
    for address in ("a:1", "b:1", "c:1"):
        double.wait(address, 1)
    assert sorted(double.made) == ["a:1", "b:1", "c:1"]
    made.routes.stop()
    made.routes.close()


def test_a_changed_one_goes_on_with_what_waits(tmp_path: Path, double: Double) -> None:
    double.away.add("old:1")
    made = Made(tmp_path, table("a", address="old"), table("b"))
    made.routes.start()
    made.routes.emit_events([of_serial(1), of_serial(2)])
    assert made.reload(table("a", address="new"), table("b")) == ["a"]
    assert "close old:1" in double.log
    made.routes.emit_events([of_serial(3)])
    assert [each.serial for each in double.wait("new:1", 3)] == [1, 2, 3]
    made.routes.stop()
    assert made.routes.losses() == []
    made.routes.close()


def test_a_removed_one_leaves_its_spool_and_says_so(tmp_path: Path, double: Double) -> None:
    double.away.add("a:1")
    made = Made(tmp_path, table("a"), table("b"))
    made.routes.start()
    made.routes.emit_events([of_serial(1)])
    assert made.reload(table("b")) == ["a"]
    spool = made.spooled("a")
    assert f"a: it is no destination any more; 1 messages stay in {spool}" in made.said
    assert list(spool.glob("*.seg"))
    assert [each["name"] for each in made.routes.facts()] == ["b"]
    made.routes.stop()
    made.routes.close()


def test_wrong_ones_leave_all_as_it_is(tmp_path: Path, double: Double) -> None:
    double.wrong.add("wrong:1")
    made = Made(tmp_path, table("a"))
    made.routes.start()
    for tables in (
        [table("new"), table("a", address="wrong")],
        [table("new"), table("other", address="wrong"), table("a")],
    ):
        with pytest.raises(EnricherError) as caught:
            made.reload(*tables)
        assert "ca_file: no such file for wrong:1" in caught.value.message
        assert f"{tmp_path}/sinks.toml:" in caught.value.message
    made.routes.emit_events([of_serial(1)])
    assert [each.serial for each in double.wait("a:1", 1)] == [1]
    assert [each["name"] for each in made.routes.facts()] == ["a"]
    # What was made for them was let go of.
    assert made.reload(table("a"), table("new")) == ["new"]
    made.routes.stop()
    made.routes.close()


def test_where_the_new_one_cannot_be_had_at_last_the_old_one_goes_on(
    tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, table("a", address="old"))
    made.routes.start()
    change = made.routes.prepare(settings(tmp_path, table("a", address="new")))
    start = route_module.Route.start

    def failing(self: route_module.Route) -> None:
        if self.setting.options.address == "new:1":
            raise UsageError("it cannot be started")
        start(self)

    monkeypatch.setattr(route_module.Route, "start", failing)
    assert change.commit() == ["a"]
    assert any("it cannot be started; the settings before it stay" in each for each in made.said)
    made.routes.emit_events([of_serial(1)])
    assert [each.serial for each in double.wait("old:1", 1)] == [1]
    made.routes.stop()
    made.routes.close()


def test_two_runs_cannot_have_one_spool(tmp_path: Path, double: Double) -> None:
    made = Made(tmp_path, table("a"))
    with pytest.raises(UsageError, match=r"sinks.toml:1: \[sinks.a\]: "):
        Made(tmp_path, table("a"))
    made.routes.close()
    assert isinstance(Made(tmp_path, table("a")).routes, Routes)
    assert "close a:1" in double.log


def test_receivers_that_hang_hold_up_the_end_together_and_not_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, sending = Event_(), Semaphore(0)

    class Hanging:
        acknowledged = True
        most = 1

        def send(self, _: object) -> Receipt:
            sending.release()
            released.wait(DEADLINE)
            return Receipt({})

        def close(self) -> None:
            pass

    relp = sinktypes.TYPES["relp"]._replace(make=lambda *_: Hanging())
    monkeypatch.setitem(sinktypes.TYPES, "relp", relp)
    made = Made(tmp_path, *(table(f"a{number}") for number in range(5)))
    made.routes.start()
    made.routes.emit_events([of_serial(1)])
    for _ in range(5):
        assert sending.acquire(timeout=DEADLINE)
    began = time.monotonic()
    made.routes.stop(0.1)
    assert time.monotonic() - began < 5.0  # five graces of a second would be more
    assert sum("keeps it from ending" in each for each in made.said) == 5
    made.routes.close()
    released.set()


def test_a_destination_that_cannot_be_started_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "sock").write_text("something else")
    made = Made(tmp_path, f'\n[sinks.u]\ntype = "unix"\npath = "{tmp_path}/sock"\n')
    with pytest.raises(UsageError, match=r"sinks.toml:2: \[sinks.u\]: cannot make the socket"):
        made.routes.start()
    made.routes.close()


def test_what_a_sender_has_to_say_later_is_said_once(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sender, "advice", "", raising=False)
    made = Made(tmp_path, table("a"))
    made.routes.start()
    monkeypatch.setattr(Sender, "advice", "a file stays as it is")
    for _ in range(3):
        made.routes.losses()
    made.routes.close()
    assert made.said.count("a: a file stays as it is") == 1
    assert double.made == ["a:1"]
