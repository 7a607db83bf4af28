# SPDX-License-Identifier: Apache-2.0
"""What the demo says about events, and that its rules, keys and acts belong together."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import cast

from enricher.enrich.native import build
from enricher.enrich.shape import NativeEvent
from tests.lint.tree import ROOT
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, HOST_INUMS, context, event
from tests.vm import demo_report, demo_sink
from tests.vm.demo_acts import ACTS, KEYS

RULES = [
    line
    for line in (ROOT / "tests/vm/demo.rules").read_text().splitlines()
    if line and not line.startswith("#")
]
LEVELS = ((4026531836, 4711), (4026532260, 7))
OPENAT = (
    b"arch=c000003e syscall=257 success=yes exit=3 items=1 ppid=1 pid=4711 auid=1000 uid=0"
    b' comm="cat" exe="/bin/busybox" key="shadow"'
)
SHADOW = b'item=0 name="/host/shadow" inode=1 nametype=NORMAL'


def started(argv: str = "ls -la", *, inums: tuple[int, ...] = HOST_INUMS, cgroup: int = 1) -> NativeEvent:
    words = argv.split()
    execve = f"argc={len(words)} " + " ".join(f'a{index}="{word}"' for index, word in enumerate(words))
    where = context(inums=inums, cgroup_id=cgroup, levels=LEVELS[:1] if inums == HOST_INUMS else LEVELS)
    return build(event(EXEC[0], (1309, execve.encode()), context=where), HOST)


def opened() -> NativeEvent:
    records = ((1300, OPENAT), (1302, SHADOW))
    return build(event(*records, context=context(comm=b"cat", inums=BOX_INUMS, levels=LEVELS)), HOST)


def test_the_host_is_one_place_and_comes_first() -> None:
    events = [
        started("sleep 600", inums=BOX_INUMS, cgroup=5),
        started(cgroup=1),
        started("/bin/cat x", cgroup=2),
        started("/bin/cat x", inums=BOX_INUMS, cgroup=5),
    ]
    host, box = demo_report.places(events)
    assert host == ("host", "", 2, ["ls", "cat"])
    assert (box.label, box.events, box.programs) == ("4026532257", 2, ["sleep", "cat"])
    assert "mnt,uts,ipc,net,pid,cgroup" in demo_report.place_line(box)


def test_what_only_the_table_or_the_file_has_is_named() -> None:
    events = [started(), opened()]
    events[0]["time"], events[1]["time"] = "2026-11-28T01:02:03.456Z", "2026-11-28T01:02:03.457Z"
    rows = ["01:02:03.456 host", "\x1b[2m01:02:03.457 host"]
    assert demo_report.differences(rows, events) == []
    assert demo_report.differences(["01:02:03 host"] * 2, events) == []
    (only,) = demo_report.differences(rows[:1], events)
    assert only.startswith("only the file has: ")
    assert "/host/shadow" in only
    (only,) = demo_report.differences(rows, events[:1])
    assert only == f"only the table has: {rows[1]}"
    assert demo_report.differences([*rows, "01:02:03.458 host - - - LOST 3 records, overload"], events) == []
    # Two in one millisecond are two.
    assert len(demo_report.differences(rows, [*events, events[1]])) == 1


def test_what_a_run_says_of_itself_is_told_apart() -> None:
    about = {
        "type": "NOTICE",
        "keys": [],
        "notice": {"kind": "audit", "text": "rules of audit were removed: 3"},
    }
    notice = cast("NativeEvent", {**started(), **about})
    assert demo_report.apart([opened(), notice]) == ([opened()], ["NOTICE rules of audit were removed: 3"])


def test_a_recycled_number_is_another_place() -> None:
    events = [started(inums=BOX_INUMS, cgroup=5), started(inums=BOX_INUMS, cgroup=6)]
    assert [place.events for place in demo_report.places(events)] == [1, 1]


def test_who_opened_it() -> None:
    (line,) = demo_report.openers([opened(), started()], "shadow")
    assert line.split() == [
        *("cat", "ok", "/host/shadow", "pid", "4711", "=", "7", "uid", "0"),
        *("4026532257", "mnt,uts,ipc,net,pid,cgroup"),
    ]


def test_the_label_is_that_of_the_last_program_a_pid_started() -> None:
    events = [started(), started("sleep 600", inums=BOX_INUMS)]
    assert demo_report.label_of_pid(events, 4711) == "4026532257"
    assert demo_report.label_of_pid(events, 1) is None


def test_what_a_process_says_of_itself_is_compared() -> None:
    kinds = "mnt uts ipc net pid user cgroup time pid_for_children time_for_children".split()

    def truth(inums: tuple[int, ...]) -> str:
        said = " ".join(f"{kind}={inum}" for kind, inum in zip(kinds, inums, strict=True))
        return f"truth-leaf tag=x n=0 self=7 parent=1 nspid=7 {said}"

    right = started(truth(BOX_INUMS), inums=BOX_INUMS)
    assert demo_report.compared([right, started()]) == (1, [])
    count, wrong = demo_report.compared([started(truth((1, *BOX_INUMS[1:])), inums=BOX_INUMS)])
    assert count == 1
    assert len(wrong) == 1
    assert " mnt: " in wrong[0]


def test_the_sample_is_from_a_process_with_a_pid_inside() -> None:
    assert demo_report.sample([started(), opened()], "shadow") == opened()
    assert demo_report.sample([started()], "exec") is None


def test_the_shortened_event_is_json_and_adds_nothing() -> None:
    whole = opened()
    text = demo_report.shortened(whole)
    short = json.loads(text)
    assert max(map(len, text.splitlines())) <= 100
    assert short["namespaces"] == whole["namespaces"]
    assert set(short) < set(whole)
    assert short["subject"].items() <= dict(whole["subject"]).items()
    for kept, record in zip(short["records"], whole["records"], strict=True):
        assert kept["type"] == record["type"]
        assert kept["fields"].items() <= record["fields"].items()


def test_every_rule_that_records_has_a_key_that_is_shown() -> None:
    recording = [rule for rule in RULES if not rule.startswith("-a never,exit")]
    keys = [re.findall(r"-F key=(\S+)$", rule) for rule in recording]
    assert {key for (key,) in keys} == set(KEYS)


def test_what_is_hidden_comes_before_what_is_shown() -> None:
    assert sorted(RULES, key=lambda rule: rule.startswith("-a always")) == RULES


def test_every_act_has_rows_to_wait_for() -> None:
    assert all(act.rows >= 2 for act in ACTS)
    assert 30 <= sum(act.rows for act in ACTS) <= 70


# -- what a receiver has ------------------------------------------------------------------------------

BOX_LINE = b'{"where":"container","container":{"id":"%b","name":"web"},"keys":["k"],"subject":{"comm":"cat","uid":0}}'


def arrived(*uids: str, body: bytes = BOX_LINE % (b"ab" * 32), code: int = 0) -> demo_sink.Arrived:
    lines = [
        (uid, b'2026-03-01T12:00:00Z host SYSCALL [a@1 uid="%b"] %b' % (uid.encode(), body)) for uid in uids
    ]
    return demo_sink.Arrived(lines, "what was said", code)


def of(*uids: str) -> list[NativeEvent]:
    return [{**opened(), "uid": uid} for uid in uids]


def test_equal_sets_are_told_and_some_lines_of_containers_shown() -> None:
    uids = [f"b/{number}" for number in range(10)]
    wrong, told = demo_sink.verdict("rsyslog", of(*uids), arrived(*uids, uids[0]))
    assert wrong == []
    assert told[0] == "rsyslog's own file has 10 events in 11 lines; the run's file has 10."
    assert told[1].startswith("The two sets of uids are equal")
    assert 1 <= len(told[3:]) <= 4
    assert told[3].startswith('  2026-03-01T12:00:00Z host SYSCALL [a@1 uid="b/0"] {"where": "container"')
    assert '"name": "web"' in told[3]
    assert max(map(len, told)) <= 262


def test_what_is_missing_what_is_foreign_and_an_end_that_failed_are_failures() -> None:
    wrong, told = demo_sink.verdict("rsyslog", of("b/1", "b/2"), arrived("b/2", "b/3", code=9))
    assert wrong == [
        "the delivery ended with 9: what was said",
        "1 events are not in rsyslog's file, as b/1",
        "1 events are in rsyslog's file that the run did not write, as b/3",
    ]
    assert not any("equal" in line for line in told)


def test_no_event_of_a_container_is_a_failure() -> None:
    wrong, _ = demo_sink.verdict("rsyslog", of("b/1"), arrived("b/1", body=b'{"where":"host"}'))
    assert wrong == ["no event of a container is in rsyslog's file"]


def test_a_hostile_line_is_shown_without_its_escapes() -> None:
    _, told = demo_sink.verdict(
        "rsyslog", of("b/1"), arrived("b/1", body=b'{"where":"container"\x1b[31m\xff')
    )
    assert "\x1b" not in told[-1]


def test_make_and_the_demo_know_the_same_receivers() -> None:
    (named,) = re.findall(r"^DEMO_SINKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named.split() == list(demo_sink.KNOWN)


def test_an_unknown_receiver_is_said_before_anything_is_done() -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(
        ["make", "demo", "SINK=nosuch"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no SINK=nosuch; there are: rsyslog nats" in done.stderr
    assert done.stdout == ""
