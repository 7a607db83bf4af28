# SPDX-License-Identifier: Apache-2.0
"""Container identifiers in a run of the service: off, without a store, and with one."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.errors import ContidRefused, KernelUnsupported
from enricher.facts import CONTID_UNSET
from enricher.runtime import contid, contid_client, privileges
from enricher.sources.bpf import contidpins
from enricher.sources.contid import ContidOp
from tests.unit.fake_contid import FakeStore
from tests.unit.fake_host import Host, install
from tests.unit.test_service import Asked, Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    host = Host()
    install(host, monkeypatch)
    made = Bench(tmp_path, host, monkeypatch)
    made.file.write_text(
        made.file.read_text()
        + f'[contid]\nenabled = true\ngroup = ""\nsocket = "{tmp_path}/contid.sock"\n'
        + "[metadata]\nenabled = false\n"
    )
    yield made
    made.manager.close()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    made = FakeStore()
    monkeypatch.setattr(contid, "open_store", lambda: made)
    return made


def ops(bench: Bench) -> list[tuple[object, ...]]:
    told = [event["container_op"] for event in bench.events() if event["type"] == "CONTAINER_OP"]
    return [(op["op"], op["opid"], op.get("contid"), op.get("error")) for op in told]


def test_what_the_kernel_tells_goes_down_the_same_pipe(bench: Bench, store: FakeStore) -> None:
    def told(_: Asked) -> None:
        store.ops += [
            ContidOp("set", 9, 4, (), 0, 1, orchestrator=True),
            ContidOp("drop", 9, CONTID_UNSET, (4,), 0, 2),
        ]
        # In the place of the descriptor that polls as readable: the double of the host has no epoll.
        made = bench.running._contid
        assert made is not None
        made._log.collect()
        assert made.pending

    bench.run(told, bench.event)
    assert ops(bench) == [("set", 9, "4", None), ("drop", 9, None, None)]
    assert bench.kept == privileges.CONTID_MASK
    assert not Path(bench.directory / "contid.sock").exists()


def test_a_request_is_served_between_turns(bench: Bench, store: FakeStore) -> None:
    store.fails = errno.EBUSY
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    target = os.pidfd_open(child.pid)
    refused: list[str] = []

    def ask() -> None:
        try:
            contid_client.ask(str(bench.directory / "contid.sock"), {"op": "set", "contid": "4"}, target)
        except ContidRefused as error:
            refused.append(error.name)

    asking = threading.Thread(target=ask)

    def begin(_: Asked) -> None:
        asking.start()
        made = bench.running._contid
        assert made is not None
        while asking.is_alive():
            made._server.serve()
            asking.join(0.01)

    bench.run(begin, bench.event)
    os.close(target)
    child.communicate()
    assert refused == ["EBUSY"]
    assert ops(bench) == [("set", child.pid, "4", "EBUSY")]


def test_without_a_store_the_service_runs_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> FakeStore:
        raise KernelUnsupported("no function security_task_kill", "another kernel")

    monkeypatch.setattr(contid, "open_store", none)
    seen: list[object] = []
    bench.run(lambda _: seen.append(bench.running._status()["contid"]), bench.event)
    assert "contid is off: no function security_task_kill" in bench.said
    assert bench.kept == 0
    [shown] = seen
    assert isinstance(shown, dict)
    assert (shown["state"], shown["error"]) == ("failed", "no function security_task_kill")


def test_a_build_without_a_store(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contid, "_STORE", "enricher.sources.bpf.nosuchstore")
    bench.run(bench.event)
    assert any(line.startswith("contid is off: No module named") for line in bench.said)


def test_off_there_is_no_socket(bench: Bench, store: FakeStore) -> None:
    bench.configure()
    seen: list[object] = []
    bench.run(lambda _: seen.append(bench.running._status()["contid"]), bench.event)
    assert seen == [{"state": "off"}]
    assert store.asked == []
    store.close()


def test_the_programs_are_given_the_maps(
    bench: Bench, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def pick(name: str, _note: object, **more: object) -> None:
        given.append((name, more))

    monkeypatch.setattr("enricher.runtime.servicesources.pick", pick)
    store.shared = {"contid_ids": 5}
    store.unpinned = "/sys/fs/bpf: Read-only file system"
    bench.run(bench.event)
    assert given == [("auto", {"contid": {"contid_ids": 5}})]
    assert (
        "container identifiers end with this process, they cannot be pinned: /sys/fs/bpf: Read-only file system"
        in bench.said
    )


def test_off_means_that_nothing_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contidpins, "remove", lambda: True)
    bench.file.write_text(bench.file.read_text().replace("enabled = true\ngroup", "enabled = false\ngroup"))
    bench.run(bench.event)
    assert "contid is off: the identifiers of an earlier run are forgotten" in bench.said
    assert not any("cannot be emptied" in line for line in bench.said)


def test_off_says_what_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The unit may not write there."""
    (tmp_path / "contid-1").mkdir()
    (tmp_path / "contid-1" / "contid_newtask").touch()
    monkeypatch.setattr(contidpins, "remove", lambda: False)
    monkeypatch.setattr(contidpins.remains, "__defaults__", (tmp_path,))
    bench.file.write_text(bench.file.read_text().replace("enabled = true\ngroup", "enabled = false\ngroup"))
    bench.run(bench.event)
    assert any("/sys/fs/bpf/audit-enricher cannot be emptied" in line for line in bench.said)
