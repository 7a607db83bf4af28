# SPDX-License-Identifier: Apache-2.0
"""Sealed files: what was written is proved, and every way to tamper with it is found where it is."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from enricher import sealformat
from enricher.cli import verify as command
from enricher.cli.main import main
from enricher.clock import ManualClock
from enricher.errors import NotAsWritten, OutputFailed
from enricher.sealformat import Key, Malformed, Seal
from enricher.sinks.compress import Compressor
from enricher.sinks.rotating import RotatingFile
from enricher.sinks.seal import MOST, Sealer
from enricher.sources.sealed import Verdict, Verifier, files_of

LINES = [b'{"schema":"audit-enricher/1","n":%d}\n' % number for number in range(40)]
TEXT = b"type=SYSCALL msg=audit(1.000:%d): arch=c000003e\n"


class Bench:
    """A sealed file under a clock that the test moves."""

    def __init__(self, directory: Path, *, key: bool = False, size: int = 1 << 20, keep: int = 8) -> None:
        self.path = directory / "events.json"
        self.key_file = directory / "key" if key else None
        self.first: Key | None = None
        if self.key_file is not None:
            self.first = sealformat.parse_key(command.make_key(self.key_file))
        self.size, self.keep = size, keep
        self.clock = ManualClock()

    def open(self, compressor: Compressor | None = None) -> RotatingFile:
        sealer = Sealer(str(self.path), str(self.key_file or ""), lambda: 1700000000.5)
        return RotatingFile(
            str(self.path),
            size=self.size,
            keep=self.keep,
            clock=self.clock,
            compressor=compressor,
            sealer=sealer,
        )

    def write(self, file: RotatingFile, lines: list[bytes], each: int = 4) -> None:
        for at in range(0, len(lines), each):
            self.clock.advance(0.6)
            file.write(lines[at : at + each])

    def written(self, lines: list[bytes] = LINES) -> Bench:
        """These lines, and a file that is closed."""
        file = self.open()
        self.write(file, lines)
        file.close()
        return self

    def verdict(self, *files: Path) -> Verdict:
        verifier = Verifier(self.first)
        for each in files or files_of(self.path):
            verifier.look(each)
        return verifier.verdict()


@pytest.fixture(params=[False, True], ids=["chain", "key"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, key=request.param)


def events(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if not sealformat.is_seal(line)]


def test_what_was_written_is_as_written(bench: Bench) -> None:
    bench.written()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert (verdict.lines, verdict.open, verdict.found) == (len(LINES), 0, 0)
    assert verdict.seals > 5
    assert events(bench.path) == LINES


def test_seals_are_not_among_the_written(bench: Bench) -> None:
    """Who writes reckons by `written` which events went out."""
    file = bench.open()
    for line in LINES:
        bench.clock.advance(2)
        before = file.written
        file.write([line])
        assert file.written == before + 1
    file.close()


def test_every_byte_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, key=True)
    file = bench.open()
    bench.write(file, LINES[:6], 2)
    file.close()
    whole = bench.path.read_bytes()
    for at in range(len(whole)):
        bench.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        verdict = bench.verdict()
        # Who breaks the last seal makes lines that have none, which is said as well.
        assert verdict.breaks or verdict.open, at


def test_without_a_key_all_bytes_count_but_those_of_the_last_seal(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    file = bench.open()
    bench.write(file, LINES[:6], 2)
    file.close()
    whole = bench.path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for at in range(last - 1):
        bench.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert bench.verdict().breaks, at


@pytest.mark.parametrize("what", ["removed", "swapped", "added", "twice"])
def test_lines_are_where_they_were(bench: Bench, what: str) -> None:
    lines = bench.written().path.read_bytes().splitlines(keepends=True)
    at = next(at for at, line in enumerate(lines) if line == LINES[12])
    if what == "removed":
        del lines[at]
    elif what == "swapped":
        lines[at : at + 2] = reversed(lines[at : at + 2])
    else:
        lines.insert(at, LINES[12] if what == "twice" else b'{"n":"forged"}\n')
    bench.path.write_bytes(b"".join(lines))
    breaks = bench.verdict().breaks
    assert len(breaks) == 1
    following = next(number for number, line in enumerate(lines[at:], at + 1) if sealformat.is_seal(line))
    assert breaks[0].line == following


def test_lines_that_go_with_their_seal_are_missed(bench: Bench) -> None:
    lines = bench.written().path.read_bytes().splitlines(keepends=True)
    seals = [at for at, line in enumerate(lines) if sealformat.is_seal(line)]
    del lines[seals[2] + 1 : seals[3] + 1]
    bench.path.write_bytes(b"".join(lines))
    (broken,) = bench.verdict().breaks
    assert "missing" in broken.what


def test_seals_in_another_order(bench: Bench) -> None:
    lines = bench.written().path.read_bytes().splitlines(keepends=True)
    seals = [at for at, line in enumerate(lines) if sealformat.is_seal(line)]
    second, third = lines[seals[1] + 1 : seals[2] + 1], lines[seals[2] + 1 : seals[3] + 1]
    lines[seals[1] + 1 : seals[3] + 1] = third + second
    bench.path.write_bytes(b"".join(lines))
    assert bench.verdict().breaks


def test_over_rotations(bench: Bench) -> None:
    bench.size = 600
    bench.written()
    files = files_of(bench.path)
    assert len(files) > 3
    assert bench.verdict().breaks == []
    assert [line for file in files for line in events(file)] == LINES
    for path in files:
        lines = path.read_bytes().splitlines()
        assert sealformat.parse(lines[0]).kind == "begin"
        if path != bench.path:
            assert sealformat.parse(lines[-1]).kind == "end"


def test_a_file_in_the_middle_is_missed(bench: Bench) -> None:
    bench.size = 600
    files = files_of(bench.written().path)
    files[1].unlink()
    breaks = bench.verdict().breaks
    assert breaks
    assert breaks[0].file == str(files[2])
    assert "missing" in breaks[0].what


def test_the_oldest_may_be_gone(bench: Bench) -> None:
    bench.size, bench.keep = 600, 2
    verdict = bench.written().verdict()
    assert verdict.breaks == []
    assert verdict.first is not None
    assert verdict.first.number > 1


def test_compressed_files(bench: Bench) -> None:
    bench.size = 600
    for path in files_of(bench.written().path)[:-1]:
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert bench.verdict().breaks == []
    (tmp := Path(f"{bench.path}.1.gz")).write_bytes(tmp.read_bytes()[:-9])
    assert "damaged" in bench.verdict().breaks[0].what


def test_a_start_goes_on(bench: Bench) -> None:
    for part in (LINES[:10], LINES[10:20], LINES[20:]):
        file = bench.open()
        bench.write(file, part)
        file.close()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert (verdict.lines, verdict.found) == (len(LINES), 0)


def test_a_start_goes_on_from_the_file_before(bench: Bench) -> None:
    """Somebody moved the file away while nobody wrote."""
    bench.written()
    bench.path.rename(f"{bench.path}.1")
    bench.written()
    assert bench.verdict().breaks == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_compressed_one_before(bench: Bench, packed: bool) -> None:  # noqa: FBT001 - a parameter
    bench.written()
    older = Path(f"{bench.path}.1")
    bench.path.rename(older)
    if packed:
        Path(f"{older}.gz").write_bytes(gzip.compress(older.read_bytes()))
        older.unlink()
    bench.written()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert verdict.lines == 2 * len(LINES)


def test_after_a_kill_lines_are_found_and_it_is_said(bench: Bench) -> None:
    file = bench.open()
    bench.write(file, LINES[:4])
    file.write(LINES[4:7])  # no second has passed: they wait for the next seal
    os.close(os.dup(file.fileno()))
    del file  # never closed: as after a kill
    file = bench.open()
    bench.write(file, LINES[7:])
    file.close()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert (verdict.lines, verdict.found) == (len(LINES), 3)


def test_a_half_line_is_sealed_as_it_is(bench: Bench) -> None:
    file = bench.open()
    bench.write(file, LINES[:4])
    file.close()
    with bench.path.open("ab") as torn:
        torn.write(b'{"half":')
    file = bench.open()
    bench.write(file, LINES[4:])
    file.close()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert verdict.found == 1


def test_a_write_that_fails_half_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bench.open()
    bench.write(file, LINES[:4])
    real = os.write
    left = [50, 0]

    def short(fd: int, data: bytes) -> int:
        room = left.pop(0)
        if not room:
            raise OSError(28, "No space left on device")
        return real(fd, data[:room])

    with monkeypatch.context() as patched:
        patched.setattr("enricher.sinks.stream.os.write", short)
        with pytest.raises(OutputFailed):
            file.write(LINES[4:8])
    bench.write(file, LINES[8:])
    file.close()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert verdict.found == 2  # the whole line and the half one that went out


def test_a_kill_between_a_seal_and_its_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path, key=True)
    assert bench.key_file is not None
    file = bench.open()
    bench.write(file, LINES[:8])
    old = bench.key_file.read_bytes()
    bench.write(file, LINES[8:20])
    file.close()
    bench.key_file.write_bytes(old)
    file = bench.open()
    bench.write(file, LINES[20:])
    file.close()
    assert bench.verdict().breaks == []


def test_old_keys_are_gone(tmp_path: Path) -> None:
    """What the host has at the end makes none of the seals that are there."""
    bench = Bench(tmp_path, key=True).written()
    assert bench.key_file is not None
    left = sealformat.parse_key(bench.key_file.read_text())
    verdict = bench.verdict()
    assert verdict.last is not None
    assert left.number == verdict.last.number + 1
    with pytest.raises(Malformed):
        left.after(verdict.last.number)
    assert bench.key_file.stat().st_mode & 0o777 == 0o600


def test_a_forger_without_the_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path, key=True).written()
    other = Bench(tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.written()
    shutil.copy(other.path, bench.path)
    assert "another chain" in bench.verdict().breaks[0].what
    assert Bench.verdict(other).breaks == []


def test_a_key_for_a_file_that_had_none(tmp_path: Path) -> None:
    """What stood there is sealed as found: with the key only what came after is proved."""
    bench = Bench(tmp_path)
    bench.written()
    bench.key_file = tmp_path / "key"
    first = sealformat.parse_key(command.make_key(bench.key_file))
    bench.written()
    assert bench.verdict().breaks == []
    bench.first = first
    assert "another chain" in bench.verdict().breaks[0].what


def test_text(tmp_path: Path) -> None:
    bench = Bench(tmp_path, key=True)
    file = bench.open()
    bench.write(file, [TEXT % number for number in range(20)])
    file.close()
    assert bench.verdict().breaks == []
    assert b"\ntype=UNKNOWN[1399] msg=audit(1700000000.500:0): chain=" in bench.path.read_bytes()


def test_much_is_sealed_early(bench: Bench) -> None:
    file = bench.open()
    file.write([b"x" * 99 + b"\n"])
    file.write([b"x" * MOST + b"\n"])
    assert b'number="3"' in bench.path.read_bytes()
    file.close()


def test_no_key_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="no key for seals") as failed:
        Sealer(str(tmp_path / "events"), str(tmp_path / "none"))
    assert "--make-key" in failed.value.hint
    (tmp_path / "bad").write_bytes(b"audit-enricher-seal-key/1 x 1 \xff\n")
    with pytest.raises(OutputFailed, match="no key"):
        Sealer(str(tmp_path / "events"), str(tmp_path / "bad"))


def test_what_is_no_regular_file_is_refused() -> None:
    sealer = Sealer("/dev/null")
    file = RotatingFile("/dev/null", size=100, keep=1, sealer=sealer)
    with pytest.raises(OutputFailed, match="no regular file"):
        file.write(LINES[:1])


@pytest.mark.parametrize(
    "line",
    [
        b'{"schema":"audit-enricher-seal/1",',
        b'{"schema":"audit-enricher-seal/1","chain":1}',
        b'{"schema":"audit-enricher-seal/1",' + b"[" * 900,
        b"type=UNKNOWN[1399] msg=audit(",
        b'type=UNKNOWN[1399] msg=audit(1.000:0): chain="\xff"',
        b'{"schema":"audit-enricher-seal/1","number":' + b"9" * 900 + b"}",
    ],
)
def test_hostile_seals(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(Malformed):
        sealformat.parse(line)
    bench = Bench(tmp_path).written()
    with bench.path.open("ab") as file:
        file.write(line + b"\n")
    assert bench.verdict().breaks
    again = bench.open()  # and the writer goes on
    bench.write(again, LINES[:4])
    again.close()


def test_a_seal_reads_back() -> None:
    seal = Seal("0" * 16, 7, "lines", "1.000", 3, 99, "a" * 64, "b" * 64, "c" * 64)
    for is_text in (False, True):
        line = sealformat.line_of(seal, is_text=is_text)
        assert sealformat.is_seal(line)
        assert sealformat.parse(line) == seal


def test_a_killed_process(tmp_path: Path) -> None:
    """For real: a process that writes is killed in the midst of it, some times over."""
    program = (
        "import itertools, sys\n"
        "from enricher.sinks.rotating import RotatingFile\n"
        "from enricher.sinks.seal import Sealer\n"
        "path, key = sys.argv[1:]\n"
        "file = RotatingFile(path, size=200_000, keep=50, sealer=Sealer(path, key))\n"
        "for number in itertools.count():\n"
        "    file.write([b'{\"n\":%d}\\n' % number] * 500)\n"
        "    if number == 30: print('going', flush=True)\n"
    )
    bench = Bench(tmp_path, key=True)
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(bench.path), str(bench.key_file)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"going\n"
        child.kill()
        child.wait()
        child.stdout.close()
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert verdict.lines >= 4 * 30 * 500


@pytest.mark.parametrize("made", [False, True], ids=["no new file", "an empty new file"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_a_kill_in_a_rotation(bench: Bench, *, packed: bool, made: bool) -> None:
    """The file was renamed, and has no last seal yet: the next start's first seal is about what stands at its end."""
    file = bench.open()
    file.write(LINES[:3])
    file.write(LINES[3:5])  # within a second: without a seal
    older = bench.path.rename(f"{bench.path}.1")
    if packed:
        Path(f"{older}.gz").write_bytes(gzip.compress(older.read_bytes()))
        older.unlink()
    if made:
        bench.path.touch()
    bench.written(LINES[5:9])
    assert events(bench.path) == LINES[5:9]
    verdict = bench.verdict()
    assert verdict.breaks == []
    assert (verdict.lines, verdict.found, verdict.open) == (9, 2, 0)


