# SPDX-License-Identifier: Apache-2.0
"""Signals: one ends a run in order, the second ends the process, SIGUSR1 asks for the account and nothing else."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from enricher.cli.options import Signals


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_wakes(number: signal.Signals) -> None:
    with Signals() as signals:
        before = signals.stopped
        signal.raise_signal(number)
        assert (before, signals.stopped) == (False, True)
        assert readable(signals.fd)
        assert not signals.take_report()


def test_a_report_is_asked_for_once() -> None:
    with Signals() as signals:
        for _ in range(2):
            assert not signals.take_report()
            assert not readable(signals.fd)
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert readable(signals.fd)
            assert signals.take_report()
            assert not readable(signals.fd), "it would never be woken again by an edge"
        assert not signals.stopped


def test_a_report_hides_no_stop() -> None:
    """The pipe is emptied for both."""
    with Signals() as signals:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGINT)
        assert signals.take_report()
        assert signals.stopped


def test_more_signals_than_the_pipe_holds() -> None:
    with Signals() as signals:
        for _ in range(70_000):
            signal.raise_signal(signal.SIGUSR1)
        assert signals.take_report()
        signal.raise_signal(signal.SIGUSR1)
        assert signals.take_report()


def test_a_reload_is_asked_for_once_and_only_where_it_is_wanted() -> None:
    with Signals(reload=True) as signals:
        assert not signals.take_reload()
        signal.raise_signal(signal.SIGHUP)
        assert not signals.take_report()
        assert readable(signals.fd)
        assert signals.take_reload()
        assert not signals.take_reload()
        assert not readable(signals.fd)
    before = signal.getsignal(signal.SIGHUP)
    with Signals():
        assert signal.getsignal(signal.SIGHUP) == before


def test_all_is_as_before() -> None:
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in caught]
    with Signals() as signals:
        during = [signal.getsignal(number) for number in caught]
    assert before == [signal.getsignal(number) for number in caught] != during
    assert signal.set_wakeup_fd(-1) == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(signals.fd)


TWICE = """if True:
    import signal, sys
    from enricher.cli.options import Signals
    with Signals() as signals:
        signal.raise_signal(signal.{first})
        print("still here", signals.stopped, flush=True)
        signal.raise_signal(signal.{second})
        print("and here", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")]
)
def test_the_second_ends_the_process(first: str, second: str) -> None:
    script = TWICE.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.Signals[second]
    assert done.stdout == "still here True\n"


def test_another_is_no_insisting_where_several_are_sent() -> None:
    """As by auditd, which signals its plugins when it ends, and by systemd when auditd has ended."""
    script = TWICE.format(first="SIGTERM", second="SIGTERM").replace("Signals()", "Signals(once=True)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here True\nand here\n")


def test_a_report_is_not_the_second() -> None:
    script = TWICE.format(first="SIGUSR1", second="SIGINT")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here False\nand here\n")


BLOCKED = """if True:
    import os, sys
    from enricher.cli.options import Signals
    from enricher.sinks.stream import StdoutSink
    with Signals() as signals:
        os.set_blocking(1, False)
        try:
            while True:
                os.write(1, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(1, True)
        print("full", file=sys.stderr, flush=True)
        StdoutSink().write([b"y" * 100_000])
"""


def test_insisting_ends_a_run_whose_output_is_blocked() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == b"full\n"
        while child.poll() is None:
            child.send_signal(signal.SIGINT)
        assert child.returncode == -signal.SIGINT
