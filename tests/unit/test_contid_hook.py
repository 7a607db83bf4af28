# SPDX-License-Identifier: Apache-2.0
"""The OCI hook and the runtime that adds it: what is asked, what a container is called, and that none is held up."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enricher.facts import Engine
from tests.lint.tree import ROOT
from tests.unit.fake_contid import FakeStore
from tests.unit.test_contid_socket import Rig

HOOK = ROOT / "packaging" / "oci" / "contid-hook"
RUNC = ROOT / "packaging" / "oci" / "contid-runc"
ID = "ab" * 32
Child = subprocess.Popen[bytes]


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
def child() -> Iterator[Child]:
    made = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    yield made
    made.communicate()


def run(path: Path | str, state: object, *words: str) -> subprocess.CompletedProcess[str]:
    said = state if isinstance(state, str) else json.dumps(state)
    return subprocess.run(
        [sys.executable, "-IS", HOOK, "--socket", str(path), *words],
        input=said, capture_output=True, text=True, timeout=60, check=False, env={},
    )  # fmt: skip


def state_of(child: Child, **more: object) -> dict[str, object]:
    return {"ociVersion": "1.0", "id": ID, "pid": child.pid, "status": "creating", "bundle": "/b", **more}


def engine_of(rig: Rig) -> Engine:
    [fact] = rig.log.take()
    assert fact.engine is not None
    return fact.engine


def test_a_container_gets_a_number_and_is_announced(rig: Rig, store: FakeStore, child: Child) -> None:
    notes = {"io.kubernetes.cri-o.ContainerName": "web", "io.kubernetes.cri-o.ImageName": "shop:1"}
    done = run(rig.path, state_of(child, annotations=notes))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    [(op, caller, target, contid, orchestrator, cgroup)] = store.asked
    assert (op, target, orchestrator) == ("set", child.pid, True)
    assert isinstance(contid, int)
    assert 0 < contid < 2**63
    assert caller not in (os.getpid(), child.pid)
    lines = Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is not None and len(lines) == 1:
        assert cgroup == Path(f"/sys/fs/cgroup{path}").stat().st_ino
    assert engine_of(rig) == Engine(ID, "web", "shop:1")


def test_podmans_storage_tells_the_name(rig: Rig, child: Child, tmp_path: Path) -> None:
    storage = tmp_path / "storage" / "overlay-containers"
    (storage / ID / "userdata").mkdir(parents=True)
    more = json.dumps({"image-name": "registry.example/web:1", "name": "web"})
    entries = [{"id": "other"}, {"id": ID, "names": ["web\x1b[2J"], "image": "sha", "metadata": more}]
    (storage / "containers.json").write_text(json.dumps(entries))
    run(rig.path, state_of(child, bundle=str(storage / ID / "userdata")))
    assert engine_of(rig) == Engine(ID, "web?[2J", "registry.example/web:1", "podman")


@pytest.mark.parametrize(
    "content", ["", "[", "{}", "[1]", '[{"id":5}]', '[{"id":"' + ID + '","metadata":"["}]', "null"]
)
def test_a_storage_that_is_damaged_costs_the_name_alone(
    rig: Rig, child: Child, tmp_path: Path, content: str
) -> None:
    storage = tmp_path / "overlay-containers"
    storage.mkdir()
    (storage / "containers.json").write_text(content)
    assert run(rig.path, state_of(child, bundle=f"{storage}/{ID}/userdata")).returncode == 0
    assert engine_of(rig) == Engine(ID)


def test_long_names_are_cut_and_not_refused(rig: Rig, child: Child) -> None:
    run(rig.path, state_of(child, annotations={"io.kubernetes.container.name": "x" * 5000}))
    assert len(engine_of(rig).name) == 1024


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{", "null", '{"id":"a"}', '{"id":"a","pid":0}', '{"id":"a","pid":true}', '{"id":5,"pid":1}',
     '{"id":"a","pid":-1}', '{"id":"","pid":1}', '{"id":"a","pid":99999999999999999999}', "[" * 100_000],
)  # fmt: skip
def test_no_state_keeps_a_container_from_starting(rig: Rig, store: FakeStore, state: str) -> None:
    done = run(rig.path, state)
    assert done.returncode == 0
    assert "no container identifier" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(rig.path, state, "--required").returncode == 1
    assert store.asked == []


def test_no_failure_keeps_a_container_from_starting(
    rig: Rig, store: FakeStore, child: Child, tmp_path: Path
) -> None:
    store.fails = errno.ENOSPC
    refused = run(rig.path, state_of(child))
    assert (refused.returncode, "(ENOSPC)" in refused.stderr) == (0, True)
    assert run(rig.path, state_of(child), "--required").returncode == 1
    absent = run(tmp_path / "none", state_of(child))
    assert (absent.returncode, "no container identifier" in absent.stderr) == (0, True)
    assert run(tmp_path / "none", state_of(child), "--required").returncode == 1


def test_a_service_that_hangs_is_left_alone_in_time(child: Child, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen(1)
        began = time.monotonic()
        done = run(tmp_path / "silent", state_of(child), "--timeout", "0.2")
        assert (done.returncode, "time" in done.stderr) == (0, True)
        assert time.monotonic() - began < 30  # not for ever


def test_it_imports_nothing_heavy() -> None:
    code = (
        f"import sys; exec(open({str(HOOK)!r}).read(), {{'__name__': 'hook'}}); print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "enricher",
        "argparse",
        "subprocess",
        "ctypes",
        "typing",
        "asyncio",
        "logging",
        "ssl",
    }


# -- the runtime -------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    made.mkdir()
    return made


def wrapped(tmp_path: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    real = tmp_path / "bin"
    real.mkdir(exist_ok=True)
    (real / "runc").write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    (real / "runc").chmod(0o755)
    return subprocess.run(
        [sys.executable, "-IS", RUNC, *words],
        capture_output=True, text=True, check=False, env={"PATH": f"{real}:/usr/bin:/bin", **env},
    )  # fmt: skip


def config(bundle: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads((bundle / "config.json").read_text())


def test_the_hook_is_added_once_and_the_rest_is_the_runtimes(tmp_path: Path, bundle: Path) -> None:
    was = {
        "ociVersion": "1.0",
        "hooks": {"prestart": [{"path": "/a"}], "createRuntime": [{"path": "/b"}]},
        "x": "é",
    }
    (bundle / "config.json").write_text(json.dumps(was))
    (bundle / "config.json").chmod(0o640)
    words = ["--root", "/r", "create", "--bundle", str(bundle), "box"]
    for _ in range(2):
        done = wrapped(tmp_path, *words)
        assert (done.returncode, done.stdout, done.stderr) == (7, "|".join(words) + "|", "")
    hook = {
        "path": "/usr/libexec/audit-enricher/contid-hook",
        "args": ["/usr/libexec/audit-enricher/contid-hook"],
    }
    was["hooks"]["createRuntime"].append(hook)  # type: ignore[index]
    assert config(bundle) == was
    assert (bundle / "config.json").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in bundle.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "words", [["create", "--bundle=B", "x"], ["run", "-b", "B", "x"], ["create", "-b=B", "x"]]
)
def test_how_a_bundle_is_named(tmp_path: Path, bundle: Path, words: list[str]) -> None:
    (bundle / "config.json").write_text("{}")
    wrapped(tmp_path, *[word.replace("B", str(bundle)) for word in words], AUDIT_ENRICHER_REQUIRED="1")
    [hook] = config(bundle)["hooks"]["createRuntime"]
    assert hook["args"][1:] == ["--required"]


def test_other_commands_change_nothing(tmp_path: Path, bundle: Path) -> None:
    (bundle / "config.json").write_text("{}")
    for words in (["exec", "box", "sh"], ["start", "box"], ["delete", "--force", "box"], ["--version"]):
        assert wrapped(tmp_path, *words).returncode == 7
    assert config(bundle) == {}


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"hooks":[]}', '{"hooks":{"createRuntime":5}}', "{" * 99]
)
def test_a_bundle_that_cannot_be_changed_starts_all_the_same(
    tmp_path: Path, bundle: Path, content: str
) -> None:
    (bundle / "config.json").write_text(content)
    words = ["create", "--bundle", str(bundle), "box"]
    done = wrapped(tmp_path, *words)
    assert (done.returncode, "no container identifier" in done.stderr) == (7, True)
    assert (bundle / "config.json").read_text() == content
    assert [path.name for path in bundle.iterdir()] == ["config.json"]
    assert wrapped(tmp_path, *words, AUDIT_ENRICHER_REQUIRED="1").returncode == 1


def test_another_runtime(tmp_path: Path) -> None:
    assert wrapped(tmp_path, "list", AUDIT_ENRICHER_RUNTIME="/bin/false").returncode == 1
    assert wrapped(tmp_path, "list", AUDIT_ENRICHER_RUNTIME="/no/such").returncode == 127


def test_what_is_shipped_is_what_the_documents_say() -> None:
    listed = (ROOT / "packaging" / "debian" / "audit-enricher.install").read_text()
    guide = (ROOT / "docs" / "contid.md").read_text()
    for name, place in (
        ("oci/contid-hook", "usr/libexec/audit-enricher"),
        ("oci/contid-runc", "usr/libexec/audit-enricher"),
        ("oci/audit-enricher-contid.json", "usr/share/audit-enricher/oci"),
    ):
        assert f"{name} {place}\n" in listed
        assert f"/{place}/{name.rpartition('/')[2]}" in guide
        assert (ROOT / "packaging" / name).is_file()
    said = json.loads((ROOT / "packaging" / "oci" / "audit-enricher-contid.json").read_text())
    assert said["hook"]["path"] == "/usr/libexec/audit-enricher/contid-hook"
    assert said["stages"] == ["createRuntime"]
    unit = (ROOT / "packaging" / "systemd" / "examples" / "contid.conf").read_text()
    for line in (
        "AmbientCapabilities=CAP_KILL",
        "CapabilityBoundingSet=CAP_KILL",
        "ProtectProc=default",
        "ExecStartPre=+/usr/bin/mkdir -p -m 0700 /sys/fs/bpf/audit-enricher",
    ):
        assert line in unit
        assert line in guide
