# SPDX-License-Identifier: Apache-2.0
"""`doctor` on real kernels: each thing that a guest can be made to lack or to lose is found, and nothing else.

Rows do not depend on each other, so what does not interfere is provoked at once: a start takes two emulated
seconds. Everything is provoked on one kernel; on the others what kernels differ in, and with --full the rest.
What cannot be undone before the next boot (lockdown, audit=0, ftrace) is pretended here: a file of ours lies over
the kernel's, in a mount namespace that only the command sees. audit=0 is real in test_without_audit.py, lockdown and
the hierarchies of cgroup v1 in test_cgroup_v1.py, which have boots of their own. PREEMPT_RT is pretended as well:
Debian has such kernels, none is run. Everything else is real, and put back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.suites.live import Live
from tests.suites.rules import Rules
from tests.suites.staging import COMMAND
from tests.suites.test_beside_auditd import settings
from tests.vm.guest import Guest

PART = "audit_log_end.part.0"
FAKES = "/run/doctor-fakes"
KPROBES = "/sys/kernel/debug/kprobes/enabled"
LIMITED = ("prlimit", "--memlock=unlimited", "setpriv")
EXIT_CODES = {"works": 0, "loses": 10, "fails": 11}
# In one process: where each were one of its own, a slow machine would not make two in a second.
_TWENTY = (
    "import socket, struct\n"
    "with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:\n"
    "    for _ in range(20):\n"
    "        audit.sendto(struct.pack('=IHHII', 20, 1005, 1, 0, 0) + b'one\\0', (0, 0))\n"
)
NO_LOAD = {"self-test": "unknown"}
ENDS = pytest.mark.only_on(
    "5.10", "newest"
)  # memory counts as locked on the one, the hook is a kprobe on the other
ONE_KERNEL = pytest.mark.only_on("6.12")
"""For rows that any kernel answers in the same way: the whole list takes a minute or more under emulation."""
Rows = dict[str, dict[str, Any]]
Pretend = Callable[[dict[str, bytes]], tuple[str, ...]]


def doctor(guest: Guest, *before: str, load: bool = False) -> Rows:
    """The rows by name. Checks the form, that nothing goes to standard error, and exit code and verdict."""
    done = guest.run([*before, COMMAND, "doctor", "--json", *([] if load else ["--no-load"])], timeout=120)
    assert done.stderr == b"", done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["schema"] == "audit-enricher-doctor/1"
    states = {row["state"] for row in told["rows"]}
    expected = "fails" if "fail" in states else "works" if states == {"ok"} else "loses"
    assert (told["verdict"], done.returncode) == (expected, EXIT_CODES[expected])
    return {row["name"]: row for row in told["rows"]}


def not_ok(rows: Rows) -> dict[str, str]:
    return {name: row["state"] for name, row in rows.items() if row["state"] != "ok"}


def in_state(rows: Rows, state: str) -> set[str]:
    return {name for name, row in rows.items() if row["state"] == state}


@pytest.fixture
def recording(rules: Rules) -> Rules:
    """A rule that records, so that nothing is wrong with the rules."""
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "unshare", "-k", "doctor")
    return rules


@pytest.fixture
def split(guest: Guest) -> bool:
    """Whether the hook is a kprobe here."""
    return guest.run(["grep", "-q", f" {PART}$", "/proc/kallsyms"]).returncode == 0


@pytest.fixture
def pretend(guest: Guest) -> Iterator[Pretend]:
    """Makes a prefix for a command that finds other contents in files of the kernel."""

    def make(contents: dict[str, bytes]) -> tuple[str, ...]:
        guest.run(["mkdir", "-p", FAKES], check=True)
        binds = []
        for i, (path, content) in enumerate(contents.items()):
            guest.put(f"{FAKES}/{i}", content)
            binds.append(f"mount --bind {FAKES}/{i} {path}")
        return ("unshare", "--mount", "sh", "-c", " && ".join([*binds, 'exec "$@"']), "sh")

    yield make
    guest.run(["rm", "-rf", FAKES], check=True)


@pytest.fixture
def tunable(guest: Guest) -> Iterator[Callable[[str, int], None]]:
    """Sets a sysctl, or another file with a number, until the test has ended."""
    before: dict[str, bytes] = {}

    def put(path: str, value: int) -> None:
        before.setdefault(path, guest.run(["cat", path], check=True).stdout)
        guest.run(["sh", "-c", f"echo {value} > {path}"], check=True)

    yield put
    for path, value in before.items():
        guest.run(["sh", "-c", f"cat > {path}"], input=value, check=True)


# -- a host on which all is well ---------------------------------------------------------------------


def test_all_is_well_and_nothing_is_changed(
    guest: Guest,
    recording: Rules,
    split: bool,  # noqa: FBT001 - a fixture
) -> None:
    """With a rule for each filter that takes nothing away."""
    recording.add("-a", "always,exclude", "-F", "msgtype=EOE")
    recording.add("-a", "never,exit", "-F", "arch=b64", "-S", "setns")
    before = settings(guest)
    rows = doctor(guest, load=True)
    assert not_ok(rows) == {}, rows
    hook = PART if split else "audit_log_end"
    assert f"proved, hook {hook}, loader libbpf," in rows["self-test"]["detail"]
    assert rows["hook"]["detail"].startswith(f"{hook} (")
    assert ("not needed" in rows["kprobes"]["detail"]) != split
    assert rows["loader"]["detail"].startswith("auto chooses libbpf: libbpf v")
    assert "audit_log_lost" in rows["loss-causes"]["detail"]
    assert rows["excluded-types"]["detail"] == "never written: EOE; EOE is not needed"
    assert guest.version in rows["kernel"]["detail"]
    assert rows["audit-probes"]["detail"] == "nobody else probes audit's functions"
    assert "nobody" in rows["listeners"]["detail"]
    assert settings(guest) == before
    assert guest.run(["sh", "-c", f"grep -c '{hook}' /sys/kernel/tracing/enabled_functions"]).stdout == b"0\n"


@ONE_KERNEL
@pytest.mark.usefixtures("rules")
def test_without_rules_in_the_table_for_people(guest: Guest) -> None:
    done = guest.run([COMMAND, "doctor", "--no-load"], timeout=60)
    assert done.returncode == 10
    lines = done.stdout.decode().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("rules "))
    assert lines[at].split()[1] == "warn"
    assert lines[at + 1].strip().startswith("hint: load rules")
    assert lines[-1].startswith("verdict: loses: ")
    states = {line.split()[0]: line.split()[1] for line in lines if line and not line[0].isspace()}
    del states["verdict:"]
    assert {name: state for name, state in states.items() if state != "ok"} == NO_LOAD | {"rules": "warn"}


# -- audit's state and rules -------------------------------------------------------------------------


@pytest.fixture
def limited(guest: Guest) -> Iterator[None]:
    """Audit is off, and all that limits it is as small as can be."""
    _, before = settings(guest)
    try:
        for change in (("-e", "0"), ("-r", "100"), ("-b", "1"), ("--backlog_wait_time", "0")):
            guest.run(["auditctl", *change], check=True)
        yield
    finally:
        for option, name in (
            ("-b", b"backlog_limit"),
            ("-r", b"rate_limit"),
            ("--backlog_wait_time", b"backlog_wait_time"),
            ("-e", b"enabled"),
        ):
            guest.run(["auditctl", option, before[name].decode()], check=True)
        assert settings(guest)[1] == before


@ONE_KERNEL
@pytest.mark.usefixtures("recording", "limited")
def test_every_setting_of_audit(guest: Guest, pretend: Pretend) -> None:
    """That it was booted with audit=0 is pretended, since then there would be no audit to ask; the rest is real."""
    rows = doctor(guest, *pretend({"/proc/cmdline": b"root=/dev/vda audit=0\n"}))
    found = {
        "audit": ("warn", "off"),
        "audit-rate-limit": ("warn", "more than 100 records"),
        "audit-backlog": ("warn", "the limit is 1:"),
        "audit-backlog-wait": ("warn", "lost at once"),
        "audit-boot": ("fail", "booted with audit=0"),
    }
    assert not_ok(rows) == NO_LOAD | {name: state for name, (state, _) in found.items()}
    for name, (_, words) in found.items():
        assert words in rows[name]["detail"]
        assert rows[name]["hint"]


@ONE_KERNEL
def test_every_kind_of_rule(guest: Guest, recording: Rules) -> None:
    recording.add("-a", "never,task")
    recording.add("-A", "exit,never", "-S", "all")
    recording.add("-a", "always,exclude", "-F", "msgtype=CWD")
    recording.add("-a", "always,exclude", "-F", "msgtype>=1321", "-F", "msgtype<=1323")
    recording.add("-a", "always,exclude", "-F", "msgtype=PATH", "-F", "auid=1000")
    rows = doctor(guest)
    warned = {"rule-task-never": "warn", "rules-swallowed": "warn", "excluded-types": "warn"}
    assert not_ok(rows) == NO_LOAD | warned
    assert "never,task" in rows["rule-task-never"]["detail"]
    assert "1 rules do nothing" in rows["rules-swallowed"]["detail"]
    assert rows["excluded-types"]["detail"] == (
        "never written: CWD, BPRM_FCAPS, CAPSET, MMAP; not written for some tasks: PATH"
    )


@ONE_KERNEL
def test_without_user_avc_nothing_is_proved(guest: Guest, recording: Rules) -> None:
    recording.add("-a", "always,exclude", "-F", "msgtype=USER_AVC")
    recording.add("-a", "never,user", "-F", "uid=1")
    rows = doctor(guest, load=True)
    assert not_ok(rows) == {"excluded-types": "warn", "self-test": "warn"}
    assert "on neither side" in rows["self-test"]["detail"]
    assert "self-test cannot prove" in rows["excluded-types"]["hint"]
    assert "never written: USER_AVC; not written for some tasks: USER, " in rows["excluded-types"]["detail"]


@ONE_KERNEL
@pytest.mark.usefixtures("auditd", "recording")
def test_beside_auditd_and_another_listener(guest: Guest) -> None:
    """And with records that the kernel lost to its rate limit since the boot, which only counts while auditd runs."""
    guest.run(["auditctl", "-r", "1"], check=True)
    guest.run(["python3", "-c", _TWENTY], check=True)
    guest.run(["auditctl", "-r", "0"], check=True)
    with Live(guest) as live:
        asked = guest.run(["auditctl", "-s"], check=True).stdout.decode().split()
        lost = int(asked[asked.index("lost") + 1])
        rows = doctor(guest)
        live.stop()
    guest.run(["auditctl", "--reset-lost"], check=True)
    assert not_ok(rows) == NO_LOAD | {"audit-lost": "warn"}
    assert lost > 0
    assert rows["audit-lost"]["detail"].startswith(f"{lost} records lost by the kernel's count since boot")
    assert rows["audit-lost"]["hint"]
    assert rows["auditd"]["detail"].endswith(", auditd")
    assert "1 sockets" in rows["listeners"]["detail"]
    assert "audit-enricher (" in rows["listeners"]["detail"]
    assert "others probe" in rows["audit-probes"]["detail"]
    assert "audit_log_end" in rows["audit-probes"]["detail"]


# -- what this process may do, and where it stands ---------------------------------------------------


@ENDS
def test_ordinary_user(guest: Guest, split: bool) -> None:  # noqa: FBT001 - a fixture
    """No capability at all: it starts, fills every row, and does not claim what it cannot see."""
    rows = doctor(guest, *LIMITED, "--reuid=tester", "--clear-groups", load=True)
    failing = {"cap-audit-read", "cap-bpf", "cap-perfmon", "cap-audit-write", "self-test"}
    if split:
        failing |= {"kprobes", "cap-sys-admin"}
    assert in_state(rows, "fail") == failing
    assert in_state(rows, "warn") == {
        "cap-audit-control",
        "cap-net-admin",
        "cap-sys-ptrace",
        "cap-dac-override",
    }
    for name in ("audit", "rules", "excluded-types", "audit-probes", "net-namespace"):
        assert rows[name]["state"] == "unknown"
    assert "CAP_AUDIT_CONTROL" in rows["audit"]["detail"]
    assert "CAP_AUDIT_READ" in rows["self-test"]["detail"]
    assert "not known" in rows["listeners"]["detail"] or "nobody" in rows["listeners"]["detail"]


@ENDS
def test_the_documented_capabilities(
    guest: Guest,
    tunable: Callable[[str, int], None],
    split: bool,  # noqa: FBT001 - a fixture
) -> None:
    """They are enough, but for a kprobe at level 3 of Debian's kernels, and for 5.10's memory, which counts as locked.

    The rows that tell, and the start-up, say the same.
    """
    needed = "-all,+audit_read,+audit_write,+bpf,+perfmon"
    limited = ("setpriv", f"--bounding-set={needed}", f"--inh-caps={needed}")
    charged = guest.run(["grep", "-q", " bpf_map_charge_init$", "/proc/kallsyms"]).returncode == 0
    trials = [
        (2, "unlimited", set[str]()),
        (3, "unlimited", {"kprobes", "cap-sys-admin", "self-test"}),
        (3, "65536", {"memlock", "self-test"} if charged else set[str]()),
    ]
    for paranoid, locked, refused in trials[:2] if split else trials[2:]:
        tunable("/proc/sys/kernel/perf_event_paranoid", paranoid)
        rows = doctor(guest, "prlimit", f"--memlock={locked}:{locked}", *limited, load=True)
        assert in_state(rows, "fail") == refused, rows


@ONE_KERNEL
@pytest.mark.parametrize(
    ("unshare", "name"),
    [
        (("--net",), "net-namespace"),
        (("--user", "--map-root-user"), "user-namespace"),
        (("--pid", "--fork", "--mount-proc"), "pid-namespace"),
    ],
)
def test_another_namespace(guest: Guest, unshare: tuple[str, ...], name: str) -> None:
    rows = doctor(guest, "unshare", *unshare, load=True)
    assert rows[name]["state"] == rows["self-test"]["state"] == "fail"
    others = {"user-namespace", "pid-namespace", "net-namespace"} - {name}
    assert not others & in_state(rows, "fail")
    assert rows["listeners"]["state"] == ("unknown" if name == "net-namespace" else "ok")


# -- what the kernel offers --------------------------------------------------------------------------


@ENDS
def test_btf_is_hidden(guest: Guest) -> None:
    """As on a kernel that was built without it."""
    hide = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")
    rows = doctor(guest, *hide, load=True)
    assert "does not exist" in rows["btf"]["detail"]
    assert "auto chooses libbpf" in rows["loader"]["detail"]
    assert {"btf", "loader", "self-test"} == in_state(rows, "fail")


@ONE_KERNEL
def test_btf_is_none(guest: Guest, pretend: Pretend) -> None:
    rows = doctor(guest, *pretend({"/sys/kernel/btf/vmlinux": b""}), load=True)
    assert rows["btf"]["state"] == rows["self-test"]["state"] == "fail"
    assert rows["hook"]["state"] == rows["ending-hooks"]["state"] == rows["loss-causes"]["state"] == "unknown"


@pytest.mark.only_on("6.12", "newest")
@pytest.mark.usefixtures("recording")
def test_kprobes_switched_off_and_addresses_hidden(
    guest: Guest,
    tunable: Callable[[str, int], None],
    split: bool,  # noqa: FBT001 - a fixture
) -> None:
    """A kprobe would show nothing, and the start-up takes the last resort. kptr_restrict never matters."""
    tunable("/proc/sys/kernel/kptr_restrict", 2)
    tunable(KPROBES, 0)
    rows = doctor(guest, load=split)
    assert not_ok(rows) == ({"kprobes": "warn", "self-test": "warn"} if split else NO_LOAD)
    assert ("hook skb_queue_tail" in rows["self-test"]["detail"]) == split
    assert rows["kptr-restrict"]["detail"].startswith("2;")


@ONE_KERNEL
@pytest.mark.usefixtures("recording")
def test_settings_of_the_kernel_all_pretended(guest: Guest, pretend: Pretend) -> None:
    prefix = pretend(
        {
            "/sys/kernel/security/lockdown": b"none integrity [confidentiality]\n",
            "/proc/sys/kernel/version": b"#1 SMP PREEMPT_RT made up\n",
            "/proc/sys/net/core/bpf_jit_enable": b"0\n",
            "/proc/cmdline": b"quiet\n",
        }
    )
    rows = doctor(guest, *prefix)
    warned = dict.fromkeys(("preempt-rt", "bpf-jit", "audit-boot"), "warn")
    assert not_ok(rows) == NO_LOAD | warned | {"lockdown": "fail"}


@ONE_KERNEL
@pytest.mark.usefixtures("recording")
def test_nothing_is_attached_where_ftrace_is_off(guest: Guest, pretend: Pretend) -> None:
    """Pretended: really switched off, attaching and detaching would break the guest for all other tests."""
    prefix = pretend(
        {
            "/proc/sys/kernel/ftrace_enabled": b"0\n",
            "/sys/kernel/security/lockdown": b"\x1b]0;\x07\xff",
        }
    )
    rows = doctor(guest, *prefix, load=True)
    assert not_ok(rows) == {"ftrace": "fail", "self-test": "fail", "lockdown": "unknown"}
    assert "ftrace_enabled is 0" in rows["self-test"]["detail"]
