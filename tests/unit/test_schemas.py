# SPDX-License-Identifier: Apache-2.0
"""Schemas: every kind of event in the words of ECS and OCSF, held against their own definitions."""

from __future__ import annotations

import copy
import json

import msgpack
import pytest

from enricher.enrich.shape import HostEntry
from enricher.enrich.tables.syscalls import BY_ARCH
from enricher.errors import UsageError
from enricher.route.schemas import SCHEMAS, cef, kinds, otlp, renderer
from enricher.route.schemas.ecs import ROWS as ECS_ROWS
from enricher.route.schemas.ecs import document as ecs
from enricher.route.schemas.ocsf import CLASSES, NAMES, TABLES
from enricher.route.schemas.ocsf import event as ocsf
from enricher.route.schemas.seen import READINGS, image_parts, see
from enricher.route.schemas.table import Row, Table, path_of, same
from enricher.sources.audit.types import NAMES as TYPES
from tests.schema import complaints
from tests.unit.ecs_fields import CATEGORIES, FIELDS
from tests.unit.sample_events import HOST
from tests.unit.schema_checks import Json, ecs_complaints, ocsf_class, ocsf_complaints
from tests.unit.schema_samples import ALL, MADE

OF: HostEntry = {"name": HOST.name, "machine_id": HOST.machine_id, "boot_id": HOST.boot_id}


# -- every kind of event -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_an_event_is_of_its_class_in_ocsf(name: str) -> None:
    native = ALL[name]()
    assert complaints(native) == []
    assert ocsf_complaints(ocsf(native)) == []
    assert ocsf_complaints(ocsf(native, raw=True)) == []


@pytest.mark.parametrize("name", ALL)
def test_an_event_has_fields_of_ecs(name: str) -> None:
    native = ALL[name]()
    assert ecs_complaints(ecs(native)) == []
    assert ecs_complaints(ecs(native, raw=True)) == []


@pytest.mark.parametrize("schema", SCHEMAS)
def test_no_schema_changes_the_event(schema: str) -> None:
    render = renderer(schema, OF, raw=True)
    for make in ALL.values():
        native = make()
        before = copy.deepcopy(native)
        assert render(native) == render(native)
        assert native == before
        assert b"\n" not in render(native) or schema == "msgpack"


def test_what_validates_finds_what_is_wrong() -> None:
    """The checks can fail: an attribute of another class, a field that is none, a word that is not allowed."""
    good = ocsf(MADE["open"]())
    assert ocsf_complaints(good | {"driver": {"file": {"name": "x", "type_id": 0}}})
    assert ocsf_complaints({name: value for name, value in good.items() if name != "actor"})
    assert ocsf_complaints(good | {"type_uid": 1})
    document = ecs(MADE["open"]())
    assert ecs_complaints(document | {"file": {"colour": "red"}})
    assert ecs_complaints(document | {"process": {"pid": "1"}})
    assert ecs_complaints(document | {"tags": "watch"})
    event = {**document["event"], "type": ["connection"]}  # type: ignore[dict-item]
    assert ecs_complaints(document | {"event": event})


