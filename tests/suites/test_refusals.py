# SPDX-License-Identifier: Apache-2.0
"""Where it cannot work it says why in one message with a hint, and ends with the documented status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.suites.staging import COMMAND

if TYPE_CHECKING:
    from tests.vm.guest import Completed, Guest

pytestmark = pytest.mark.only_on("5.10")

RUN = (COMMAND, "run", "--format", "json", "--for", "1s")


def refused(guest: Guest, *argv: str) -> Completed:
    done = guest.run(list(argv), timeout=60)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.stderr.count(b"\n  hint: ") <= 1
    assert done.stdout == b""
    return done


@pytest.mark.parametrize(
    ("capability", "named"),
    [
        ("cap_audit_read", b"CAP_AUDIT_READ"),
        pytest.param("cap_audit_write", b"CAP_AUDIT_WRITE", marks=pytest.mark.full),
        ("cap_bpf", b"CAP_BPF"),
    ],
)
def test_missing_capability(guest: Guest, capability: str, named: bytes) -> None:
    # CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON, so it goes as well.
    dropped = f"-{capability},-sys_admin" if capability == "cap_bpf" else f"-{capability}"
    bounding = dropped.replace("-cap_", "-")
    done = refused(guest, "setpriv", f"--bounding-set={bounding}", f"--inh-caps={bounding}", *RUN)
    assert done.returncode == 3, done.stderr.decode()
    assert named in done.stderr
    assert b"hint: " in done.stderr


def test_the_documented_capabilities_are_enough(guest: Guest) -> None:
    """README's table, the optional ones left out; 5.10 charges BPF memory to the locked-memory limit.

    A kprobe is a perf event, and Debian's kernels (perf_event_paranoid 3) ask CAP_SYS_ADMIN for those.
    """
    needed = "-all,+audit_read,+audit_write,+bpf,+perfmon"
    limited = (
        "prlimit",
        "--memlock=unlimited",
        "setpriv",
        f"--bounding-set={needed}",
        f"--inh-caps={needed}",
    )
    paranoid = guest.run(["sysctl", "-n", "kernel.perf_event_paranoid"], check=True).stdout.decode().strip()
    guest.run(["sysctl", "-q", "kernel.perf_event_paranoid=2"], check=True)
    try:
        done = guest.run([*limited, *RUN], timeout=60)
    finally:
        guest.run(["sysctl", "-q", f"kernel.perf_event_paranoid={paranoid}"], check=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"self-test proved" in done.stderr
    assert b"which namespaces there were" not in done.stderr, done.stderr.decode()


def test_ordinary_user(guest: Guest) -> None:
    done = refused(guest, "setpriv", "--reuid=tester", "--clear-groups", *RUN)
    assert done.returncode == 3, done.stderr.decode()
    assert b"CAP_" in done.stderr


@pytest.mark.parametrize(
    ("unshare", "word"),
    [
        pytest.param(("--net",), b"network", marks=pytest.mark.full),
        (("--user", "--map-root-user"), b"user"),
        pytest.param(("--pid", "--fork", "--mount-proc"), b"pid", marks=pytest.mark.full),
    ],
)
def test_another_namespace(guest: Guest, unshare: tuple[str, ...], word: bytes) -> None:
    done = refused(guest, "unshare", *unshare, *RUN)
    assert done.returncode == 4, done.stderr.decode()
    assert word in done.stderr
    assert b"hint: " in done.stderr


def test_no_btf(guest: Guest) -> None:
    """A mount over the directory hides it, as a kernel without CONFIG_DEBUG_INFO_BTF would."""
    hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    done = refused(guest, "unshare", "--mount", "sh", "-c", hide, "sh", *RUN)
    assert done.returncode == 6, done.stderr.decode()
    assert b"BTF" in done.stderr
    assert b"hint: " in done.stderr


def test_no_hook(guest: Guest) -> None:
    """A symbol that this kernel does not have, asked for by name."""
    has_part = guest.run(["grep", "-q", " audit_log_end.part.0$", "/proc/kallsyms"]).returncode == 0
    if has_part:
        # Here every hook can be attached; that the plain one is not enough is tested elsewhere.
        symbols = guest.run(["grep", "-c", "audit_log_end", "/proc/kallsyms"]).stdout
        assert int(symbols) >= 2
        return
    done = refused(guest, *RUN, "--hook", "audit_log_end.part.0")
    assert done.returncode == 7, done.stderr.decode()
    assert b"hint: " in done.stderr


def test_output_that_cannot_be_written(guest: Guest) -> None:
    done = refused(guest, *RUN, "--output", "/nowhere/events.json")
    assert done.returncode == 9, done.stderr.decode()


def test_output_is_private(guest: Guest) -> None:
    path = "/run/private.json"
    guest.run(["sh", "-c", f"umask 0; {' '.join(RUN)} --output {path}"], timeout=60, check=True)
    assert guest.run(["stat", "-c", "%a", path]).stdout.strip() == b"600"


def test_plain_symbol_is_found_out(guest: Guest) -> None:
    """Where GCC split audit_log_end, forcing the plain symbol makes the self-test fail; elsewhere it is right."""
    split = guest.run(["grep", "-q", " audit_log_end.part.0$", "/proc/kallsyms"]).returncode == 0
    done = guest.run([*RUN, "--hook", "audit_log_end"], timeout=60)
    assert done.returncode == (8 if split else 0), done.stderr.decode()
    assert (b"no hook sees every audit record" in done.stderr) == split


@pytest.mark.parametrize("hook", ["skb_queue_tail"])
def test_last_resort_works(guest: Guest, hook: str) -> None:
    done = guest.run([*RUN, "--hook", hook], timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert b"self-test proved" in done.stderr
    assert b"every record is accounted for" in done.stderr


def test_says_what_is_missing_for_records(guest: Guest) -> None:
    """No rule: it says so, and how to change that."""
    done = guest.run(list(RUN), timeout=60)
    assert b"no audit rule" in done.stderr
    assert b"auditctl" in done.stderr


def test_audit_off(guest: Guest) -> None:
    guest.run(["auditctl", "-e", "0"], check=True)
    try:
        done = guest.run(list(RUN), timeout=60)
    finally:
        guest.run(["auditctl", "-e", "1"], check=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"audit is off" in done.stderr
    assert b"auditctl -e 1" in done.stderr
