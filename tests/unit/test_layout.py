# SPDX-License-Identifier: Apache-2.0
"""The objects of this build against the decoder: opened, for their BTF, and never loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from enricher.errors import LayoutMismatch
from enricher.facts import OF_ONE, ChangeOp, NamespaceOp
from enricher.sources.bpf import baseline, contidshare, contidwire, layout, wire, wirefacts
from enricher.sources.bpf.families import all_programs
from enricher.sources.bpf.hook import PROGRAM
from enricher.sources.bpf.libbpf import Libbpf, library
from enricher.sources.bpf.loader import _CGROUPS, _ENDINGS, _URING, OBJECTS
from enricher.sources.contid import DEPTH_MAX
from tests.lint.tree import ROOT

FACTS = ("CHANGE", "TARGET", "LINK", "NAMESPACE", "USERS", "REFUSED", "PACKET", "MEMBER")
MACHINES = ("x86_64", "x86_64-casts", "x86_64-pcpu_hot", "x86_64-nowhere", "aarch64")
STRUCTS = {
    "task_facts",
    *wirefacts.STRUCTS,
    "context_event",
    "context_deep_event",
    "context_contid_event",
    "context_deep_contid_event",
    "contid_tail",
    "pid_level",
    "tally_event",
    "tally_run",
    "counters",
    "cgroup_event",
    "walk_event",
}


WHOLE = {"c", "who", "u", "d", "t", "n", "r", "contid"}
"""Members that are structs, which stand in the table by themselves."""


@pytest.fixture(scope="module")
def lib() -> Libbpf:
    return library()


@pytest.fixture(scope="module", params=MACHINES)
def opened(lib: Libbpf, request: pytest.FixtureRequest) -> Iterator[int]:
    image = (OBJECTS / f"{request.param}.bpf.o").read_bytes()
    found = lib.bpf_object__open_mem(image, len(image), None)
    assert found, lib.take_log()
    yield found
    lib.bpf_object__close(found)


@pytest.fixture
def btf(lib: Libbpf, opened: int) -> int:
    found: int = lib.bpf_object__btf(opened)
    return found


def test_objects_and_decoder_agree(lib: Libbpf, btf: int) -> None:
    assert layout.differences(lib, btf) == []
    layout.check(lib, btf)


def test_every_struct_is_compared() -> None:
    assert set(layout.expected()) == STRUCTS
    assert set(layout._SIZES) == STRUCTS


def test_every_member_is_compared(lib: Libbpf, btf: int) -> None:
    """Down to the scalars, but for the two that are structs of their own and for padding."""
    for name, members in layout.expected().items():
        found = layout.read_struct(lib, btf, name)
        assert found
        nested = {path.partition(".")[0] for path in found.members if "." in path}
        inner = tuple(f"{whole}." for whole in WHOLE)
        plain = {path for path in found.members if path not in nested and not path.startswith(inner)}
        assert plain - {"reserved"} == set(members) - WHOLE, name


def test_a_struct_is_read_with_its_nested_members(lib: Libbpf, btf: int) -> None:
    found = layout.read_struct(lib, btf, "context_event")
    assert found
    assert found.size == 248
    assert found.members["header"] == (0, 16)
    assert found.members["header.time"] == (8, 8)
    assert found.members["stamp.serial"] == (28, 4)
    assert found.members["comm"] == (80, 16)
    assert found.members["inum"] == (96, 40)
    assert found.members["level"] == (216, 32)


def test_what_is_no_struct_is_none(lib: Libbpf, btf: int) -> None:
    assert layout.read_struct(lib, btf, "no_such_struct") is None


@pytest.mark.parametrize(
    ("struct", "member"),
    [(struct, member) for struct, members in layout.expected().items() for member in members],
)
def test_each_member_that_is_elsewhere_is_reported(
    lib: Libbpf, btf: int, monkeypatch: pytest.MonkeyPatch, struct: str, member: str
) -> None:
    right = layout.expected()
    at, size = right[struct][member]
    for wrong in ((at + 1, size), (at, size + 1)):
        mutated = right | {struct: right[struct] | {member: wrong}}
        monkeypatch.setattr(layout, "expected", lambda mutated=mutated: mutated)
        assert layout.differences(lib, btf) == [
            f"struct {struct}.{member}: (offset, size) {(at, size)} in the object, {wrong} expected"
        ]


def test_what_the_object_does_not_have_is_reported(
    lib: Libbpf, btf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = layout.expected()
    mutated = right | {"counters": right["counters"] | {"novel": (0, 8)}, "novel_event": {}}
    monkeypatch.setattr(layout, "expected", lambda: mutated)
    monkeypatch.setitem(layout._SIZES, "tally_run", 6)
    with pytest.raises(LayoutMismatch) as caught:
        layout.check(lib, btf)
    assert caught.value.message.splitlines()[1:] == [
        "  struct tally_run: 4 bytes in the object, 6 expected",
        "  struct counters.novel: (offset, size) None in the object, (0, 8) expected",
        "  struct novel_event: not in the object",
    ]
    assert "make bpf" in caught.value.hint


def test_numbers_that_btf_does_not_hold() -> None:
    """Constants and flags, against the header's text."""
    from enricher.model import KINDS, CgroupOp, ContextFlag, TallyFlag

    text = (ROOT / "bpf" / "include" / "events.h").read_text()
    defined = {
        name: int(value, 0) for name, value in re.findall(r"^#define (\w+)\s+(\w+)", text, re.MULTILINE)
    }
    mine = {name: getattr(wire, name) for name in ("EVENT_VERSION", "EVENT_CONTEXT", "EVENT_TALLY")}
    mine |= {name: getattr(wire, name) for name in ("EVENT_CGROUP", "EVENT_WALK")}
    mine |= {name: getattr(wire, name) for name in ("CGROUP_PATH", "WALK_DEPTH", "WALK_NAME")}
    mine |= {f"CGROUP_{op.name}": int(op) for op in CgroupOp}
    mine |= {name: getattr(wire, name) for name in ("LEVELS_INLINE", "LEVELS_MAX", "TALLY_RUNS")}
    mine |= {f"CONTEXT_{flag.name}": int(flag) for flag in ContextFlag}
    mine |= {f"TALLY_{flag.name}": int(flag) for flag in TallyFlag}
    mine |= {f"NS_{kind.upper()}": index for index, kind in enumerate(KINDS)} | {"NS_KINDS": len(KINDS)}
    mine |= {name: getattr(wirefacts, name) for name in defined if name.startswith("USERS_")}
    mine |= {f"EVENT_{name}": getattr(wirefacts, f"EVENT_{name}") for name in FACTS}
    mine |= {f"CHANGE_{op.name}": int(op) for op in ChangeOp}
    mine |= {f"NAMESPACE_{op.name}": int(op) for op in NamespaceOp if op in OF_ONE}
    mine |= {name: getattr(baseline, name) for name in defined if name.startswith("BASELINE_")}
    mine |= {"COMM_SIZE": 16, "REFUSED_TEXT": wirefacts.REFUSED_TEXT}
    mine |= {
        "EVENT_CONTID": contidwire.EVENT_CONTID,
        "CONTID_DEPTH": DEPTH_MAX,
        "CONTID_SET": 1,
        "CONTID_DROP": 2,
    }
    assert mine == {name: defined[name] for name in mine}
    assert set(defined) - set(mine) == set()


def test_programs_and_maps_that_the_loader_asks_for(lib: Libbpf, opened: int) -> None:
    for name in (*PROGRAM.values(), *_ENDINGS, *_CGROUPS, _URING, *all_programs()):
        assert lib.bpf_object__find_program_by_name(opened, name.encode()), name
    for name in (
        "acts",
        "places",
        "members",
        "found",
        "seen",
        "change_bucket",
        "parsed",
        "rings",
        "counters",
        "open_events",
        "told_cgroups",
        ".rodata",
        *contidshare.MAPS,
    ):
        assert lib.bpf_object__find_map_by_name(opened, name.encode()), name