EXPECTED: dict[str, tuple[str, int]] = {
    "open": ("open", 100114),
    "open that makes": ("create", 100101),
    "open elsewhere": ("open", 100114),
    "open refused": ("open", 100114),
    "open without a path": ("open", 100304),
    "mkdir": ("create", 100101),
    "unlink": ("delete", 100104),
    "rename": ("rename", 100105),
    "chmod": ("permissions", 100107),
    "mount": ("mount", 100112),
    "umount": ("unmount", 100113),
    "connect": ("connect", 400101),
    "connect to a file": ("connect", 100304),
    "accept": ("accept", 400101),
    "bind": ("listen", 400107),
    "sendto": ("send", 400106),
    "clone without a child": ("fork", 100304),
    "cloned": ("namespace", 100799),
    "exit": ("exit", 100702),
    "setuid": ("identity", 100705),
    "setns": ("namespace", 100799),
    "kill without a target": ("signal", 100304),
    "kill by its record": ("signal", 100799),
    "ptrace": ("trace", 100799),
    "an unknown call": ("call", 100304),
    "module": ("module-load", 100201),
    "module without a name": ("module-load", 100304),
    "module taken out": ("module-unload", 100202),
    "avc": ("denial", 100399),
    "avc granted": ("open", 100114),
    "apparmor": ("denial", 100399),
    "seccomp": ("denial", 100399),
    "abend": ("anomaly", 100899),
    "login": ("login", 300201),
    "login of nobody": ("login", 100899),
    "kernel's login": ("login", 300201),
    "auth": ("authenticate", 300299),
    "session": ("session-start", 300201),
    "session's end": ("session-end", 300202),
    "logout": ("logout", 300202),
    "command": ("command", 100799),
    "user added": ("account-create", 300101),
    "user added by number": ("account-create", 300101),
    "user removed": ("account-delete", 300106),
    "password": ("password", 300103),
    "nobody's password": ("password", 100899),
    "account locked": ("account-lock", 300109),
    "group added": ("group-create", 100899),
    "configuration": ("configuration", 100899),
    "rule added": ("configuration", 100899),
    "firewall": ("configuration", 100899),
    "daemon": ("daemon-start", 100806),
    "service": ("service-start", 100899),
    "boot": ("host-start", 100899),
    "integrity": ("integrity", 100899),
    "packet over six": ("packet", 400106),
    "a type without a name": ("other", 100899),
    "container": ("exec", 100701),
    "signalling": ("exec", 100701),
    "lost": ("loss", 100899),
    "gap": ("notice", 100899),
    "refused_message": ("refused", 100899),
    "born": ("namespace-made", 100301),
    "ended": ("namespace-freed", 100899),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_kind_and_the_type_of_an_event(name: str) -> None:
    native = ALL[name]()
    kind = see(native).kind
    assert (kind.name, ocsf(native)["type_uid"]) == EXPECTED[name]
    assert ecs(native)["event"]["category" if kind.category else "type"] == list(kind.category or kind.types)  # type: ignore[index]


def flat(made: Json, above: str = "") -> Json:
    found: Json = {}
    for name, value in made.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("open", {"file.path": "/srv/app/notes/a.txt", "file.extension": "txt", "file.type": "file"}),
        ("open elsewhere", {"file.name": "a.txt", "file.path": None}),
        ("open refused", {"event.outcome": "failure", "error.code": "EACCES", "event.action": "open"}),
        ("unlink of ?", {"file.path": "/srv/?", "file.name": "?"}),
        ("unlink of what is not", {"file.path": "/srv/app/unset", "file.name": "unset"}),
        ("rename", {"file.path": "/srv/one", "file.target_path": "/srv/app/two"}),
        ("connect", {"destination.ip": "192.0.2.7", "destination.port": 8080, "source.ip": None}),
        ("accept", {"source.ip": "192.0.2.7", "source.port": 8080, "destination.ip": None}),
        ("connect over six", {"destination.ip": "2001:db8::1", "network.type": "ipv6"}),
        ("login", {"source.ip": "192.0.2.7", "user.target.name": "root", "user.id": "0", "event.outcome": "failure"}),
        ("session", {"source.ip": None, "user.target.name": "root"}),
        ("group added", {"group.name": "ops", "group.id": "1002", "user.target.name": None}),
        ("a packet", {"source.port": 40000, "destination.ip": "198.51.100.9", "network.transport": "tcp"}),
        ("container", {"process.vpid": 7, "host.pid_ns_ino": "4026531836", "linux.namespace.net.ino": 4026532261}),
        ("named", {"container.image.name": "shop", "container.image.tag": ["1"], "container.labels.k": "v",
                   "orchestrator.namespace": "prod", "audit_enricher.where": "container"}),
        ("exec", {"process.args_count": 3, "process.command_line": "ls -la /tmp", "tags": ["exec"]}),
        ("lost", {"event.kind": "pipeline_error", "audit_enricher.lost.records": 7, "event.sequence": None}),
        ("open", {"event.original": None}),
    ],
)  # fmt: skip
def test_what_stands_where_in_ecs(name: str, wanted: Json) -> None:
    made = flat(ecs((ALL | {"exec": ALL["in_a_unit"]})[name]()))
    assert {field: made.get(field) for field in wanted} == wanted


