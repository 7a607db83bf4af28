# SPDX-License-Identifier: Apache-2.0
"""Record type names, against the kernel's own header where there is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enricher.sources.audit.types import NAMES, OWN, is_user, name_of, number_of, text_name_of

HEADER = Path("/usr/include/linux/audit.h")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1006, "LOGIN"),
        (1107, "USER_AVC"),
        (1300, "SYSCALL"),
        (1302, "PATH"),
        (1309, "EXECVE"),
        (1320, "EOE"),
        (1327, "PROCTITLE"),
        (1336, "URINGOP"),
        (1400, "AVC"),
        (1426, "MAC_OBJ_CONTEXTS"),
        (1701, "ANOM_ABEND"),
        (2000, "KERNEL"),
        (2404, "CRYPTO_KEY_USER"),
        (2507, "VIRT_MIGRATE_OUT"),
    ],
)
def test_known_numbers(number: int, name: str) -> None:
    assert name_of(number) == name
    assert number_of(name) == number


@pytest.mark.parametrize("number", [0, 1340, 1399, 1999, 70000])
def test_unknown_numbers_survive_the_way_there_and_back(number: int) -> None:
    assert name_of(number) == f"UNKNOWN[{number}]"
    assert number_of(f"UNKNOWN[{number}]") == number


@pytest.mark.parametrize("name", ["", "syscall", "UNKNOWN[]", "UNKNOWN[-1]", "UNKNOWN[1300", "NO_SUCH"])
def test_not_a_name(name: str) -> None:
    assert number_of(name) is None


def test_our_own_numbers_have_no_name_in_audit_text() -> None:
    assert [name_of(n) for n in OWN] == [
        "NS_INFO",
        "CONTAINER_ID",
        "CONTAINER_OP",
        "NS_CHANGE",
        "LOST",
        "NS_INIT",
        "NS_DEL",
        "USER_REFUSED",
        "NOTICE",
    ]
    assert {text_name_of(n) for n in OWN} == {f"UNKNOWN[{n}]" for n in range(1390, 1399)}
    assert text_name_of(1300) == "SYSCALL"


def test_names_are_unique() -> None:
    assert len(set(NAMES.values())) == len(NAMES)


def test_who_writes_the_text() -> None:
    assert [n for n in (1005, 1006, 1100, 1199, 1200, 1300, 2099, 2100, 2999, 3000) if is_user(n)] == [
        1005,
        1100,
        1199,
        2100,
        2999,
    ]


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers here")
def test_every_record_type_of_the_header_is_in_the_table() -> None:
    defined = re.findall(r"^#define\s+AUDIT_([A-Z0-9_]+)\s+(\d{4})\b", HEADER.read_text(), re.MULTILINE)
    found = 0
    for name, number in defined:
        if not name.startswith(("FIRST_", "LAST_")):
            assert NAMES.get(int(number)) == name
            found += 1
    assert found > 90
