# SPDX-License-Identifier: Apache-2.0
"""Field by field, our reading of a record is libauparse's, or one of the listed rules says why it is not.

Once over lines that have every kind of field, and once over the logs of real kernels that the guests' suites left
in the cache. Users' names are this machine's on both sides.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from enricher.enrich import interpret
from enricher.enrich.tables import numbers
from tests.interop import fields
from tests.interop.conftest import RUNS
from tests.interop.field_lines import lines
from tests.interop.field_rules import RULES
from tests.interop.fields import Differences, compare
from tests.interop.tools import RELEASES, Root, build_reader, root_of
from tests.suites.corpus import CORPUS
from tests.vm.kernels import SLOTS

pytestmark = pytest.mark.timeout(1800)

SOURCE = Path(__file__).parent / "auparse_dump.c"
MANY = 100_000
JOB = 6_000
"""Of the job's records, most of which are alike; those that were made for their variety are all compared."""


FEWEST = {"SYSCALL": 25, "PATH": 8, "EXECVE": 1, "CWD": 1, "PROCTITLE": 1}
"""Fields that every record of these types has, on any kernel; any other has one at least."""
WORDS_ONLY = {"MAC_STATUS"}
"""Records some of which have nothing but words that auparse finds no field in."""


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Root, Path]]:
    """Each release's root and a program that reads logs with its library."""
    place = tmp_path_factory.mktemp("auparse")
    roots = {release: root_of(release) for release in RELEASES}
    return {release: (root, build_reader(SOURCE, root, place)) for release, root in roots.items()}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "audit.log"
    path.write_text("\n".join(lines()) + "\n", encoding="ascii")
    return path


@pytest.fixture(scope="module")
def own(readers: dict[str, tuple[Root, Path]], log: Path) -> dict[str, Differences]:
    return {release: compare(log, *reader) for release, reader in readers.items()}


def said(found: Differences) -> str:
    """The differences that no rule explains, each kind once."""
    kinds: dict[tuple[str, str], str] = {}
    for item in found.unexplained:
        kinds.setdefault(
            (item.record_type, item.call if item.record_type == "SYSCALL" else item.name), str(item)
        )
    return f"{len(found.unexplained)} of {found.compared}:\n" + "\n".join(list(kinds.values())[:40])


@pytest.mark.parametrize("release", RELEASES)
def test_every_kind_of_field(release: str, own: dict[str, Differences]) -> None:
    found = own[release]
    assert not found.unexplained, said(found)
    assert found.compared > MANY


def test_every_rule_is_needed(own: dict[str, Differences]) -> None:
    used = set().union(*(found.explained for found in own.values()))
    unneeded = [rule.reason for rule in RULES if rule.reason not in used]
    assert not unneeded, "\n".join(unneeded)


def test_a_wrong_reading_is_found(
    readers: dict[str, tuple[Root, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        "type=SYSCALL msg=audit(1772366400.000:1): arch=c000003e syscall=62 success=no exit=-13 a0=1 a1=9\n"
        "type=SECCOMP msg=audit(1772366400.000:2): uid=0 sig=9 arch=c000003e syscall=62 code=0x80000000\n"
        "type=PATH msg=audit(1772366400.000:3): item=0 mode=0100755 ouid=0\n",
        encoding="ascii",
    )
    for reader in readers.values():
        assert not compare(log, *reader).unexplained
    monkeypatch.setitem(numbers.SIGNAL, 9, "SIGTERM")
    monkeypatch.setitem(numbers.ERRNO, 13, "EPERM")
    monkeypatch.setattr(interpret, "_FILE_TYPES", {0o100000: "dir"})
    for reader in readers.values():
        wrong = {(item.record_type, item.name) for item in compare(log, *reader).unexplained}
        assert wrong == {("SYSCALL", "exit"), ("SECCOMP", "sig"), ("PATH", "mode")}


def test_a_record_that_only_one_of_the_two_has_is_found(
    readers: dict[str, tuple[Root, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "audit.log"
    cwd = 'type=CWD msg=audit(1772366400.000:%d): cwd="/"\n'
    log.write_text("".join(cwd % serial for serial in (1, 2, 3)), encoding="ascii")
    for reader in readers.values():
        found = compare(log, *reader)
        assert (found.unexplained, found.records, found.fewest) == ([], {"CWD": 3}, {"CWD": 1})
    ours, theirs = fields._ours, fields._theirs
    with monkeypatch.context() as patched:
        patched.setattr(fields, "_ours", lambda log: dict(list(ours(log).items())[:2]))
        for reader in readers.values():
            assert [item.stamp for item in compare(log, *reader).unexplained] == ["1772366400.000:3"]
    with monkeypatch.context() as patched:
        patched.setattr(fields, "_theirs", lambda dump: dict(list(theirs(dump).items())[1:]))
        for reader in readers.values():
            assert [item.stamp for item in compare(log, *reader).unexplained] == ["1772366400.000:1"]
    log.write_text(cwd % 1 + "type=CWD msg=nothing\n", encoding="ascii")
    for reader in readers.values():
        with pytest.raises(AssertionError, match="no record: b'type=CWD msg=nothing'"):
            compare(log, *reader)


def lines_of(run: str) -> list[bytes]:
    path = CORPUS / f"{run}.log"
    assert path.is_file(), f"{path.name} is missing: the suites in guests leave it"
    return path.read_bytes().splitlines(keepends=True)[: None if run.startswith("variety-") else JOB]


@pytest.fixture(scope="session")
def real(run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    taken = tmp_path_factory.mktemp("real") / f"{run}.log"
    taken.write_bytes(b"".join(lines_of(run)))
    return taken


@pytest.mark.parametrize("release", RELEASES)
def test_logs_of_real_kernels(release: str, real: Path, readers: dict[str, tuple[Root, Path]]) -> None:
    """Every record: one that only one of the two has is a difference, too."""
    found = compare(real, *readers[release])
    assert not found.unexplained, said(found)
    assert found.records.total() == real.read_bytes().count(b"\n")
    poor = {
        kind: fewest
        for kind, fewest in found.fewest.items()
        if fewest < FEWEST.get(kind, 0 if kind in WORDS_ONLY else 1)
    }
    assert not poor, f"records with fewer fields than they have to tell: {poor}"
    assert found.records.keys() >= FEWEST.keys()


@pytest.mark.full
def test_there_are_many_records_of_real_kernels(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--kernel"):
        pytest.skip("not every kernel's records are here: --kernel was given")
    # Each is compared: test_logs_of_real_kernels counts them.
    assert sum(len(lines_of(f"{run}-{kernel}")) for run in RUNS for kernel in SLOTS) >= MANY
