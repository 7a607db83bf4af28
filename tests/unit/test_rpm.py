# SPDX-License-Identifier: Apache-2.0
"""What the build of the rpm refuses, without building one; and that its bill names all that the spec does."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from enricher import __version__
from tests.lint.tree import ROOT

SPEC = (ROOT / "packaging/rpm/audit-enricher.spec").read_text()


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/build_rpm.py."""
    spec = importlib.util.spec_from_file_location("build_rpm", ROOT / "tools" / "build_rpm.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))  # as where it is started as a program
    monkeypatch.setitem(sys.modules, "build_rpm", module)
    spec.loader.exec_module(module)
    return module


def test_the_spec_is_of_the_programs_version(tool: ModuleType) -> None:
    assert tool.spec_version(SPEC) == tool.version()
    assert tool.version().partition("-")[0] == __version__


@pytest.mark.parametrize("spec", ["", SPEC.replace("- 0.1.0-1", "- 0.0.9-1"), SPEC.replace("Version:", "V:")])
def test_a_changelog_of_another_version_is_refused(tool: ModuleType, spec: str) -> None:
    with pytest.raises(tool.BuildFailed, match="add an entry"):
        tool.spec_version(spec)


def test_another_version_than_the_debs_is_refused(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "version", lambda: "9.9.9-1")
    with pytest.raises(tool.BuildFailed, match="both are one program"):
        tool.build(tmp_path)


def test_what_is_not_built_is_said(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    with pytest.raises(tool.BuildFailed, match=r"x86_64, aarch64 are not built: make bpf"):
        tool.stage(tmp_path / "tree", SPEC)


def test_a_package_without_a_known_licence_is_refused(tool: ModuleType) -> None:
    spec = SPEC.replace("Requires: python3-msgpack\n", "Requires: python3-new\n")
    with pytest.raises(ValueError, match="licence of python3-new is not known"):
        tool.sbom.document(spec, "", "0.1.0-1", kind="rpm")


def test_the_bill_names_what_the_spec_names(tool: ModuleType) -> None:
    told = json.loads(tool.sbom.document(SPEC, "", "0.1.0-1", kind="rpm"))
    assert {part["name"]: part["scope"] for part in told["components"]} == {
        "audit-enricher-bpf-programs": "required",
        "libbpf": "required",
        "python3": "required",
        "python3-msgpack": "required",
        "python3-pyroute2": "required",
        "python3-urllib3": "required",
        "python3-orjson": "optional",
        "audit": "optional",
        "python3-confluent-kafka": "optional",
    }
    assert told["metadata"]["component"]["purl"] == "pkg:rpm/audit-enricher@0.1.0-1?arch=noarch"


def test_the_archive_is_roots_without_a_time(tool: ModuleType, tmp_path: Path) -> None:
    tree = tmp_path / "audit-enricher-1"
    tree.mkdir()
    for name in ("b", "a"):
        (tree / name).write_text(name)
    tool.archive(tree, tmp_path / "x.tar.gz")
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "x.tar.gz").read_bytes())) as tar:
        told = [(one.name, one.uid, one.uname, one.mtime) for one in tar]
    assert told == [(f"audit-enricher-1{name}", 0, "root", 0) for name in ("", "/a", "/b")]


def test_errors_are_a_message(
    tool: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "version", lambda: "9.9.9-1")
    assert tool.main(["--into", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("rpm: audit-enricher.spec has version")
