# SPDX-License-Identifier: Apache-2.0
"""The commands ``contid`` and ``exec``: what they ask for, what they show, and how they end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enricher.cli import main
from enricher.facts import CONTID_UNSET
from tests.lint.tree import ROOT
from tests.unit.fake_contid import FakeStore
from tests.unit.test_contid_socket import Rig

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store() -> Iterator[FakeStore]:
    made = FakeStore()
    yield made
    made.close()


@pytest.fixture
def rig(tmp_path: Path, store: FakeStore) -> Iterator[Rig]:
    made = Rig(tmp_path / "sock", store)
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command as a process, whose parent this one is."""
    env = {**os.environ, "AUDIT_ENRICHER_CONTID_SOCKET": str(tmp_path / "sock")}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "enricher", *words],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    yield made
    made.communicate()


def test_set_get_list_grant(rig: Rig, store: FakeStore, run: Run, child: subprocess.Popen[bytes]) -> None:
    pid = str(child.pid)
    done = run("contid", "set", pid, "4", "--orchestrator", "--engine-id", "abc", "--engine-name", "web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")
    [(op, caller, *rest)] = store.asked
    assert (op, caller, *rest) == ("set", os.getpid(), child.pid, 4, True, 0)
    engine = rig.log.take()[0].engine
    assert engine is not None
    assert (engine.id, engine.name, engine.image) == ("abc", "web", "")
    store.chains[child.pid] = (4, 2, 1)
    assert run("contid", "get", pid).stdout == "4\n2\n1\n"
    assert run("contid", "list").stdout == f"4,^2,^1  1 processes, set by {child.pid}\n"
    assert run("contid", "grant", pid).returncode == 0
    assert store.asked[-1] == ("grant", os.getpid(), child.pid)


@pytest.mark.usefixtures("rig")
def test_a_refusal_has_its_exit_code_and_a_hint(store: FakeStore, run: Run) -> None:
    store.fails = errno.EXDEV
    done = run("contid", "set", str(os.getpid()), "4")
    assert (done.returncode, done.stdout) == (14, "")
    assert "(EXDEV)" in done.stderr
    assert "hint: the target has to be a descendant" in done.stderr


def test_off_says_which_setting(run: Run) -> None:
    done = run("contid", "list")
    assert done.returncode == 13
    assert "contid is off" in done.stderr
    assert "contid.enabled" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["set", "1"], ["set"], ["get"], ["get", "1", "4"], ["list", "1"], ["grant"], ["set", "1", "x"],
        ["set", "1", str(CONTID_UNSET + 1)], ["set", "1", "-1"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main.main(["contid", *words])
    except SystemExit as end:  # argparse's own
        code = int(str(end.code))
    assert code == 2
    assert capsys.readouterr().err


# -- exec --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rig")
def test_the_identifier_is_there_before_the_program(store: FakeStore, run: Run) -> None:
    done = run("exec", "--contid", "7", "--", "/bin/sh", "-c", "echo $$; exit 5")
    assert (done.returncode, done.stderr) == (5, "")
    pid = int(done.stdout)
    [(op, caller, target, contid, orchestrator, cgroup)] = store.asked
    assert (op, target, contid, orchestrator, cgroup) == ("set", pid, 7, False, 0)
    assert caller not in (pid, os.getpid())  # the command itself is the owner


@pytest.mark.usefixtures("rig")
def test_one_within_another(store: FakeStore, run: Run) -> None:
    """Each is its own child's owner: the outer program is the inner command."""
    again = [sys.executable, "-m", "enricher", "exec", "--contid"]
    done = run("exec", "--contid", "1", "--", *again, "2", "--", *again, "4", "--", "/bin/sh", "-c", "exit 6")
    assert (done.returncode, done.stderr) == (6, "")
    assert [asked[3] for asked in store.asked] == [1, 2, 4]
    callers, targets = [asked[1] for asked in store.asked], [asked[2] for asked in store.asked]
    assert callers[1:] == targets[:-1], "who was set asks for the next"


@pytest.mark.usefixtures("rig")
def test_without_the_identifier_it_is_not_run(store: FakeStore, run: Run, tmp_path: Path) -> None:
    store.fails = errno.EPERM
    made = tmp_path / "made"
    done = run("exec", "--contid", "7", "--", "/usr/bin/touch", str(made))
    assert (done.returncode, made.exists()) == (14, False)
    done = run("exec", "--contid", "7", "--or-without", "--", "/usr/bin/touch", str(made))
    assert (done.returncode, made.exists()) == (0, True)
    assert "no container identifier" in done.stderr


def test_without_a_service_it_is_not_run_either(run: Run, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert run("exec", "--contid", "7", "--", "/usr/bin/touch", str(made)).returncode == 13
    assert not made.exists()
    assert run("exec", "--contid", "auto", "--or-without", "--", "/usr/bin/touch", str(made)).returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["/no/such"], 127),
        (["/etc/passwd"], 126),
        (["/bin/sh", "-c", "kill -9 $$"], 128 + signal.SIGKILL),
        ([], 2),
    ],
)
@pytest.mark.usefixtures("rig")
def test_how_it_ends(run: Run, words: list[str], code: int) -> None:
    assert run("exec", "--contid", "7", "--", *words).returncode == code


def test_signals_are_passed_on(rig: Rig) -> None:
    env = {**os.environ, "AUDIT_ENRICHER_CONTID_SOCKET": rig.path}
    script = "trap 'echo told; exit 3' TERM; echo ready; while :; do read x || exit 9; done"
    with subprocess.Popen(
        [sys.executable, "-m", "enricher", "exec", "--contid", "7", "--", "/bin/bash", "-c", script],
        cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.readline() == b"told\n"
        assert process.wait(30) == 3
