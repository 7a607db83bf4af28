# SPDX-License-Identifier: Apache-2.0
"""The published schema: it says what `enrich.shape` says, takes what is right and refuses what is wrong.

The wrong events are made from the schema itself: for each member, and each word that can refuse something, one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import fastjsonschema
import pytest

from enricher.cli import main as command
from enricher.cli.schema import FILES, published
from enricher.enrich import shape
from enricher.model import KINDS
from enricher.sources.audit.types import NAMES
from tests import schema as check
from tests.lint.tree import ROOT
from tests.unit.sample_events import CWD, HEAD, event, exec_event
from tests.unit.sample_native import BREAKS, LOST, RUN, SAMPLES, Json, native

Anything = Any
"""Any JSON value, also a wrong one; or a type."""


def refused(wrong: Json) -> bool:
    """Whether it is refused; both validators must say the same."""
    try:
        check.compiled()(wrong)
    except fastjsonschema.JsonSchemaValueException:
        quick = True
    else:
        quick = False
    thorough = not check.validator().is_valid(wrong)
    assert quick == thorough, f"refused by one validator only: {check.complaints(wrong)}\n{wrong}"
    return quick


# -- what is right is taken --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_taken(name: str) -> None:
    assert not refused(SAMPLES[name]()), check.complaints(SAMPLES[name]())


@pytest.mark.parametrize(
    "change",
    [
        {"lost": {"cause": "sink", "stage": "sink", "records": 1}},
        {"lost": {"cause": "queue", "stage": "queue", "records": 1, "sink": "siem-2"}},
        {"lost": {"cause": "ring", "stage": "ring", "records": 1, "first": 0}},
        {"uid": RUN + "0"},
        {"uid": "/5eed0001/1", "host": {}},
        {"keys": ["a", "b\u0000\n"]},
        {"type": "NOTICE", "lost": None},
        {"enrichment": {"context": "none", "container": "none", "complete": True}},
    ],
)
def test_other_events_of_our_own_are_taken(change: Json) -> None:
    made = {name: value for name, value in (LOST | change).items() if value is not None}
    assert not refused(made), check.complaints(made)


@pytest.mark.parametrize("part", [2, 3, 10, 4711])
def test_a_further_part_is_taken(part: int) -> None:
    made = exec_event()
    made.part = part
    assert not refused(native(made))


@pytest.mark.parametrize(
    "stamp", [b"0.0:0", b"9999999999999999999.999999999:9999999999999999999", b"1.05:007"]
)
def test_any_stamp_that_the_parser_takes_is_taken(stamp: bytes) -> None:
    made = event((1307, CWD), stamp=stamp)
    assert not refused(native(made)), check.complaints(native(made))


def test_every_type_has_a_name_that_is_taken() -> None:
    pattern = re.compile(check.schema()["$defs"]["record_type"]["pattern"])
    assert [
        name for name in (*NAMES.values(), "UNKNOWN[0]", "UNKNOWN[65535]") if not pattern.search(name)
    ] == []


# -- what is wrong is refused ------------------------------------------------------------------------

_ANOTHER_TYPE: Json = {"null": None, "boolean": True, "number": 1.5, "string": "x", "array": [], "object": {}}


def resolved(node: Json) -> Json:
    if "$ref" not in node:
        return node
    return resolved(check.schema()["$defs"][node["$ref"].removeprefix("#/$defs/")])


def types_of(node: Json) -> list[str]:
    said = node.get("type", [])
    return said if isinstance(said, list) else [said]


_SHARED = {f"#/$defs/{name}" for name in ("container", "cgroup", "namespace", "places")}
_FIRST = "change.mnt"


def is_tested_elsewhere(node: Json, name: str) -> bool:
    """Whether what is below this place is a definition that is tested where it is used first."""
    ref = node.get("$ref")
    if ref == "#/$defs/step":
        return not name.replace("/properties", "").replace("/", ".").endswith(_FIRST)
    return ref in _SHARED and any(word in name for word in ("targets", "change", "packet", "inside"))


def wrong_values(node: Json, value: Anything) -> Iterator[Any]:
    """Yield values that this node of the schema must refuse, made from one that it takes."""
    kinds = types_of(node)
    if kinds:
        yield from (other for kind, other in _ANOTHER_TYPE.items() if kind not in kinds)
    if "const" in node:
        yield {True: False, False: True}.get(node["const"], "another")
    if "enum" in node:
        yield "another"
    if "pattern" in node:
        yield from (value + " ", " " + value, "")
    if "minLength" in node:
        yield ""
    if "minimum" in node:
        yield from (node["minimum"] - 1, node["maximum"] + 1)
    if "not" in node:
        yield node["not"]["const"]
    if node.get("uniqueItems"):
        yield ["same", "same"]
    if isinstance(value, dict) and "object" in kinds:
        yield from wrong_objects(node, value)


def wrong_objects(node: Json, value: Json) -> Iterator[Json]:
    """The same for an object: a required member gone, one that nobody knows, a name that is none."""
    yield from ({key: value[key] for key in value if key != gone} for gone in node.get("required", ()))
    if node.get("minProperties"):
        yield {}
    if "propertyNames" in node:
        yield value | {"no name": 1}
    if "additionalProperties" in node:
        yield value | {"SURPLUS": True}


def mutants(node: Json, value: Anything, name: str = "") -> Iterator[tuple[str, list[str | int], Any]]:
    """Yield (member, path, wrong value) for a value and everything below it; ``[]`` stands for any index."""
    if is_tested_elsewhere(node, name):
        yield name, [], 0
        return
    node = resolved(node)
    yield from ((name, [], wrong) for wrong in wrong_values(node, value))
    below: list[tuple[str | int, str, Json]] = []
    if isinstance(value, dict):
        rest = node.get("additionalProperties") or {}
        known = node.get("properties", {})
        below = [
            (key, f"{name}.{key}" if key in known else f"{name}.*", known.get(key, rest)) for key in value
        ]
    elif isinstance(value, list) and value:
        below = [(index, f"{name}[]", node["items"]) for index in range(len(value))]
    for key, member, inner in below:
        for found, path, wrong in mutants(inner, value[key], member):
            yield found, [key, *path], wrong


def all_mutants() -> Iterator[tuple[Json, str, list[str | int], Any]]:
    """Yield (sample, member, path, wrong value) over all samples, the same wrong value of a member once."""
    tried = set()
    for make in SAMPLES.values():
        sample = make()
        for member, path, wrong in mutants(check.schema(), sample):
            key = member, repr(wrong)
            if key not in tried:
                tried.add(key)
                yield sample, member, path, wrong


def at(made: Anything, path: Iterable[str | int]) -> Anything:
    for key in path:
        made = made[key]
    return made


def put(made: Json, path: list[str | int], value: Anything) -> Anything:
    """Return the event with one value replaced."""
    if not path:
        return value
    changed = copy.deepcopy(made)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def members(node: Json, name: str = "") -> Iterator[str]:
    """Yield the name of every member that the schema knows, as `mutants` writes it."""
    if node.get("$ref") in ("#/$defs/value", "#/$defs/item") or is_tested_elsewhere(node, name):
        yield name
        return
    node = resolved(node)
    yield name
    for key, inner in node.get("properties", {}).items():
        yield from members(inner, f"{name}.{key}")
    if isinstance(node.get("additionalProperties"), dict):
        yield from members(node["additionalProperties"], f"{name}.*")
    if "items" in node:
        yield from members(node["items"], f"{name}[]")


def broken(name: str, changes: Json) -> Json:
    made = SAMPLES[name]()
    for dotted, value in changes.items():
        *above, last = dotted.split(".")
        holder = at(made, above)
        if value is None:
            del holder[last]
        else:
            holder[last] = value
    return made


def test_every_member_has_a_wrong_value_that_is_refused() -> None:
    taken = []
    tried = set()
    for sample, member, path, wrong in all_mutants():
        tried.add(member)
        if not refused(put(sample, path, wrong)):
            taken.append(f"{member}: {wrong!r}")
    assert not taken
    assert set(members(check.schema())) - tried == set()


@pytest.mark.parametrize(("name", "changes"), BREAKS)
def test_what_contradicts_itself_is_refused(name: str, changes: Json) -> None:
    assert refused(broken(name, changes))


_REFUSES = (
    "type const enum pattern minLength minimum maximum not uniqueItems required minProperties propertyNames"
    " maxItems additionalProperties"
).split()


def words(node: Anything, path: str = "") -> Iterator[str]:
    """Yield the place of every word of the schema that can refuse something, once per place it is used at."""
    if node is False:
        yield path
        return
    if is_tested_elsewhere(node, path):
        yield f"{path}/type"
        return
    recursive = "$defs/value" in str(node.get("$ref")) or "$defs/item" in str(node.get("$ref"))
    for key, inner in resolved(node).items():
        here = f"{path}/{key}"
        if key == "properties":
            for name, below in inner.items():
                yield from words(below, f"{here}/{name}")
        elif key == "allOf":
            for index, below in enumerate(inner):
                yield from words(below, f"{here}/{index}")
        elif key in ("then", "else", "items", "additionalProperties", "propertyNames") and inner is not False:
            if not recursive or path.endswith("/fields/additionalProperties"):
                yield from words(inner, here)
        elif key in _REFUSES:
            yield here


def places_of_refusal(wrong: Json) -> Iterator[str]:
    for error in check.validator().iter_errors(wrong):
        place = "/" + "/".join(map(str, error.absolute_schema_path))
        if error.validator is None:  # the schema `false`: told is the object, not which of its members
            barred = at(check.schema(), error.absolute_schema_path)
            yield from (
                f"{place}/{name}" for name in at(wrong, error.absolute_path) if barred.get(name) is False
            )
        else:
            yield place


@pytest.mark.timeout(300)  # half a minute where the machine has other work
def test_every_word_of_the_schema_refuses_something() -> None:
    seen: set[str] = set()
    for sample, _member, path, wrong in all_mutants():
        seen.update(places_of_refusal(put(sample, path, wrong)))
    for name, changes in BREAKS:
        seen.update(places_of_refusal(broken(name, changes)))
    never = {"/properties/lost/properties/types/propertyNames/type"}  # a name in JSON is a string
    assert set(words(check.schema())) - seen == never


def test_a_refusal_says_where() -> None:
    made = native(exec_event())
    check.validate(made)
    made["subject"]["pids"][0]["ns"] = "4026531836"
    with pytest.raises(
        AssertionError, match=r"\$\.subject\.pids\[0\]\.ns: '4026531836' is not of type 'integer'"
    ):
        check.validate(made)


# -- the types say the same --------------------------------------------------------------------------


def differences(hint: Anything, node: Json, name: str = "event") -> Iterator[str]:
    """Yield in what a type of `enrich.shape` and the schema differ."""
    node = resolved(node)
    origin: Anything = get_origin(hint)
    if is_typeddict(hint):
        yield from differing_members(hint, node, name)
    elif hint == shape.Namespaces:
        more = [] if "targets" in name else ["change", "of"]
        if list(node["properties"]) != ["dev", *KINDS, *more] or node["additionalProperties"] is not False:
            yield f"{name}: other kinds in the schema"
        if more:
            yield from differences(shape.ContainerOf, node["properties"]["of"]["items"], f"{name}.of[]")
            for kind in KINDS:
                step = resolved(node["properties"]["change"])["properties"][kind]
                yield from differences(shape.NsStep, step, f"{name}.change.{kind}")
        for kind in KINDS:
            yield from differences(shape.NsEntry, node["properties"][kind], f"{name}.{kind}")
    elif origin is list:
        yield from differences(get_args(hint)[0], node["items"], f"{name}[]")
    elif origin is Literal:
        if list(get_args(hint)) != node.get("enum"):
            yield f"{name}: {get_args(hint)} here, {node.get('enum')} in the schema"
    else:
        said = node.get("type") or ("string" if isinstance(node.get("const"), str) else None)
        wanted = {str: "string", int: "integer", bool: "boolean"}.get(hint, "object")
        if said != wanted:
            yield f"{name}: {hint} here, {said} in the schema"


def differing_members(hint: Anything, node: Json, name: str) -> Iterator[str]:
    hints = get_type_hints(hint, include_extras=True)
    optional = {key for key in hints if get_origin(hints[key]) is NotRequired or not hint.__total__}
    if list(hints) != list(node["properties"]):
        yield f"{name}: {list(hints)} here, {list(node['properties'])} in the schema"
        return
    if set(hints) - optional != set(node.get("required", ())):
        yield f"{name}: required are {sorted(set(hints) - optional)}, in the schema {node.get('required')}"
    if node["additionalProperties"] is not False:
        yield f"{name}: the schema leaves it open"
    for key, inner in hints.items():
        bare = get_args(inner)[0] if get_origin(inner) is NotRequired else inner
        yield from differences(bare, node["properties"][key], f"{name}.{key}")


def test_the_types_and_the_schema_are_the_same() -> None:
    assert list(differences(shape.NativeEvent, check.schema())) == []
    assert check.schema()["properties"]["schema"]["const"] == shape.SCHEMA


def test_a_difference_is_found() -> None:
    changed = copy.deepcopy(check.schema())
    changed["properties"]["enrichment"]["properties"]["context"]["enum"].append("guess")
    changed["properties"]["host"]["required"] = ["name"]
    del changed["$defs"]["record"]["properties"]["raw"]
    found = "\n".join(differences(shape.NativeEvent, changed))
    assert "event.enrichment.context: ('kernel', 'journal', 'none') here" in found
    assert "event.host: required are []" in found
    assert resolved({"$ref": "#/$defs/record"}) is check.schema()["$defs"]["record"]


# -- the file ----------------------------------------------------------------------------------------


def undescribed(node: Json, name: str = "") -> Iterator[str]:
    """Yield every member without a description, of itself or of what it refers to."""
    for key, inner in node.get("properties", {}).items():
        if not (inner.get("description") or resolved(inner).get("description")):
            yield f"{name}.{key}"
        yield from undescribed(resolved(inner), f"{name}.{key}")
    if isinstance(node.get("items"), dict) and not node["items"].get("$ref", "").endswith("/item"):
        yield from undescribed(resolved(node["items"]), f"{name}[]")


def test_every_member_is_described_and_in_the_reference() -> None:
    assert list(undescribed(check.schema())) == []
    assert list(undescribed({"properties": {"a": {"items": {"properties": {"b": {}}}}}})) == [".a", ".a[].b"]
    reference = (ROOT / "docs" / "record-reference.md").read_text()
    names = {member.rpartition(".")[2].rstrip("[]") for member in members(check.schema())} - {"", "*"}
    assert {name for name in names if f"`{name}`" not in reference} == set()


def test_the_command_prints_the_file(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert command.main(["schema"]) == 0
    assert capsysbinary.readouterr().out == published()


def test_the_file_is_data_of_the_package() -> None:
    listed = (ROOT / "pyproject.toml").read_text().partition("[tool.setuptools.package-data]")[2]
    assert '"enricher" = ["schemas/*.json"]' in listed.partition("\n[")[0]
    assert {path.name for path in (ROOT / "enricher" / "schemas").iterdir()} == set(FILES.values())


def test_the_file_only_has_what_both_validators_know() -> None:
    """The compiled one knows draft 7; a word that it does not know would be passed over in silence."""
    text = published().decode()
    for word in (
        "prefixItems",
        "dependentRequired",
        "dependentSchemas",
        "unevaluated",
        "$dynamicRef",
        "contains",
    ):
        assert f'"{word}' not in text


def test_made_up_heads_are_the_samples() -> None:
    assert LOST["id"].partition(":")[0].encode() == HEAD.partition(b":")[0].removeprefix(b"audit(")
