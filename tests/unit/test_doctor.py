# SPDX-License-Identifier: Apache-2.0
"""Each row of the examination, on a made-up host: a healthy one, and what it says when one thing is not so."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from enricher.errors import AuditUnavailable, LoadFailed
from enricher.runtime import doctor
from enricher.runtime.doctor import Verdict, audit, run, verdict
from enricher.runtime.doctor.rows import Group, Host, Row, State, run_group
from tests.unit.fake_doctor_host import NETLINK, NO_CONTROL, Act, Bench
from tests.unit.sample_doctor_cases import CASES

OK, WARN, FAIL, UNKNOWN = State.OK, State.WARN, State.FAIL, State.UNKNOWN


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_healthy_host(bench: Bench) -> None:
    rows = bench.examined()
    assert tuple(rows) == doctor.NAMES
    assert {row.name: row for row in rows.values() if row.state is not OK} == {}
    assert verdict(list(rows.values())) is Verdict.WORKS
    assert bench.closed == 2
    assert bench.programs.log == ["close"] * 3


def test_names_are_there_once_and_fit_for_programs() -> None:
    assert len(set(doctor.NAMES)) == len(doctor.NAMES)
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in doctor.NAMES)


@pytest.mark.parametrize(("name", "act", "state", "words"), CASES)
def test_row(bench: Bench, name: str, act: Act, state: State, words: str) -> None:
    act(bench)
    rows = bench.examined()
    assert tuple(rows) == doctor.NAMES  # whatever happens, every row is there
    assert (rows[name].state, words in rows[name].detail) == (state, True), rows[name]
    assert state in {OK, UNKNOWN} or rows[name].hint


def test_every_row_can_be_something_else_than_ok() -> None:
    told = {name for name, _, state, _ in CASES if state is not OK}
    never = {"audit-failure", "auditd", "security-modules"}  # they tell, and their absence is another row's
    assert set(doctor.NAMES) - told == never


def test_where_audit_cannot_be_asked_all_its_rows_say_so(bench: Bench) -> None:
    bench.status = bench.rules = NO_CONTROL
    rows = bench.examined()
    names = [name for name, row in rows.items() if row.state is UNKNOWN]
    asked = [name for group in audit.GROUPS[1:] for name in group.names]
    assert names == asked
    assert bench.closed == 2


def test_nothing_is_loaded_where_that_is_not_wanted(bench: Bench) -> None:
    bench.refusal = AssertionError("it was loaded")
    assert bench.examined(load=False)["self-test"].state is UNKNOWN


def test_an_interrupt_is_no_row(bench: Bench) -> None:
    bench.refusal = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.examined()


def test_nothing_is_there_at_all(bench: Bench) -> None:
    """No /proc, no /sys, no libbpf: every row says something, none of them that it is well."""
    nowhere = Host(Path("/nonexistent"), Path("/nonexistent"), _no_audit)
    bench.version = LoadFailed("no libbpf")
    bench.refusal = AuditUnavailable("no audit")
    rows = list(run(nowhere))
    assert tuple(row.name for row in rows) == doctor.NAMES
    fine = {row.name for row in rows if row.state is OK}
    # This the double still answers, and cap-* cannot be told.
    assert fine == {"ftrace"}
    assert verdict(rows) is Verdict.FAILS


def _no_audit() -> NoReturn:
    raise AuditUnavailable("no audit")


def test_what_a_check_found_before_it_failed_is_kept() -> None:
    def check(_host: Host) -> Iterator[Row]:
        yield Row("a", WARN, "found")
        raise OSError(errno.EIO, "I/O error", "/some/file")

    rows = run_group(Group(("a", "b"), check), Host())
    assert rows == [Row("a", WARN, "found"), Row("b", UNKNOWN, "/some/file: I/O error")]


def test_listeners_are_named_by_the_socket_they_hold(bench: Bench) -> None:
    """Port 77 is nobody's pid here; process 90 holds the socket, and has a name of its own choice."""
    line = "00000000a1 {} {} {} 0 0 0 2 0 {}\n"
    table = line.format(9, 77, "00000001", 4711) + line.format(9, 91, "00000002", 4712)
    bench.write("proc/net/netlink", NETLINK + table + line.format(15, 92, "00000001", 4713))
    bench.write("proc/90/comm", b"ev\x1b[2J\xff\n")
    for pid, inode in ((90, 4711), (91, 4712), (92, 4713)):
        (bench.root / f"proc/{pid}/fd").mkdir(parents=True)
        (bench.root / f"proc/{pid}/fd/0").symlink_to("/dev/null")
        (bench.root / f"proc/{pid}/fd/3").symlink_to(f"socket:[{inode}]")
    detail = bench.row("listeners").detail
    assert detail == "1 sockets in the audit multicast group, held by ev\x1b[2J\ufffd (90)"


def test_listeners_that_cannot_be_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("proc/net/netlink", NETLINK + "00a1 9 77 00000001 0 0 0 2 0 4711\n")
    assert "no process that is seen" in bench.row("listeners").detail
    real = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "fd":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert "CAP_SYS_PTRACE is missing" in bench.row("listeners").detail


def test_many_listeners_are_not_all_listed(bench: Bench) -> None:
    bench.write("proc/net/netlink", NETLINK + "00a1 9 77 00000001 0 0 0 2 0 4711\n")
    for pid in range(100, 120):
        (bench.root / f"proc/{pid}/fd").mkdir(parents=True)
        (bench.root / f"proc/{pid}/fd/3").symlink_to("socket:[4711]")
    detail = bench.row("listeners").detail
    assert detail.count("(1") == 8
    assert detail.endswith("and others")


def test_where_a_file_is_not_for_us_the_hint_says_so() -> None:
    def check(_host: Host) -> Iterator[Row]:
        raise PermissionError(errno.EACCES, "Permission denied", "/some/file")

    def asked(_host: Host) -> Iterator[Row]:
        raise AuditUnavailable("no audit", "boot it")

    assert run_group(Group(("a",), check), Host()) == [
        Row("a", UNKNOWN, "/some/file: Permission denied", "run it as root")
    ]
    assert run_group(Group(("a",), asked), Host()) == [Row("a", UNKNOWN, "no audit", "boot it")]


def test_files_are_read_to_a_bound(bench: Bench) -> None:
    bench.write("proc/cmdline", b" " * (5 << 20) + b"audit=0")
    assert bench.row("audit-boot").state is WARN


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([OK, OK], Verdict.WORKS),
        ([OK, WARN], Verdict.LOSES),
        ([OK, UNKNOWN], Verdict.LOSES),
        ([WARN, FAIL, UNKNOWN], Verdict.FAILS),
    ],
)
def test_verdict(states: list[State], expected: Verdict) -> None:
    assert verdict([Row("x", state, "") for state in states]) is expected
