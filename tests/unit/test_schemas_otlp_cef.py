# SPDX-License-Identifier: Apache-2.0
"""OTLP's JSON and CEF: the forms, and that nothing in a name breaks out of its field."""

from __future__ import annotations

import json
import random
import re

import pytest

from enricher.enrich.shape import HostEntry
from enricher.route.schemas.cef import LABELS, LONGEST, ROWS, escape
from enricher.route.schemas.cef import line as cef
from enricher.route.schemas.otlp import log_record as otlp
from enricher.route.schemas.otlp import resource
from tests.unit.sample_events import HOST
from tests.unit.schema_checks import Json
from tests.unit.schema_samples import ALL, MADE, made

OF: HostEntry = {"name": HOST.name, "machine_id": HOST.machine_id}


def plain(value: Json) -> object:
    """An AnyValue as a value; fails for what is none."""
    [(kind, inner)] = value.items()
    if kind == "intValue":
        assert isinstance(inner, str)
        return int(inner)
    if kind == "arrayValue":
        return [plain(each) for each in inner["values"]]
    if kind == "kvlistValue":
        return members(inner["values"])
    assert (kind, type(inner)) in {("stringValue", str), ("boolValue", bool)}
    return inner


def members(pairs: list[Json]) -> Json:
    found = {pair["key"]: plain(pair["value"]) for pair in pairs}
    assert len(found) == len(pairs)
    return found


@pytest.mark.parametrize("name", ALL)
def test_a_log_record(name: str) -> None:
    native = ALL[name]()
    record = json.loads(json.dumps(otlp(native, OF)))
    assert set(record) == {
        "timeUnixNano",
        "severityNumber",
        "severityText",
        "eventName",
        "body",
        "attributes",
    }
    assert re.fullmatch(r"[0-9]+", record["timeUnixNano"])
    assert json.loads(record["body"]["stringValue"]) == json.loads(json.dumps(native))
    attributes = members(record["attributes"])
    assert attributes["log.record.uid"] == native["uid"]
    assert attributes["linux.where"] == native["where"]
    assert ("host.name" in attributes) == (native["host"].get("name") != HOST.name)


def test_what_a_log_record_says() -> None:
    record = otlp(ALL["container"]())
    attributes = members(record["attributes"])  # type: ignore[arg-type]
    assert record["timeUnixNano"] == "1772366400042000000"
    assert record["eventName"] == "linux.audit.execve"
    assert (record["severityNumber"], record["severityText"]) == (9, "INFO")
    wanted = {"process.pid": 4711, "process.vpid": 7, "linux.namespace.net.ino": 4026532261,
              "linux.namespace.net.host": False, "process.title": "ls -la /tmp"}  # fmt: skip
    assert {name: attributes[name] for name in wanted} == wanted
    assert otlp(ALL["lost"]())["severityText"] == "WARN"


def test_the_resource_is_the_host() -> None:
    attributes = members(resource(OF)["attributes"])  # type: ignore[arg-type]
    assert attributes["host.name"] == HOST.name
    assert attributes["host.id"] == HOST.machine_id
    assert attributes["service.name"] == "audit-enricher"


def read(line: bytes) -> tuple[list[str], dict[str, str]]:
    """Read a line of CEF the way a receiver does: by bars, then by keys with an equals sign that nothing escapes."""
    text = line.decode()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text)
    *head, rest = re.split(r"(?<!\\)(?:\\\\)*\|", text, maxsplit=7)
    keys = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", re.sub(r"\\.", "__", rest)))
    found = {}
    for place, key in enumerate(keys):
        end = keys[place + 1].start() if place + 1 < len(keys) else len(rest)
        value = rest[key.end() : end]
        assert key[1] not in found
        found[key[1]] = re.sub(
            r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), value, flags=re.DOTALL
        )
    return head, found


KEYS = {row.target for row in ROWS} | {f"{name}Label" for name in LABELS}


@pytest.mark.parametrize("name", ALL)
def test_a_line_of_cef(name: str) -> None:
    native = ALL[name]()
    head, found = read(cef(native))
    assert len(head) == 7
    assert head[:3] == ["CEF:0", "audit-enricher", "audit-enricher"]
    assert head[4] == native["type"]
    assert 0 <= int(head[6]) <= 10
    assert set(found) <= KEYS
    assert found["externalId"] == native["uid"]
    assert {name.removesuffix("Label") for name in found if name.endswith("Label")} == set(found) & set(
        LABELS
    )


def test_what_a_line_of_cef_says() -> None:
    _, found = read(cef(ALL["named"]()))
    wanted = {
        "cs1": "ab" * 32,
        "cs2": "shop",
        "cs3": "prod/shop-0",
        "cs4": "shop:1",
        "cs6": "exec",
        "cs6Label": "key",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert read(cef(ALL["container"]()))[1]["cs5"].startswith("mnt:4026532257,uts:")
    assert read(cef(MADE["kill by its record"]()))[1]["dproc"] == "cat"


HOSTILE = [
    "a|b", "a=b", "x cs1=forged", "x\ncs1=forged", "x\r\nCEF:0|a|b|c|d|e|9|", "\\", "a\\", "\\=", "\\|", "\\n", "=" * 9,
    "\x1b[2J\x9b1m\x00\x7f", "\u2028\u2029\x85", " ", "act=x \\", "\U0010ffff", "|" * 2000, "\\" * 2000, "=\\\n" * 2000,
]  # fmt: skip


def hostile(text: str) -> bytes:
    """A whole event in which everything that a process may choose is this text."""
    shown = text.encode().hex().upper()
    call = (
        f"arch=c000003e syscall=87 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=1 ppid=1 pid=4711 auid=1 uid=0 gid=0"
        f" euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm={shown} exe={shown} key={shown}"
    )
    name = f"item=0 name={shown} inode=9 dev=fe:01 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=DELETE"
    native = made((1300, call.encode()), (1307, f"cwd={shown}".encode()), (1302, name.encode()))
    native["type"] = text  # no record has such a type; if one had, the header would hold
    native["host"] = {"name": text}
    return cef(native)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_breaks_out_of_a_field(text: str) -> None:
    head, found = read(hostile(text))
    assert len(head) == 7
    assert set(found) <= KEYS
    kept = re.sub(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]", "\ufffd", text[:LONGEST])
    assert found["dvchost"] == kept
    assert found["act"] == "unlink"


def test_nothing_breaks_out_whatever_it_is() -> None:
    rng = random.Random(7)  # noqa: S311 - repeatable on purpose
    for _ in range(300):
        text = "".join(rng.choice("\\|= \n\rnra1cs") for _ in range(rng.randrange(1, 30)))
        head, found = read(hostile(text))
        assert (len(head), found["dvchost"]) == (7, text), text
        assert set(found) <= KEYS


def test_a_long_value_is_cut_before_it_is_escaped() -> None:
    assert escape("\\" * 5000) == "\\\\" * LONGEST