def test_the_original_is_there_when_it_is_asked_for() -> None:
    original = ecs(MADE["raw"](), raw=True)["event"]["original"]  # type: ignore[index]
    assert original.startswith("audit(1772366400.042:9001): arch=c000003e syscall=90 ")
    assert original.count("\n") == 2
    assert "original" not in ecs(MADE["raw"]())["event"]  # type: ignore[operator]
    assert ocsf(MADE["raw"](), raw=True)["raw_data"] == original


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("kill by its record", {"process.pid": 4800, "process.name": "cat", "actor.process.pid": 4711}),
        ("open refused", {"status_id": 2, "status_code": "EACCES", "file.owner.uid": "0", "file.type_id": 1}),
        ("container", {"actor.process.namespace_pid": 7, "process.cmd_line": "ls -la /tmp", "launch_type_id": 3}),
        ("named", {"actor.process.container.image.uid": "shop:1", "actor.process.container.pod_uuid": None}),
        ("in_pod", {"actor.process.container.pod_uuid": "0123abcd-0123-4567-89ab-0123456789ab"}),
        ("lost", {"severity_id": 3, "log_name": "audit", "unmapped.lost.records": 7, "actor.process.pid": None}),
        ("connect", {"dst_endpoint.port": 8080, "connection_info.direction_id": 2}),
        ("kernel's login", {"user.uid": "1000", "service.name": "ls"}),
        ("from_a_log", {"device.hostname": "elsewhere", "device.boot_uid": None}),
    ],
)  # fmt: skip
def test_what_stands_where_in_ocsf(name: str, wanted: Json) -> None:
    made = flat(ocsf(ALL[name]()))
    assert {field: made.get(field) for field in wanted} == wanted


def test_an_event_of_an_unknown_host_has_no_device() -> None:
    native = ALL["from_a_log"]()
    native["host"] = {}
    made = ocsf(native)
    assert (made["class_uid"], "device" in made) == (kinds.LOG, False)
    assert ocsf_complaints(made) == []
    assert ecs_complaints(ecs(native)) == []


@pytest.mark.parametrize("stamp", ["9999999999999999999.999999999:9999999999999999999", "0.0:0", "1.05:007"])
def test_any_stamp_can_be_told(stamp: str) -> None:
    native = MADE["open"]()
    native["id"] = stamp
    for name in SCHEMAS:
        assert renderer(name, OF)(native)
    assert ecs_complaints(ecs(native)) == []
    assert ocsf_complaints(ocsf(native)) == []


# -- the tables --------------------------------------------------------------------------------------


def test_each_row_that_can_be_used_is_used_by_some_sample() -> None:
    """A row whose source is spelled wrong would never be missed."""
    unused = {row.target for row in ECS_ROWS}
    for make in ALL.values():
        made = ecs(make(), raw=True)
        unused -= {target for target in unused if at(made, target) is not None}
    # What only the host's name service can say.
    assert {name for name in unused if not name.endswith((".name", "file.owner", "file.group"))} == set()


def at(made: object, dotted: str) -> object:
    for name in dotted.split("."):
        if not isinstance(made, dict) or name not in made:
            return None
        made = made[name]
    return made


@pytest.mark.parametrize("uid", CLASSES)
def test_no_row_is_of_another_class(uid: int) -> None:
    known = ocsf_class(uid)["properties"]
    assert {row.target.partition(".")[0] for row in TABLES[uid].rows} <= set(known)
    assert NAMES[uid].split()[0] in ocsf_class(uid)["title"]


