#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Write enricher/enrich/tables_syscalls.py from the kernel's user-space headers.

Owns the reading of ``asm/unistd*.h`` and the layout of the generated module. Never run by the program or by a
build: the generated file is checked in.

The headers are Debian's package linux-libc-dev, which since 6.12 ships those of every architecture
under ``/usr/lib/linux/uapi``. On an older system, unpack a newer package and name its directory::

    tools/gen_tables.py --uapi DIR/usr/lib/linux/uapi --source "linux-libc-dev 7.2.13-1"
"""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "enricher" / "enrich" / "tables_syscalls.py"

# name, arch= as the kernel logs it (AUDIT_ARCH_*), header below the uapi directory
ARCHES = (
    ("x86_64", "c000003e", "x86/asm/unistd_64.h"),
    ("i386", "40000003", "x86/asm/unistd_32.h"),
    ("aarch64", "c00000b7", "arm64/asm/unistd_64.h"),
    ("arm", "40000028", "arm/asm/unistd-eabi.h"),
)

DEFINE = re.compile(r"^#define\s+__NR_(\w+)\s+(?:\(__NR_SYSCALL_BASE\s*\+\s*)?(\d+)\)?\s*$", re.MULTILINE)
NOT_CALLS = {"syscalls", "arch_specific_syscall", "SYSCALL_BASE"}

HEAD = '''\
# SPDX-License-Identifier: Apache-2.0
"""System call names by number, per architecture. Generated: do not edit.

Owns the names and nothing else. Never says which architecture an event has: `BY_ARCH` is keyed by the
text of the SYSCALL record's ``arch=`` field. A "-" in a table is a number the architecture does not use.

Made from {source} by::

    {command}
"""

from __future__ import annotations

'''


def read(header: Path) -> dict[int, str]:
    """Return number to name of one header; a number defined twice keeps its first name."""
    names: dict[int, str] = {}
    for name, number in DEFINE.findall(header.read_text(encoding="ascii")):
        if name not in NOT_CALLS:
            names.setdefault(int(number), name)
    if not names:
        raise SystemExit(f"{header}: no __NR_ definitions: is it the header of another kernel generation?")
    return names


def table(arch: str, names: dict[int, str]) -> str:
    """Return the Python source of one architecture's tuple."""
    words = " ".join(names.get(number, "-") for number in range(max(names) + 1))
    lines = textwrap.wrap(words, width=105, break_long_words=False, break_on_hyphens=False)
    return (
        f'_{arch.upper()} = tuple(\n    """\n'
        + "".join(f"    {line}\n" for line in lines)
        + '    """.split()\n)\n'
    )


def main() -> None:
    """Read all headers, write the module."""
    parser = argparse.ArgumentParser(description="regenerate the system call tables")
    parser.add_argument("--uapi", type=Path, default=Path("/usr/lib/linux/uapi"))
    parser.add_argument("--source", required=True, help="package and version the headers come from")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()

    command = f'tools/gen_tables.py --uapi DIR --source "{options.source}"'
    parts = [HEAD.format(source=options.source, command=command)]
    parts += [table(arch, read(options.uapi / header)) + "\n" for arch, _, header in ARCHES]
    parts.append("BY_ARCH: dict[str, tuple[str, ...]] = {\n")
    parts += [f'    "{number}": _{arch.upper()},\n' for arch, number, _ in ARCHES]
    parts.append("}\n\nARCH_NAMES: dict[str, str] = {\n")
    parts += [f'    "{number}": "{arch}",\n' for arch, number, _ in ARCHES]
    parts.append("}\n")
    options.output.write_text("".join(parts), encoding="ascii")


if __name__ == "__main__":
    main()
