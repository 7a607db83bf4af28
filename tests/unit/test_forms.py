# SPDX-License-Identifier: Apache-2.0
"""The two forms of the hot modules, interpreted and compiled, give the same bytes; and which of them runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from enricher import forms
from tests.bench.bench_replay import make_capture
from tests.bench.distinct import made_log
from tests.lint.tree import ROOT
from tests.unit.data import ODD


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A log of execs, one of what is unusual, one with a wrong byte here and there, a capture."""
    work = tmp_path_factory.mktemp("inputs")
    made_log(work / "made.log", 400)
    make_capture(work / "made.capture", 400)
    spoilt(work / "made.log", work / "spoilt.log")
    long(work / "made.log", work / "long.log")
    return [work / "made.log", ODD, work / "spoilt.log", work / "long.log", work / "made.capture"]


def spoilt(log: Path, into: Path) -> None:
    """Write the log with something else at one place of each line, another one each time."""
    lines = log.read_bytes().splitlines()
    for number, line in enumerate(lines):
        at = number * 7 % len(line) if number % 3 else number * 7 % 60  # the stamp is there
        other = (
            b"",
            b"\t",
            b"\x7f",
            b"\x1d",
            b"\xc2\x9b",
            b"7",
            b'"',
            b" ",
            b"\0",
            b"=",
            b":",
            b"\\",
            b"1" * 9,
        )
        lines[number] = line[:at] + other[number % len(other)] + line[at + number % 2 :]
    into.write_bytes(b"\n".join(lines) + b"\n")


def long(log: Path, into: Path) -> None:
    """Write the log with command lines that take more and more records, up to more than a MiB of JSON."""
    lines = []
    execs = 0
    for line in log.read_bytes().splitlines():
        head, found, _ = line.partition(b" argc=")
        if not found or execs > 6:
            lines.append(line)
            continue
        count = 200 << execs
        words = [b'a%d="%s"' % (index, b"x" * 99) for index in range(count)]
        words[count // 2] = b"a%d=%s" % (count // 2, b'a "word" of \xc3\xa9'.hex().upper().encode())
        lines.append(b"%s argc=%d" % (head, count))
        lines += [b"%s %s" % (head, b" ".join(words[at : at + 60])) for at in range(0, count, 60)]
        execs += 1
    into.write_bytes(b"\n".join(lines) + b"\n")


def replayed(path: Path, view: str, *, interpreted: bool) -> bytes:
    environment = {**os.environ, forms.VARIABLE: "1" if interpreted else ""}
    command = [sys.executable, "-m", "enricher", "replay", str(path), "--format", view]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True).stdout


def form_of(value: str) -> str:
    command = [sys.executable, "-m", "enricher", "--version"]
    environment = {**os.environ, forms.VARIABLE: value}
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True)


