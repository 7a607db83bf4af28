# SPDX-License-Identifier: Apache-2.0
"""The generated tables are in the generator's form, and agree with the headers that are installed.

Numbers of the kernel's interface never change, they are only added to: so any version's headers will do.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from enricher.enrich.tables import bits, flags, numbered, numbers, syscalls
from enricher.sources.audit.types import NAMES

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "enricher" / "enrich" / "tables"
INCLUDE = Path("/usr/include")
LIBC = INCLUDE / "x86_64-linux-gnu"
CHANGED = {"IPV6_OPTION", "TCP_OPTION"}
"""In these headers, other families of constants with the same numbers came first in older versions."""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_tables", ROOT / "tools" / "gen_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(header: str) -> Path:
    """Where Debian's packages for the machine's own architecture have a header."""
    if header.startswith("libc/"):
        return LIBC / header.removeprefix("libc/")
    own = re.sub(r"^uapi/x86/", "x86_64-linux-gnu/", header)
    return INCLUDE / re.sub(r"^uapi/arm64/asm/", "asm-generic/", own)


def test_every_table_agrees_with_the_installed_headers(generator: ModuleType) -> None:
    compared = 0
    for made, tables in ((numbers, generator.NUMBERS), (flags, generator.FLAGS)):
        for table in tables:
            if table.name == "OPEN_ARM":
                continue  # its header is another architecture's
            ours = dict(getattr(made, table.name))
            theirs = generator.constants(table, installed)
            by_name = {name: number for number, name in ours.items()}
            for number, name in theirs.items():
                if name in by_name:
                    compared += 1
                    assert by_name[name] == number, (table.name, name)
                elif number in ours and table.name not in CHANGED:
                    # The same number under another name: the header got a better one since, at the same place.
                    compared += 1
                    assert ours[number][:3] == name[:3], (table.name, number, name, ours[number])
    assert compared > 1_000


def of_another(header: str) -> Path | None:
    """Another architecture's header, where a package has it: linux-libc-dev since 6.12, or that of a cross compiler."""
    arch, _, rest = header.partition("/")
    triplet = {"arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}[arch]
    places = (Path("/usr/lib/linux/uapi", header), Path("/usr", triplet, "include", rest))
    return next((place for place in places if place.is_file()), None)


@pytest.mark.parametrize(
    ("arch", "header"), [("c000003e", "unistd_64.h"), ("40000003", "unistd_32.h"), ("x32", "unistd_x32.h")]
)
def test_system_calls_agree_with_the_installed_headers(generator: ModuleType, arch: str, header: str) -> None:
    theirs = generator.calls(LIBC / "asm" / header)
    assert len(theirs) > 300
    for number, name in theirs.items():
        assert syscalls.BY_ARCH[arch][number] == name


def test_system_calls_of_arm64_agree_with_the_generic_header(generator: ModuleType) -> None:
    """Every machine has that; what it has for other architectures only is left out."""
    theirs = generator.calls(INCLUDE / "asm-generic/unistd.h")
    assert theirs.pop(84) == "sync_file_range2"
    theirs = {number: name for number, name in theirs.items() if number not in range(403, 424)}  # 32-bit
    assert len(theirs) > 300
    ours = syscalls.BY_ARCH["c00000b7"]
    assert {number: ours[number] for number in theirs} == theirs
    assert ours[84] == "sync_file_range"
    assert set(ours[403:424]) == {"-"}


@pytest.mark.parametrize(
    ("arch", "header"), [("c00000b7", "arm64/asm/unistd_64.h"), ("40000028", "arm/asm/unistd-eabi.h")]
)
def test_system_calls_of_other_architectures(generator: ModuleType, arch: str, header: str) -> None:
    path = of_another(header)
    if path is None:
        pytest.skip(f"no installed package has {header}")
    theirs = generator.calls(path)
    assert len(theirs) > 300
    assert {number: syscalls.BY_ARCH[arch][number] for number in theirs} == theirs


def test_what_arm_opens_files_with(generator: ModuleType) -> None:
    """Four flags are other bits than anywhere else, and trade places among themselves; the rest is generic."""
    moved = {
        "O_DIRECTORY": 0o40000,
        "O_NOFOLLOW": 0o100000,
        "O_DIRECT": 0o200000,
        "O_LARGEFILE": 0o400000,
    }
    generic = {name: number for number, name in flags.OPEN}
    arm = {name: number for number, name in flags.OPEN_ARM}
    assert arm == generic | moved
    assert {generic[name] for name in moved} == set(moved.values())
    path = of_another("arm64/asm/fcntl.h")
    if path is not None:
        (table,) = (table for table in generator.FLAGS if table.name == "OPEN_ARM")
        found = generator.constants(table, lambda name: path if name.startswith("uapi/") else installed(name))
        assert {name: arm[name] for name in found.values()} == {name: n for n, name in found.items()}


def test_the_modules_are_what_the_generator_writes(generator: ModuleType) -> None:
    """The form: each constant is one of the generator's, and written as it would be written."""
    for name, tables, maker in (
        ("numbers", generator.NUMBERS, "numbered"),
        ("flags", generator.FLAGS, "bits"),
    ):
        text = (TABLES / f"{name}.py").read_text(encoding="ascii")
        assert re.findall(rf"^(\w+) = {maker}\(", text, re.MULTILINE) == [table.name for table in tables]
        assert "do not edit" in text
        assert re.search(r"^Made from linux-libc-dev \S+ and libc6-dev \S+ by::$", text, re.MULTILINE)
        for body in re.findall(r'\(\n    """\n(.*?)    """\n\)', text, re.DOTALL):
            again = " ".join(f"{number:x} {word}" for number, word in sorted(numbered(body).items()))
            assert generator.wrapped(again) == body


def test_the_generator_reads_what_headers_hold(generator: ModuleType, tmp_path: Path) -> None:
    header = tmp_path / "x.h"
    header.write_text(
        "#define X_A 1 /* one */\n"
        "# define X_B  (1UL << 3)\n"
        "#define X_C (X_A|X_B)  // both\n"
        "#define X_OCT 0100\n"
        "#define X_LONG (X_A | \\\n\tX_OCT)\n"
        '#define X_STRING "text"\n'
        "#define X_CALL(a) (a)\n"
        "#define X_LOOP X_LOOP2\n#define X_LOOP2 X_LOOP\n"
        "enum x {\n\tX_E0,\n#define X_E0 X_E0\n\tX_E1 = 0x20, /* , */\n\tX_E2,\n};\n"
    )
    known = generator.Header(header).names
    values = {}
    for name, expression in known.items():
        try:
            values[name] = generator.value_of(expression, known)
        except ValueError:
            continue
    assert values == {
        "X_E0": 0,
        "X_E1": 0x20,
        "X_E2": 0x21,
        "X_A": 1,
        "X_B": 8,
        "X_C": 9,
        "X_OCT": 0o100,
        "X_LONG": 0o101,
    }


def test_tables_are_read_as_written() -> None:
    assert numbered("1 A ff B") == {1: "A", 255: "B"}
    assert bits("1 A 8 B") == ((1, "A"), (8, "B"))
    assert flags.OPEN != flags.OPEN_ARM
    assert dict(flags.OPEN)[0x4000] == dict(flags.OPEN_ARM)[0x10000] == "O_DIRECT"
    assert numbers.ERRNO[13] == "EACCES"
    assert numbers.CAPABILITY[40] == "checkpoint_restore"


def test_the_headers_know_no_record_type_that_we_lack(generator: ModuleType) -> None:
    table = generator.Table(
        "TYPE", ("linux/audit.h",), r"AUDIT_(\w+)", drop="AUDIT_(?:ARCH|FILTER|FIRST|LAST)_.*", lower=True
    )
    for number, name in generator.constants(table, installed).items():
        if 1300 <= number < 1400:
            assert NAMES[number] == name.upper()
