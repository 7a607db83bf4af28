# SPDX-License-Identifier: Apache-2.0
"""The schemas of others, as checks: what ECS has as fields, and the classes of OCSF.

Owns both validators. ECS's fields are those of `ecs_fields`, written down here and compared with the published package
by ``make soak-schemas``; OCSF's classes come with the package ocsf-json-schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from enricher.route.schemas.ecs import OWN
from enricher.route.schemas.ocsf import PROFILES, VERSION
from tests.unit.ecs_fields import CATEGORIES, FIELDS, KINDS, OUTCOMES

Json = dict[str, Any]


@cache
def _ocsf() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(VERSION))


@cache
def ocsf_class(uid: int) -> Json:
    """The JSON Schema of a class with the profiles that events say."""
    made: Json = _ocsf().get_class_schema(_ocsf().lookup_class_name_from_uid(uid), list(PROFILES))
    return made


@cache
def _validator(uid: int) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(ocsf_class(uid))


def ocsf_complaints(made: Json) -> list[str]:
    """Why an event is no event of its class."""
    found = [
        f"{error.json_path}: {error.message[:200]}"
        for error in _validator(made["class_uid"]).iter_errors(made)
    ]
    if made["type_uid"] != made["class_uid"] * 100 + made["activity_id"]:
        found.append("type_uid")
    if made["category_uid"] != made["class_uid"] // 1000:
        found.append("category_uid")
    if (made["activity_id"] == 99) != ("activity_name" in made):
        found.append("activity_name stands beside 99 and nothing else")
    return found


def shape(made: object) -> object:
    """Which members there are, and of which type: of alike events one need be validated. Free objects are left out."""
    if isinstance(made, dict):
        return tuple(
            (name, shape(value))
            for name, value in sorted(made.items())
            if name not in ("unmapped", "xattributes")
        )
    if isinstance(made, list):
        return ("list", *sorted({str(shape(value)) for value in made}))
    return type(made).__name__


def leaves(made: Json, above: str = "") -> Iterator[tuple[str, object]]:
    """Yield ECS fields by their dotted names; what is below a field of our own is ours."""
    for name, value in made.items():
        dotted = above + name
        if isinstance(value, dict) and dotted not in FIELDS and not f"{dotted}.".startswith(OWN):
            yield from leaves(value, dotted + ".")
        else:
            yield dotted, value


def ecs_complaints(made: Json) -> list[str]:
    """Why a document is not ECS: a field that there is not, a value of another type, a word that is not allowed."""
    found = []
    for name, value in leaves(made):
        if f"{name}.".startswith(OWN):
            continue
        kind = FIELDS.get(name)
        if kind is None:
            found.append(f"{name}: no such field")
            continue
        several = kind.endswith("[]")
        values = value if several and isinstance(value, list) else [value]
        if (
            value == ""
            or several != isinstance(value, list)
            or not all(_is(kind.removesuffix("[]"), each) for each in values)
        ):
            found.append(f"{name}: {value!r} is not {kind}")
    event = made["event"]
    allowed = {word for name in event.get("category", ()) for word in CATEGORIES[name]} or {"info", "error"}
    if not set(event["type"]) <= allowed or not event["type"]:
        found.append(f"event.type {event['type']} of {event.get('category')}")
    if event["kind"] not in KINDS or event.get("outcome", "unknown") not in OUTCOMES:
        found.append(f"event.kind {event['kind']}, event.outcome {event.get('outcome')}")
    return found


def _is(kind: str, value: object) -> bool:
    if kind == "long":
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind == "object":
        return isinstance(value, dict)
    return isinstance(value, str)