@pytest.fixture
def tool() -> ModuleType:
    """tools/compile.py."""
    spec = importlib.util.spec_from_file_location("compile_tool", ROOT / "tools" / "compile.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compiled(tool: ModuleType) -> None:
    """Where nothing was compiled there is nothing to compare; what was compiled has to be of these sources."""
    if not any((ROOT / tool.made_of(module)).exists() for module in tool.MODULES):
        pytest.skip("nothing is compiled here: make compiled")
    assert [module for module in tool.MODULES if tool.is_stale(module)] == [], "make compiled"


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("view", ["json", "text", "table"])
def test_both_forms_give_the_same_bytes(inputs: list[Path], view: str) -> None:
    for path in inputs:
        first = replayed(path, view, interpreted=True)
        assert first.count(b"\n") > 8
        assert replayed(path, view, interpreted=False) == first, path.name


RECEIVES = """
import socket
from enricher import forms
forms.choose()
from enricher.sources.audit.mmsg import SLOT
from enricher.sources.audit.receiver import Receiver
reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver = Receiver(reader, 4, kernel_only={kernel_only})
head = bytes.fromhex("00000000140500000000000000000000")
texts = [b"", b"x", b"audit(1.000:7): " + bytes(range(256)), b"y" * (SLOT - 16)]
odd = [b"", b"\\xaa", head[:15], head, head + b"z" * SLOT]
print(receiver.receive())
for batch in (texts[:1], texts, texts * 2, odd, odd[3:], texts[1:3]):
    for each in batch:
        writer.send(each if batch is not texts and each in odd else head + each)
    while records := receiver.receive():
        print(records)
print(receiver.received, receiver.malformed, receiver.truncated, receiver.foreign, receiver.overflows)
receiver.close()
try:
    receiver.receive()
except OSError as error:
    print(error)
print(type(receiver).receive.__class__.__name__ != "function")
"""


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("kernel_only", [False, True])
def test_both_forms_receive_the_same(*, kernel_only: bool) -> None:
    def received(value: str) -> list[str]:
        environment = {**os.environ, forms.VARIABLE: value}
        command = [sys.executable, "-c", RECEIVES.format(kernel_only=kernel_only)]
        return subprocess.check_output(command, cwd=ROOT, env=environment, text=True).splitlines()

    first, second = received("1"), received("")
    assert (first.pop(), second.pop()) == ("False", "True"), "one was interpreted, the other compiled"
    assert first[0] == "[]"
    assert first[-1].startswith("[Errno 9]")
    assert len(first) > 8
    assert second == first


@pytest.mark.usefixtures("compiled")
def test_the_variable_chooses() -> None:
    assert form_of("").endswith("(compiled)\n")
    assert form_of("0").endswith("(compiled)\n")
    assert form_of("1").endswith("(interpreted)\n")


def test_unit_tests_run_the_sources() -> None:
    assert forms.form() == "interpreted"
    from enricher.enrich import memo

    assert Path(memo.__file__).suffix == ".py"


def test_every_module_in_the_list_is_there(tool: ModuleType) -> None:
    assert len(set(tool.MODULES)) == len(tool.MODULES) > 5
    assert [module for module in tool.MODULES if not (ROOT / tool.source_of(module)).is_file()] == []


def test_what_was_compiled_and_is_not_in_the_list_is_found(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    known, other = (tmp_path / f"enricher/{name}{tool.SUFFIX}" for name in (tool.MODULES[0], "enrich/gone"))
    for path in (known, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert tool.stray() == [other]
    assert set(tool.clean()) == {known, other}
    assert tool.stray() == []


def test_a_newer_source_is_stale(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "__file__", str(tmp_path / "tool"))
    made, source = tmp_path / tool.made_of("enrich/memo"), tmp_path / tool.source_of("enrich/memo")
    made.parent.mkdir(parents=True)
    (tmp_path / "tool").touch()
    os.utime(tmp_path / "tool", (1, 1))
    assert tool.is_stale("enrich/memo")
    for path, when in ((source, 5), (made, 6)):
        path.touch()
        os.utime(path, (when, when))
    assert not tool.is_stale("enrich/memo")
    os.utime(source, (7, 7))
    assert tool.is_stale("enrich/memo")


def test_types_of_another_module_are_a_part_of_it(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object's layout is compiled into all that look into it."""
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "__file__", str(tmp_path / "tool"))
    said = {
        "tool": "",
        "enricher/runtime/stages.py": "",
        "enricher/runtime/stages.pxd": "from enricher.correlate.join cimport Correlator\nfrom enricher cimport scan\n",
        "enricher/scan.pxd": "",
        "enricher/correlate/join.pxd": "cimport cython\nfrom enricher.model cimport Event\n",
        "enricher/model.pxd": "cdef class Event:\n    pass\n",
        str(tool.made_of("runtime/stages")): "",
    }
    for name, text in said.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (5, 5))
    assert not tool.is_stale("runtime/stages")
    os.utime(tmp_path / "enricher/model.pxd", (6, 6))
    assert tool.is_stale("runtime/stages")
    os.utime(tmp_path / "enricher/model.pxd", (5, 5))
    assert not tool.is_stale("runtime/stages")
    os.utime(tmp_path / "enricher/scan.pxd", (6, 6))
    assert tool.is_stale("runtime/stages"), "a module that is imported as a whole"


def test_no_compiler_is_said(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "MODULES", ["enrich/memo"])
    monkeypatch.setattr(tool, "_GCC", ("no-such-compiler",))
    monkeypatch.setattr(tool.sys, "executable", "/bin/true")
    (tmp_path / "enricher/enrich").mkdir(parents=True)
    (tmp_path / "enricher/enrich/memo.py").touch()
    assert tool.main([]) == 1
    assert "no-such-compiler is not installed: make setup" in capsys.readouterr().err


DECODES = """
import random
import struct
from enricher import forms
forms.choose()
from enricher.sources.bpf import wire
numbers = random.Random(7)
for _ in range(300):
    whole = numbers.choice([*wire.CONTEXT_SIZES, wire.SIZES["tally_event"]])
    message = bytearray(numbers.randbytes(whole))
    struct.pack_into("=HHI", message, 0, 1, 1, whole)
    struct.pack_into("=IQ", message, 24, *numbers.choice([(7, 1 << 63), (70, 0), (700, 5), (7000, 50)]))
    decode = wire.decode_context if whole in wire.CONTEXT_SIZES else wire.decode_tally
    depth = wire.CONTEXT_FIELDS.index(("levels", "I")) if whole in wire.CONTEXT_SIZES else None
    if depth is not None:
        at = struct.calcsize("=" + "".join(code for _, code in wire.CONTEXT_FIELDS[:depth]))
        struct.pack_into("=I", message, at, numbers.choice([0, 1, 2, 4, 5, 33, 34, 2**32 - 1]))
    for given, at in ((bytes(message), 0), (b"x" * 5 + bytes(message) + b"y", 5), (bytes(message[:-9]), 0), (b"", 0)):
        try:
            print(decode(given, at))
        except struct.error as error:
            print("struct.error")
print(type(wire.decode_context).__name__ != "function")
"""


@pytest.mark.usefixtures("compiled")
def test_both_forms_decode_the_same() -> None:
    def decoded(value: str) -> list[str]:
        environment = {**os.environ, forms.VARIABLE: value}
        return subprocess.check_output(
            [sys.executable, "-c", DECODES], cwd=ROOT, env=environment, text=True
        ).splitlines()

    first, second = decoded("1"), decoded("")
    assert (first.pop(), second.pop()) == ("False", "True"), "one was interpreted, the other compiled"
    assert sum(line.startswith("Context(") for line in first) > 200
    assert "struct.error" in first
    assert second == first
