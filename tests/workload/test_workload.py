# SPDX-License-Identifier: Apache-2.0
"""The workload programs do what the suites in guests rely on. Plain processes: no audit, no privilege."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from enricher.model import KINDS

PROGRAMS = Path(__file__).parents[2] / "build" / "workload"
TRUTH = str(PROGRAMS / "truth")
ECHO = "/bin/echo"


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAMS / argv[0]
    assert program.exists(), f"{program} is not built: make workload"
    return subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False)


def facts(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split())


def own_namespaces() -> dict[str, str]:
    return {kind: str(Path("/proc/self/ns", kind).stat().st_ino) for kind in KINDS}


def need(*kinds: str) -> None:
    """Skip where this machine forbids namespaces (a container, a chroot); unshare(1) says whether it does."""
    probe = subprocess.run(
        ["unshare", *(f"--{kind}" for kind in kinds), "true"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"{' and '.join(kinds)} namespaces may not be made here")


def test_truth_carries_the_namespaces_the_process_is_in() -> None:
    done = run("truth", "-x", ECHO, "1", "mine")
    seen = facts(done.stdout)
    assert {kind: seen[kind] for kind in KINDS} == own_namespaces()
    assert seen["tag"] == "mine"
    assert seen["n"] == "0"
    assert seen["nspid"].split(",")[-1] == seen["self"]


def test_truth_leaf_exits_at_once_and_says_nothing() -> None:
    done = run("truth", "25")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_truth_numbers_are_distinct_over_all_tasks() -> None:
    done = run("truth", "-j", "3", "-x", ECHO, "4", "burst")
    lines = [facts(line) for line in done.stdout.splitlines()]
    assert sorted(int(line["n"]) for line in lines) == list(range(12))
    assert len({line["self"] for line in lines}) == 12


def test_truth_reports_a_child_that_failed() -> None:
    assert run("truth", "-x", "/bin/false", "2").returncode == 1
    assert run("truth", "-j", "2", "-x", "/bin/false", "1").returncode == 1


@pytest.mark.parametrize("how", ["unshare", "clone3"])
@pytest.mark.parametrize("user", [True, False])
def test_nsmake_makes_every_kind(how: str, *, user: bool) -> None:
    need("user" if user else "uts")
    kinds = "mnt,uts,ipc,net,pid,cgroup,time" + (",user" if user else "")
    done = run("nsmake", how, kinds, "--", TRUTH, "-x", ECHO, "1", "new")
    assert done.returncode == 0, done.stderr
    seen = facts(done.stdout)
    own = own_namespaces()
    assert [kind for kind in KINDS if seen[kind] == own[kind]] == ([] if user else ["user"])
    outer, inner = seen["nspid"].split(",")[-2:]
    assert inner == seen["self"]
    assert outer != inner


@pytest.mark.parametrize("how", ["unshare", "clone3"])
def test_nsmake_makes_only_what_is_asked_for(how: str) -> None:
    need("user", "uts")
    seen = facts(run("nsmake", how, "user,uts", "--", TRUTH, "-x", ECHO, "1").stdout)
    own = own_namespaces()
    assert {kind for kind in KINDS if seen[kind] != own[kind]} == {"user", "uts"}


@pytest.mark.parametrize("how", ["unshare", "clone3"])
@pytest.mark.parametrize("kinds", ["user", "user,pid"])
def test_nsmake_passes_the_status_on(how: str, kinds: str) -> None:
    need("user")
    assert run("nsmake", how, kinds, "--", "/bin/sh", "-c", "exit 7").returncode == 7


def test_nsmake_says_what_it_cannot_run() -> None:
    need("user")
    done = run("nsmake", "unshare", "user", "--", "no-such-program")
    assert done.returncode == 127
    assert f"errno {errno.ENOENT}" in done.stderr


def test_spin_runs_the_command_every_time(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    assert run("spin", "5", "/bin/sh", "-c", f"echo x >> {seen}").returncode == 0
    assert seen.read_text() == "x\n" * 5
    assert run("spin", "2", "/bin/false").returncode == 1


@pytest.mark.parametrize("rate", ["20", "0"])
def test_pace_says_how_many_it_started_and_in_which_time(rate: str) -> None:
    done = run("pace", rate, "1")
    assert done.returncode == 0, done.stderr
    count, passed = map(int, done.stdout.split())
    assert 1_000_000_000 <= passed < 20_000_000_000
    assert 0 < count <= 21 if rate == "20" else count > 21


@pytest.mark.parametrize("call", ["getppid", "openat", "fork"])
def test_sysloop_prints_a_rate_per_second(call: str) -> None:
    done = run("sysloop", "1", call)
    assert done.returncode == 0, done.stderr
    (rate,) = done.stdout.splitlines()
    assert int(rate) > (0 if call == "fork" else 1000)  # forks in a second are the machine's affair


@pytest.mark.parametrize("mode", ["inline", "iowq"])
def test_uring_opens_a_file(mode: str) -> None:
    done = run("uring", mode, "/etc/passwd")
    allowed = {0, errno.ENOSYS}
    if done.returncode == 1 and f"io_uring_setup: errno {errno.EPERM}" in done.stderr:
        assert Path("/proc/sys/kernel/io_uring_disabled").read_text().strip() != "0"
    else:
        assert done.returncode in allowed, done.stderr


def test_uring_reports_the_result_of_the_operation() -> None:
    done = run("uring", "inline", "/no/such/file")
    assert (done.returncode, done.stderr) == (1, f"/no/such/file: errno {errno.ENOENT}\n")


def test_family_counts_what_it_makes() -> None:
    command = [str(PROGRAMS / "family"), "20"]
    # CLONE_PARENT's children are the caller's: of a shell that ends with it.
    done = subprocess.run(
        ["sh", "-c", 'echo go | "$0" "$@"', *command], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 24, "three times round, eight each"
    assert run("family", "5", "/no/such/directory").stderr == f"/no/such/directory: errno {errno.ENOENT}\n"


@pytest.mark.parametrize("program", ["family", "truth", "nsmake", "pace", "spin", "sysloop", "uring"])
def test_a_wrong_command_line_is_a_usage_error(program: str) -> None:
    done = run(program)
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: {program} ")


def test_hostload_is_what_it_is_called() -> None:
    """Executed under another name it is one part, with its number; a name that has no part ends at once."""
    assert run("hostload").returncode == 2
    assert run("hostload", "none", "1").returncode == 2
    assert run("hostload", "12", "www-data").returncode == 0