def test_readings_are_told_and_used() -> None:
    rows = [*ECS_ROWS, *otlp.ROWS, *cef.ROWS, *(row for table in TABLES.values() for row in table.rows)]
    used = {row.source[1:] for row in rows if row.source.startswith("=")}
    assert used - set(READINGS) == set()
    assert set(READINGS) - used == {"child.pid", "level", "ns"}  # used by the code beside the tables
    read = {name for make in ALL.values() for name in see(make(), raw=True).read}
    assert read == set(READINGS) - {"file.owner", "file.group"}  # which only a host knows


def test_every_kind_has_words_that_are_allowed() -> None:
    for kind in kinds.KINDS:
        allowed = {word for name in kind.category for word in CATEGORIES[name]} or {"info", "error"}
        assert set(kind.types) <= allowed, kind.name
        activities = ocsf_class(kind.class_uid)["properties"]["activity_id"]["enum"]
        assert kind.activity in activities, kind.name
    named = [call for calls in kinds.CALLS_OF.values() for call in calls.split()]
    assert len(named) == len(set(named))
    assert set(kinds.BY_TYPE) <= set(TYPES.values())
    chosen = {*kinds.CALLS_OF, *kinds.TYPES_OF, "call", "other"}
    assert chosen == set(kinds.BY_NAME)


def test_every_call_of_a_kind_has_a_name_that_is_known() -> None:
    known = {name for table in BY_ARCH.values() for name in table}
    missing = {call for call in kinds.BY_CALL if call not in known}
    assert not missing


def test_a_table_refuses_rows_that_would_write_into_an_event() -> None:
    with pytest.raises(ValueError, match="lies below"):
        Table([Row("subject", "process", same, ""), Row("type", "process.pid", same, "")])
    with pytest.raises(ValueError, match="two rows"):
        Table([Row("subject", "process", same, ""), Row("type", "process", same, "")])


def test_a_rows_source_is_a_path() -> None:
    assert path_of("subject.pid") == ("subject", "pid")
    assert path_of("=file.path") == ("=", "file.path")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("shop", ("shop", "")),
        ("shop:1", ("shop", "1")),
        ("reg:5000/a/shop", ("reg:5000/a/shop", "")),
        ("reg:5000/a/shop:1.2@sha256:ab", ("reg:5000/a/shop", "1.2")),
        ("shop@sha256:ab", ("shop", "")),
    ],
)
def test_the_parts_of_an_image(image: str, parts: tuple[str, str]) -> None:
    assert image_parts(image) == parts


# -- names and bytes ---------------------------------------------------------------------------------


def test_a_schema_that_is_none() -> None:
    with pytest.raises(UsageError) as caught:
        renderer("csv", OF)
    assert caught.value.hint == "there are native, ecs, ocsf, otlp, cef, msgpack, text"


def test_native_and_msgpack_carry_the_event() -> None:
    for make in ALL.values():
        native = make()
        assert json.loads(renderer("native", OF)(native)) == json.loads(json.dumps(native))
        assert msgpack.unpackb(renderer("msgpack", OF)(native)) == native


def test_all_fields_that_are_written_down_are_used() -> None:
    written = {row.target for row in ECS_ROWS} | {
        "ecs.version",
        "event.kind",
        "event.module",
        "event.dataset",
    }
    assert set(FIELDS) - written == {"event.category", "event.type"}


def values(made: object) -> set[str]:
    """All that is told, as text: a number that became one has not changed."""
    if isinstance(made, dict):
        return {text for each in made.values() for text in values(each)}
    if isinstance(made, list):
        return {text for each in made for text in values(each)}
    return {str(made)}


@pytest.mark.parametrize("name", ALL)
def test_ecs_and_ocsf_leave_nothing_out(name: str) -> None:
    native = ALL[name]()
    told = values(native)
    assert told - values(ecs(native)) == set()
    assert told - values(ocsf(native)) - {native["time"], native.get("outcome", "")} == set()
