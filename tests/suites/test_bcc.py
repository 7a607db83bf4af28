# SPDX-License-Identifier: Apache-2.0
"""The second loader against the first: both at once over one workload, their events compared one by one.

On the kernels whose headers are at hand, in a guest of its own with one disk more; twice, the second time with
the kernel's BTF hidden. What is told beside the records is compared message by message (guest/bcc_pair.py). Each load
compiles for minutes under emulation: it is all left to `make soak-bcc`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.suites.live import Live, mismatches, truth_of
from tests.suites.rules import Rules
from tests.suites.staging import COMMAND, SHARE, install_bcc, installed
from tests.vm.bccdisk import ENTER, ensure_bcc_disk
from tests.vm.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.suites.live import Account, Json

SLOTS = ("5.10", "6.1")
TRUTH = f"{SHARE}/workload/truth"
NSMAKE = f"{SHARE}/workload/nsmake"
BURST, WITHOUT_EOE = 400, 50
KINDS_TO_MAKE = ("mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time")
HIDE_BTF = "mount -t tmpfs none /sys/kernel/btf\n"
pytestmark = pytest.mark.full
_COMPILES = 540.0  # seconds; most of it on a busy machine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Those slots that are among those chosen."""
    if "slot" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--kernel") or SLOTS
        slots = [
            pytest.param(slot, marks=(pytest.mark.kernel(slot), pytest.mark.vm))
            for slot in SLOTS
            if slot in chosen
        ]
        metafunc.parametrize("slot", slots, scope="module")


class Pair(NamedTuple):
    """The same workload by both loaders; events by id, those of before bcc's start and our own left out."""

    said: str
    account: Account
    first: dict[str, Json]
    second: dict[str, Json]


@pytest.fixture(scope="module")
def bcc_guest(slot: str, share: Path) -> Iterator[Guest]:
    with installed(slot, share, extra=ensure_bcc_disk(slot)) as machine:
        install_bcc(machine)
        yield machine


def inside(*hide: str) -> tuple[str, ...]:
    """The command in a mount namespace where bcc and the headers are installed."""
    return ("unshare", "--mount", "sh", "-c", f'{ENTER}{"".join(hide)}exec {COMMAND} "$@"', "sh")


