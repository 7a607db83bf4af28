# SPDX-License-Identifier: Apache-2.0
"""The bill of materials: the members CycloneDX requires, all that the package names, and the same bytes each time."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest

from tests.lint.tree import ROOT

TOOL = runpy.run_path(str(ROOT / "tools" / "sbom.py"))
CONTROL = (ROOT / "packaging/debian/control").read_text()
VENDORED = (ROOT / "packaging/vendored.txt").read_text()


def made(control: str = CONTROL, vendored: str = VENDORED) -> bytes:
    document: bytes = TOOL["document"](control, vendored, "0.1.0-1")
    return document


def bill() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(made())
    return loaded


def test_it_has_the_required_members() -> None:
    told = bill()
    assert (told["bomFormat"], told["specVersion"], told["version"]) == ("CycloneDX", "1.5", 1)
    for component in [told["metadata"]["component"], *told["components"]]:
        assert component["type"] in {"application", "library"}
        assert component["name"]
        assert component["bom-ref"]
        assert [list(licence) for licence in component["licenses"]] == [["expression"]]
        assert component.get("scope", "required") in {"required", "optional"}


def test_references_are_unique_and_lead_somewhere() -> None:
    told = bill()
    refs = [told["metadata"]["component"]["bom-ref"], *(part["bom-ref"] for part in told["components"])]
    assert len(refs) == len(set(refs))
    (edge,) = told["dependencies"]
    assert [edge["ref"], *edge["dependsOn"]] == refs


def test_all_that_the_package_names_is_listed() -> None:
    parts = {part["name"]: part["scope"] for part in bill()["components"]}
    assert parts == {
        "audit-enricher-bpf-programs": "required",
        "orjson": "optional",
        "libbpf1": "required",
        "procps": "required",
        "python3": "required",
        "python3-msgpack": "required",
        "python3-urllib3": "required",
        "python3-pyroute2": "optional",
        "apparmor": "optional",
        "auditd": "optional",
        "python3-confluent-kafka": "optional",
    }


def test_the_same_sources_make_the_same_bytes() -> None:
    assert made() == made()


@pytest.mark.parametrize("name", ["libnew7", "python3-new"])
def test_a_package_without_a_known_licence_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"licence of {name} is not known"):
        made(control=CONTROL.replace(" python3-msgpack,", f" {name},", 1))


def test_a_library_without_a_known_licence_is_refused() -> None:
    with pytest.raises(ValueError, match="licence of other is not known"):
        made(vendored=VENDORED.replace("orjson==", "other==", 1))
