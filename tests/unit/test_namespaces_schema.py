# SPDX-License-Identifier: Apache-2.0
"""The schema of `namespaces --json`: it says what the types say, is described, and refuses what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from enricher.cli import main
from enricher.cli.schema import published
from enricher.enrich import nsshape
from enricher.enrich.nsplaces import Wanted
from enricher.enrich.nstrees import SCHEMA
from enricher.runtime.namespaces import look
from tests import schema
from tests.lint.tree import ROOT
from tests.unit.fake_namespaces import PODMAN, FakeProc

Json = dict[str, Any]


def test_the_schema_is_printed(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main.main(["schema", "namespaces"]) == 0
    assert capsysbinary.readouterr().out == published("namespaces")
    assert json.loads(published("namespaces"))["properties"]["schema"]["const"] == SCHEMA


READ: Json = json.loads(published("namespaces"))


def resolved(node: Json) -> Json:
    return READ["$defs"][node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else node


def differences(hint: Any, node: Json, name: str = "document") -> list[str]:  # noqa: ANN401
    """In what a type of `enrich.nsshape` and the schema differ, and what is open or undescribed there."""
    node = resolved(node)
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        required = {key for key in hints if get_origin(hints[key]) is not NotRequired}
        found = [f"{name}: is open"] if node["additionalProperties"] is not False else []
        if set(hints) != set(node["properties"]) or required != set(node.get("required", ())):
            return [*found, f"{name}: {sorted(hints)} and {sorted(node['properties'])}"]
        for key, inner in hints.items():
            bare = get_args(inner)[0] if get_origin(inner) is NotRequired else inner
            if not node["properties"][key].get("description"):
                found.append(f"{name}.{key}: no description")
            found += differences(bare, node["properties"][key], f"{name}.{key}")
        return found
    if get_origin(hint) is list:
        return differences(get_args(hint)[0], node["items"], f"{name}[]")
    if get_origin(hint) is Literal:
        return [] if list(get_args(hint)) == node["enum"] else [f"{name}: {node['enum']}"]
    wanted = {str: "string", int: "integer", bool: "boolean"}.get(hint, "object")
    return [] if node.get("type", "string") == wanted else [f"{name}: {node['type']}"]


def test_the_types_and_the_schema_are_the_same() -> None:
    assert differences(nsshape.Document, READ) == []


def test_every_member_is_in_the_reference() -> None:
    text = (ROOT / "docs/namespaces.md").read_text()
    names = set(READ["properties"]) | {
        key for part in READ["$defs"].values() for key in part.get("properties", ())
    }
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    proc = FakeProc(tmp_path / "proc")
    proc.task(40, cgroup=PODMAN, net=500)
    good = look(Wanted(), proc=proc.root, inside=False)
    schema.validate_namespaces(good)
    for path, value in (
        (("namespaces", 0, "surplus"), 1),
        (("namespaces", 0, "id"), 12),
        (("namespaces", 0, "ino"), "12"),
        (("namespaces", 0, "kind"), "pid_for_children"),
        (("tasks", 0, "where"), "nowhere"),
        (("tasks", 0, "start"), 100),
        (("schema",), "audit-enricher/1"),
        (("surplus",), None),
    ):
        wrong: Any = json.loads(json.dumps(good))
        at = wrong
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        with pytest.raises(AssertionError):
            schema.validate_namespaces(wrong)
