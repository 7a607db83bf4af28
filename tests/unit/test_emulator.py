# SPDX-License-Identifier: Apache-2.0
"""Which QEMU runs the guests: the machine's own where it is new enough, else the newer one, else the machine's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vm import emulator
from tests.vm.cache import build_lock, cache_dir
from tests.vm.emulator import NAME, Emulator
from tests.vm.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """Puts a QEMU of a version on PATH, as the only one; the cache is empty."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("AUDIT_ENRICHER_CACHE", str(tmp_path / "cache"))

    def put(major: int) -> str:
        return _says(tmp_path / "bin" / NAME, major)

    return put


def _says(path: Path, major: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {major}.2.22 (Debian)'\n")
    path.chmod(0o755)
    return str(path)


def _asked() -> Emulator:
    emulator.ensure_emulator.cache_clear()
    return emulator.ensure_emulator()


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for the unpacking: a QEMU 10 in the cache; each entry is one that was asked for."""
    calls: list[str] = []

    def unpack() -> Emulator:
        calls.append("unpack")
        root = tmp_path / "cache" / "emulator" / "0123"
        return Emulator(
            _says(root / "usr/bin" / NAME, 10), (str(root / "usr/share/qemu"), "/usr/share/seabios")
        )

    monkeypatch.setattr(emulator, "_unpack", unpack)
    return calls


def test_a_new_one_of_the_machine_is_taken(own: Callable[[int], str], unpacked: list[str]) -> None:
    path = own(10)
    assert _asked().argv == [path]
    assert unpacked == []


def test_an_old_one_gives_way_to_what_is_unpacked_once(
    own: Callable[[int], str], unpacked: list[str]
) -> None:
    own(7)
    first = _asked()
    assert first.binary.endswith(f"/emulator/0123/usr/bin/{NAME}")
    assert first.argv == [first.binary, "-L", first.firmware[0], "-L", first.firmware[1]]
    assert _asked() == first
    assert unpacked == ["unpack"]


def test_it_is_chosen_again_where_the_machine_s_own_is_another_one(
    own: Callable[[int], str], unpacked: list[str]
) -> None:
    own(7)
    _asked()
    path = own(11)  # one byte longer, so that it is another file whatever the clock says
    assert _asked().argv == [path]
    assert unpacked == ["unpack"]


def test_the_machine_s_own_runs_them_where_there_is_no_newer_one(
    own: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own(7)
    monkeypatch.setattr(emulator, "_unpack", lambda: None)
    assert _asked().argv == [path]
    # It is not written down: as soon as the newer one can be had, it is taken.
    assert not (cache_dir() / "emulator/chosen.json").exists()


@pytest.mark.timeout(20)
def test_a_guest_is_booted_by_who_builds_the_image(own: Callable[[int], str], unpacked: list[str]) -> None:
    own(7)
    with build_lock("an image"):
        assert _asked().firmware
    assert unpacked == ["unpack"]


def test_an_unpacked_one_that_is_gone_is_unpacked_again(
    own: Callable[[int], str], unpacked: list[str], tmp_path: Path
) -> None:
    own(7)
    _asked()
    (tmp_path / "cache" / "emulator" / "0123" / "usr/bin" / NAME).unlink()
    _asked()
    assert unpacked == ["unpack", "unpack"]


@pytest.mark.usefixtures("own")
def test_none_at_all_is_an_error() -> None:
    with pytest.raises(BuildError, match="not installed"):
        _asked()
