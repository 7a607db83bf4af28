# SPDX-License-Identifier: Apache-2.0
"""What the build of the packages refuses, without building one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from enricher import __version__
from tests.lint.tree import ROOT


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/build_deb.py, with a directory of its own for what it fetches and a pip that fails."""
    spec = importlib.util.spec_from_file_location("build_deb", ROOT / "tools" / "build_deb.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))  # as where it is started as a program
    monkeypatch.setitem(sys.modules, "build_deb", module)
    spec.loader.exec_module(module)
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\necho 'no network here' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(module, "_pip", lambda: str(pip))
    monkeypatch.setattr(module, "WHEELS", tmp_path / "wheels")
    return module


def test_the_changelog_is_of_the_programs_version(tool: ModuleType) -> None:
    assert tool.version().partition("-")[0] == __version__


def test_another_version_in_the_changelog_is_refused(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["staging"], "changelog", lambda: "audit-enricher (0.0.9-1) bookworm; urgency=medium\n"
    )
    with pytest.raises(tool.BuildFailed, match=r"0\.0\.9-1.*add an entry"):
        tool.version()


def test_a_library_that_cannot_be_fetched_is_said(tool: ModuleType) -> None:
    with pytest.raises(
        tool.BuildFailed, match=r"orjson .* cannot be fetched: no network here\nPut its wheel"
    ):
        tool.wheel()


def test_a_library_with_other_bytes_is_not_bundled(tool: ModuleType, tmp_path: Path) -> None:
    pinned = tool._PIN.search(tool.VENDORED.read_text())
    name = f"orjson-{pinned['version']}-cp311-cp311-manylinux_2_17_x86_64.whl"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / name).write_bytes(b"not it")
    with pytest.raises(tool.BuildFailed, match="cannot be fetched"):
        tool.wheel()


def test_what_is_not_built_is_said(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    with pytest.raises(tool.BuildFailed, match="make bpf"):
        tool.stage(tmp_path / "tree", "")


@pytest.mark.parametrize("suffix", ["prev1", "~", "+next", "~x y", "-2", "~../up"])
def test_a_suffix_must_sort_before(tool: ModuleType, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(tool.BuildFailed, match="has to sort before"):
        tool.build(tmp_path, suffix=suffix)


def test_errors_are_a_message(tool: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert tool.main(["--into", str(tmp_path), "--suffix", "x"]) == 1
    assert capsys.readouterr().err.startswith("deb: the suffix")
