# SPDX-License-Identifier: Apache-2.0
"""The main job on a real kernel: every record with the namespaces of its task, from kernel context.

One run per kernel (tests/suites/main_job.py), looked at from many sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from enricher.model import KINDS
from tests.suites.conftest import MANY_CPUS
from tests.suites.corpus import keep, replayed
from tests.suites.live import mismatches
from tests.suites.main_job import KINDS_TO_MAKE, WITHOUT_EOE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.suites.live import Json
    from tests.suites.main_job import Job
    from tests.vm.guest import Guest


def test_every_record_is_joined(job: Job, record_property: Callable[[str, object], None]) -> None:
    account = job.account
    wrong = [line for event, truth in job.truths for line in mismatches(event, truth)]
    record_property("release", job.version)
    record_property(
        "figures",
        f"hook {job.hook}: {account.finished} records finished, {account.delivered} delivered,"
        f" {account.joined} joined, {account.unmatched} unmatched, {len(wrong)} namespace mismatches"
        f" in {len(job.truths)} checked events",
    )
    assert account.unmatched == 0, job.said
    assert account.finished == account.delivered == account.joined
    assert (account.netlink_drops, account.contexts_dropped, account.tallies_dropped, account.failures) == (
        0,
        0,
        0,
        0,
    )
    assert account.hook_records == account.counted
    assert account.misses in (0, None)
    assert account.balanced
    assert account.incomplete == 0, [
        event["enrichment"] for event in job.events if not event["enrichment"]["complete"]
    ]


def test_replay_writes_the_same_bytes(job: Job, kernel: str, tmp_path: Path) -> None:
    """On another host, which knows nothing of the guest; twice. What the guest's run wrote is the third."""
    first = replayed(job.capture, tmp_path / "first.json", raw=True)
    second = replayed(job.capture, tmp_path / "second.json", raw=True)
    assert first == second
    assert first == job.output
    keep(f"job-{kernel}", job.capture)


def test_namespaces_are_those_of_the_process(job: Job) -> None:
    wrong = [line for event, truth in job.truths for line in mismatches(event, truth)]
    assert wrong == []


def test_no_short_lived_process_is_missed(job: Job) -> None:
    numbers = sorted(truth.number for _, truth in job.tagged("burst"))
    assert numbers == list(range(job.bursts))


@pytest.mark.parametrize("call", ["unshare", "clone3"])
@pytest.mark.parametrize("kind", KINDS_TO_MAKE)
def test_new_namespace(job: Job, call: str, kind: str) -> None:
    """The one kind is not the host's any more, all others are."""
    ((event, _),) = job.tagged(f"{call}-{kind}")
    foreign = {name for name in KINDS if not event["namespaces"][name]["host"]}
    allowed = {kind, f"{kind}_for_children"} & set(KINDS)
    assert foreign == allowed


@pytest.mark.parametrize(("tag", "levels"), [("deep-4", 4), ("deep-8", 8)])
def test_pid_at_every_level(job: Job, tag: str, levels: int) -> None:
    ((event, truth),) = job.tagged(tag)
    pids = event["subject"]["pids"]
    assert len(pids) == levels == len(truth.nspid)
    assert len({level["ns"] for level in pids}) == levels
    assert event["subject"]["pid"] == pids[0]["pid"]


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_container(job: Job, engine: str) -> None:
    for tag, count in ((engine, 5), (f"{engine}-exec", 5)):
        pairs = job.tagged(tag)
        assert len(pairs) == count
        for event, _ in pairs:
            foreign = {name for name in KINDS if not event["namespaces"][name]["host"]}
            assert {"mnt", "uts", "ipc", "net", "pid", "pid_for_children"} <= foreign
            assert event["namespaces"]["user"]["host"]
            assert len(event["subject"]["pids"]) == 2
    entered = job.tagged(f"{engine}-nsenter")
    assert len(entered) == 2
    for event, _ in entered:
        foreign = {name for name in KINDS if not event["namespaces"][name]["host"]}
        assert foreign == {"mnt", "net", "pid", "pid_for_children"}


