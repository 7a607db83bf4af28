# SPDX-License-Identifier: Apache-2.0
"""The published schema as a check: any test that reads native events asks here whether they keep to it.

Owns the two validators. The compiled one is quick enough for every event of every suite (half a
millisecond for seven records); the other says where and why one is refused. Never repairs an event.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import fastjsonschema
import jsonschema

from enricher.cli.schema import published

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled", "complaints", "parse", "schema", "validate", "validate_namespaces", "validator"]


@cache
def schema() -> dict[str, Any]:
    """The published schema."""
    read: dict[str, Any] = json.loads(published())
    return read


@cache
def compiled() -> Callable[[object], object]:
    """The quick validator: raises JsonSchemaValueException for an event it refuses."""
    check: Callable[[object], object] = fastjsonschema.compile(schema())
    return check


@cache
def validator() -> jsonschema.Draft202012Validator:
    """The thorough validator."""
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def complaints(event: object) -> list[str]:
    """Why an event is refused, one line per reason; empty when it is accepted."""
    return [
        f"{error.json_path}: {error.message[:200]}, by {'/'.join(map(str, error.absolute_schema_path))}"
        for error in validator().iter_errors(event)
    ]


def validate(event: object) -> None:
    """Fail the test, with all reasons, unless the event keeps to the schema."""
    try:
        compiled()(event)
    except fastjsonschema.JsonSchemaValueException as error:
        said = "\n".join(complaints(event)) or f"by the compiled validator only: {error.message}"
        message = f"not an event of {schema()['title']}:\n{said}\n{json.dumps(event, default=repr)[:4000]}"
        raise AssertionError(message) from None


@cache
def _of_namespaces() -> tuple[jsonschema.Draft202012Validator, Callable[[object], object]]:
    read = json.loads(published("namespaces"))
    jsonschema.Draft202012Validator.check_schema(read)
    return jsonschema.Draft202012Validator(read), fastjsonschema.compile(read)


def validate_namespaces(document: object) -> None:
    """Fail the test unless the document keeps to the schema of `namespaces --json`; both validators must agree."""
    thorough, quick = _of_namespaces()
    said = [f"{error.json_path}: {error.message[:200]}" for error in thorough.iter_errors(document)]
    try:
        quick(document)
    except fastjsonschema.JsonSchemaValueException as error:
        said.append(f"compiled: {error.message[:200]}")
    if said:
        raise AssertionError("\n".join(said))


def parse(lines: bytes) -> list[dict[str, Any]]:
    """Read native JSON, one event a line, and validate each."""
    events = [json.loads(line) for line in lines.splitlines()]
    for event in events:
        validate(event)
    return events


def is_whole(line: bytes) -> bool:
    """Whether it is an event, and not what a full disk, or a kill, left of one."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