def test_what_was_added_behind_the_end_of_an_older_file_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    file = bench.written().open()
    file.size = 0
    bench.write(file, LINES[:4])  # in a new file: the one before has its last seal
    file.close()
    bench.path.unlink()
    with Path(f"{bench.path}.1").open("ab") as older:
        older.write(LINES[0])
    bench.written(LINES[:1])
    assert any("there are 1 lines where 0 were written" in each.what for each in bench.verdict().breaks)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, key=True).written()
    key = tmp_path / "first"
    assert bench.first is not None
    key.write_text(bench.first.text)
    assert main(["verify", "--key", str(key), str(bench.path)]) == 0
    assert "as written" in capsys.readouterr().out
    assert main(["verify", str(bench.path)]) == 0
    assert "without a key" in capsys.readouterr().out
    bench.path.write_bytes(bench.path.read_bytes().replace(b'"n":7}', b'"n":8}'))
    assert main(["verify", "--key", str(key), str(bench.path)]) == NotAsWritten.exit_code
    assert f"{bench.path}:" in capsys.readouterr().err
    (tmp_path / "plain").write_bytes(b"".join(LINES))
    assert main(["verify", str(tmp_path / "plain")]) == NotAsWritten.exit_code
    assert "no seal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nonexistent/x"], "cannot read"),
        ([], "no file"),
        (["--key", "/nonexistent", "/dev/null"], "cannot read"),
        (["--key", "/dev/null", "/dev/null"], "no key"),
        (["--make-key", "/dev/null"], "cannot make"),
        (["--make-key", "x", "y"], "goes alone"),
    ],
)
def test_what_the_command_refuses(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *words]) == 2
    error = capsys.readouterr().err
    assert said in error


def test_make_key_prints_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    assert main(["verify", "--make-key", str(path)]) == 0
    assert capsys.readouterr().out == path.read_text()
    assert main(["verify", "--make-key", str(path)]) == 2