def test_every_exec_says_where_it_was(job: Job) -> None:
    """The container's id as the engine gave it, also after `exec`; who entered by nsenter is on the host."""
    wrong = []
    for event, truth in job.truths:
        engine, ident = job.containers.get(truth.tag, ("", ""))
        expected = ("container", engine, ident) if engine else ("host", None, None)
        named = event.get("container", {})
        got = (event["where"], named.get("runtime"), named.get("id"))
        if got != expected:
            wrong.append(f"{truth.tag}: {got} instead of {expected}, cgroup {event.get('cgroup')}")
    assert wrong == []
    assert len(job.containers) == 4


def test_records_of_user_space(job: Job) -> None:
    """Those that the plain symbol misses where GCC split audit_log_end: 1006, 1107, 1112, 1335."""
    for name in ("LOGIN", "USER_AVC", "USER_LOGIN", "EVENT_LISTENER", "USER", "CONFIG_CHANGE"):
        events = job.of_type(name)
        assert events, name
        for event in events:
            assert event["enrichment"]["context"] == "kernel", (name, event["enrichment"])
    (login,) = job.of_type("USER_LOGIN")
    assert login["subject"]["comm"] == "python3"
    assert all(login["namespaces"][kind]["host"] for kind in KINDS)


def test_orphan_ends(job: Job) -> None:
    """The CONFIG_CHANGE of a rule, its SYSCALL record dropped by a `never` rule, is complete by itself."""
    alone = [
        event
        for event in job.of_type("CONFIG_CHANGE")
        if "orphan" in str(event["records"][0]) and len(event["records"]) == 1
    ]
    assert alone
    assert all(event["enrichment"]["complete"] for event in alone)


def test_kernel_thread_is_no_subject(job: Job) -> None:
    """A kernel thread finished the record: no process, no namespaces, and the reason."""
    torn_down = [
        event for event in job.of_type("NETFILTER_CFG") if "unregister pid=" in event["records"][0]["raw"]
    ]
    by_thread = [event for event in torn_down if "kernel thread" in event["enrichment"].get("reason", "")]
    assert by_thread, torn_down
    for event in by_thread:
        assert "namespaces" not in event
        assert event["enrichment"]["subject"] is False


def test_io_uring(job: Job) -> None:
    """One operation inside io_uring_enter, which shares its event, and one by a worker thread, an event of its own."""
    assert job.uring == (0, 0)
    events = job.of_type("URINGOP")
    if not job.audits_uring:
        assert not events
        pytest.skip("this kernel does not audit io_uring: it has no __audit_uring_exit")
    for event in events:
        assert event["enrichment"]["complete"]
        assert event["enrichment"]["context"] == "kernel"
    inline = [event for event in events if event["type"] == "SYSCALL"]
    assert inline
    assert all(event["subject"]["comm"] == "uring" for event in inline)
    workers = [event for event in events if event["type"] == "URINGOP"]
    assert any(event["subject"]["comm"].startswith("iou-wrk") for event in workers)
    assert all(event["subject"]["tid"] != event["subject"]["pid"] for event in workers)


def test_events_without_eoe_are_complete(job: Job) -> None:
    pairs = job.tagged("without-eoe")
    assert len(pairs) == WITHOUT_EOE
    for event, _ in pairs:
        assert event["enrichment"]["complete"]
        assert "EOE" not in [record["type"] for record in event["records"]]


def test_a_ring_for_every_possible_cpu(guest: Guest, kernel: str, job: Job) -> None:
    possible = guest.run(["cat", "/sys/devices/system/cpu/possible"], check=True).stdout.decode().strip()
    count = int(possible.rpartition("-")[2]) + 1
    assert count == (8 if kernel == MANY_CPUS else 2)
    assert f"{count} rings of {32 * 1024 // count} KiB" in job.said


def test_own_records_are_labelled(job: Job) -> None:
    own = [event for event in job.events if event["enrichment"].get("self_caused")]
    assert any("audit-enricher-stop" in event["records"][0]["raw"] for event in own)
    assert not any(is_exec_of_truth(event) for event in own)


def is_exec_of_truth(event: Json) -> bool:
    return any(
        record["type"] == "EXECVE" and record["fields"].get("ARGV", [])[:1] == ["truth-leaf"]
        for record in event["records"]
    )