def both(guest: Guest, *options: str, command: tuple[str, ...]) -> Pair:
    rules = Rules(guest)
    rules.clear()
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec")
    with (
        Live(guest, "--raw", "--no-self") as libbpf,
        Live(guest, "--raw", "--no-self", *options, command=command, patience=_COMPILES) as bcc,
    ):
        guest.run([TRUTH, "-j", "4", str(BURST // 4), "burst"], timeout=120, check=True)
        for kind in KINDS_TO_MAKE:
            guest.run([NSMAKE, "unshare", kind, "--", TRUTH, "1", f"new-{kind}"], check=True)
        nest = [NSMAKE, "clone3", "pid", "--"]
        guest.run([*nest * 7, TRUTH, "1", "deep-8"], check=True)
        guest.run(["auditctl", "-m", "a message of ours"], check=True)
        # Events that a rule cuts short: the SYSCALL record of auditctl's own sendto is dropped.
        rules.add("-a", "never,exit", "-F", "arch=b64", "-S", "sendto")
        rules.add("-a", "always,exit", "-F", "arch=b64", "-S", "swapoff", "-k", "orphan")
        rules.add("-a", "always,exclude", "-F", "msgtype=EOE")
        guest.run([TRUTH, str(WITHOUT_EOE), "without-eoe"], check=True)
        account = bcc.stop()
        libbpf.stop()
        assert "loader libbpf" in libbpf.said
        first, second = ({event["id"]: event for event in run.events()} for run in (libbpf, bcc))
    rules.clear()
    # Both ends of the second run lie within the first one; its own label is its process's.
    # Events of several tasks are not given out in the order of their serials.
    bounds = [serial(event["id"]) for event in second.values() if truth_of(event)]
    low, high = min(bounds), max(bounds)
    return Pair(
        bcc.said,
        account,
        *({k: v for k, v in each.items() if low <= serial(k) <= high} for each in (first, second)),
    )


def serial(event_id: str) -> int:
    return int(event_id.rpartition(":")[2])


@pytest.fixture(scope="module")
def with_btf(bcc_guest: Guest) -> Pair:
    return both(bcc_guest, "--loader", "bcc", command=inside())


@pytest.fixture(scope="module")
def without_btf(bcc_guest: Guest) -> Pair:
    return both(bcc_guest, command=inside(HIDE_BTF))


@pytest.fixture(params=["with_btf", "without_btf"])
def pair(request: pytest.FixtureRequest, slot: str) -> Pair:  # noqa: ARG001 - read by pytest_generate_tests
    found: Pair = request.getfixturevalue(request.param)
    return found


def context_of(event: Json) -> Json:
    """Everything that comes from the hook, and the records that it was joined with.

    What comes from lives and changes is left to `test_same_messages_beside_records`: of what was there before a start,
    bcc has no baseline.
    """
    found = {
        name: event.get(name)
        for name in ("time", "type", "namespaces", "subject", "cgroup", "records", "enrichment")
    }
    found["namespaces"] = {
        kind: {name: value for name, value in entry.items() if name != "life"}
        if isinstance(entry, dict)
        else entry
        for kind, entry in event.get("namespaces", {}).items()
        if kind not in {"change", "of"}
    }
    found["subject"] = {name: value for name, value in event.get("subject", {}).items() if name != "inside"}
    return found


def test_the_loader_is_bcc(pair: Pair) -> None:
    assert "loader bcc" in pair.said
    assert "self-test proved" in pair.said


def test_every_record_is_joined(pair: Pair) -> None:
    account = pair.account
    assert account.unmatched == 0, pair.said
    assert account.finished == account.delivered == account.joined
    assert (account.netlink_drops, account.contexts_dropped, account.tallies_dropped, account.failures) == (
        0,
        0,
        0,
        0,
    )
    assert account.incomplete == 0
    assert account.balanced


def test_namespaces_are_those_of_the_process(pair: Pair) -> None:
    truths = [(event, truth) for event in pair.second.values() if (truth := truth_of(event))]
    assert len(truths) == BURST + len(KINDS_TO_MAKE) + 1 + WITHOUT_EOE
    assert [line for event, truth in truths for line in mismatches(event, truth)] == []


def test_same_events_with_btf(with_btf: Pair) -> None:
    assert with_btf.first.keys() == with_btf.second.keys()
    for name, event in with_btf.first.items():
        assert context_of(with_btf.second[name]) == context_of(event)


def test_without_btf_one_fact_is_absent(without_btf: Pair) -> None:
    """Mount namespaces have no unique id, which the run says; everything else is as with libbpf."""
    assert "mount namespaces have no unique id" in without_btf.said
    assert without_btf.first.keys() == without_btf.second.keys()
    for name, event in without_btf.first.items():
        expected = context_of(event)
        assert expected["namespaces"]["mnt"].pop("id")
        assert context_of(without_btf.second[name]) == expected


def test_auto_says_that_it_compiles(without_btf: Pair) -> None:
    assert "compiled here with bcc" in without_btf.said


def beside(guest: Guest, *hide: str) -> dict[str, Any]:
    rules = Rules(guest)
    rules.clear()
    calls = "execve,unshare,setns,clone3,kill,pidfd_open"
    rules.add("-a", "always,exit", "-F", "arch=b64", "-S", calls, "-k", "pair")
    words = ["python3", f"{SHARE}/guest/bcc_pair.py", f"{SHARE}/workload"]
    script = f'{ENTER}{"".join(hide)}exec "$@"'
    enter = ["unshare", "--mount", "env", "PYTHONPATH=/usr/lib/audit-enricher", "sh", "-c", script, "sh"]
    done = guest.run([*enter, *words], timeout=_COMPILES, check=True)
    rules.clear()
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_same_messages_beside_records(bcc_guest: Guest) -> None:
    """Both at once: changes, lives, targets, refused messages, and who has a container identifier."""
    said = beside(bcc_guest)
    assert {name for name, why in said["families"].items() if why} == {"baseline", "packets"}, said[
        "families"
    ]
    for kind in ("Context", "Tally", "Link", "Change", "Target", "NamespaceLife", "Refused"):
        assert said[kind]["both"] > 0, (kind, said)
        assert (said[kind]["bcc"], said[kind]["libbpf"]) == ([], []), (kind, said)
    assert said["identified"] > 0
    assert said["counters"] == {}


def test_without_btf_what_needs_it_is_absent(bcc_guest: Guest) -> None:
    said = beside(bcc_guest, HIDE_BTF)
    absent = {name for name, why in said["families"].items() if why}
    assert absent == {"baseline", "lives", "packets", "targets"}, said["families"]
    assert not {"Link", "NamespaceLife", "Target"} & said["all"].keys()
    assert said["all"]["Change"] > 0
    assert said["all"]["Refused"] > 0


def refused(guest: Guest, *argv: str) -> tuple[int, str]:
    done = guest.run([*argv, "run", "--format", "json", "--loader", "bcc", "--for", "1s"], timeout=120)
    said = done.stderr.decode()
    assert "Traceback" not in said
    assert said.count("\n  hint: ") == 1
    return done.returncode, said


def test_bcc_is_not_installed(bcc_guest: Guest) -> None:
    status, said = refused(bcc_guest, COMMAND)
    assert status == 2, said
    assert "python3-bpfcc" in said


def test_headers_are_not_installed(bcc_guest: Guest) -> None:
    status, said = refused(bcc_guest, *inside("umount /usr/lib/modules\n"))
    assert status == 6, said
    assert f"linux-headers-{bcc_guest.version}" in said
