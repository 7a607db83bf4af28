# SPDX-License-Identifier: Apache-2.0
"""What a route keeps and hides: still events by the schema, nothing hidden left in any form, wrong paths said."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import cast

import pytest

from enricher.enrich.shape import HostEntry, NativeEvent
from enricher.errors import UsageError
from enricher.route import paths
from enricher.route.schemas import SCHEMAS, renderer
from enricher.route.schemas.ecs import document
from enricher.route.schemas.ocsf import event as ocsf_event
from enricher.route.select import Selection
from tests.schema import compiled, complaints
from tests.unit.sample_events import HOST
from tests.unit.schema_checks import Json, ecs_complaints, ocsf_complaints
from tests.unit.schema_samples import ALL, MADE, made

OF: HostEntry = {"name": HOST.name}
ALWAYS = {"schema", "time", "id", "uid", "host", "type", "keys", "where", "records", "enrichment"}


def all_paths(node: paths.Node, above: str = "", depth: int = 0) -> Iterator[str]:
    """Every path that the schema has; of an object of any names one."""
    for name, inner in paths.properties(node).items():
        if (above, name) != ("records", "fields"):
            yield f"{above}.{name}".lstrip(".")
            if depth < 2:
                yield from all_paths(inner, f"{above}.{name}".lstrip("."), depth + 1)
    if paths.open_members(node) is not None and above:
        yield f"{above}.k"


PATHS = [*all_paths(paths.root()), "records.fields", "records.fields.name", "records.PATH", "records.*.argv"]


VARIED: dict[str, NativeEvent] = {
    name: make()
    for name, make in ALL.items()
    if name not in MADE or name in ("open refused", "login", "no text", "raw", "a packet", "connect")
}
"""Of the events that were made for the tables those that have other members than the rest."""


def selected(native: NativeEvent, fields: list[str] | None = None, redact: list[str] | None = None) -> Json:
    """Apply, and check that the event itself stays and that what comes out is valid."""
    before = copy.deepcopy(native)
    shown = Selection(fields or (), redact or ()).apply(native)
    assert native == before
    assert complaints(json.loads(json.dumps(shown))) == []
    return cast("Json", shown)


# -- for every path and every kind of event ------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_one_member_kept_is_an_event(path: str) -> None:
    choice = Selection([path])
    for name, native in VARIED.items():
        shown = choice.apply(native)
        compiled()(shown)
        assert set(shown) <= set(native)
        assert set(shown) >= ALWAYS
        kept = at(shown, path)
        if path.startswith("records.") and path not in ("records.fields", "records.type"):
            continue
        assert kept == at(native, path), name


def at(value: object, dotted: str) -> object:
    """A member, of lists that of each."""
    for name in dotted.split("."):
        if isinstance(value, list):
            value = [each.get(name) for each in value if isinstance(each, dict)]
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            return None
    return value


REFUSED = {
    *("schema", "time", "id", "uid", "host", "type", "where", "records", "enrichment", "host.boot_id"),
    *("container", "cgroup", "namespaces", "namespace", "records.type", "enrichment.context"),
    *("enrichment.container", "cgroup.id", "lost", "lost.cause", "notice.kind", "notice.first"),
    *(
        "namespaces.mnt.ino",
        "child.pid",
        "targets.pid",
        "subject.pids.ns",
        "refused.length",
        "container.chain.pod.x",
    ),
}


@pytest.mark.parametrize("path", PATHS)
def test_one_member_hidden_is_an_event(path: str) -> None:
    try:
        choice = Selection(redact=[path])
    except UsageError:
        return  # a few, which the next test names
    assert path not in REFUSED
    for name, native in VARIED.items():
        shown = choice.apply(native)
        compiled()(shown)
        for text in texts(at(native, path)):
            assert text not in texts(at(shown, path)), name


def texts(value: object) -> set[str]:
    if isinstance(value, dict):
        return {text for each in value.values() for text in texts(each)}
    if isinstance(value, list):
        return {text for each in value for text in texts(each)}
    return {value} if isinstance(value, str) and value else set()


@pytest.mark.parametrize("path", sorted(REFUSED - {"container.chain.pod.x"}))
def test_what_cannot_be_hidden_says_so(path: str) -> None:
    with pytest.raises(UsageError, match="cannot be redacted") as caught:
        Selection(redact=[path])
    assert caught.value.hint


# -- what is kept ------------------------------------------------------------------------------------


def test_the_choice_of_fields() -> None:
    shown = selected(
        ALL["named"](), ["subject.pid", "container.name", "records.fields.exe", "records.EXECVE"]
    )
    assert shown["subject"] == {"pid": 4711}
    assert shown["container"] == {"id": "ab" * 32, "name": "shop"}
    assert set(shown["cgroup"]) == {"id", "path"}
    assert shown["namespaces"] == {}
    assert [entry["fields"] for entry in shown["records"]] == [
        {"exe": "/usr/bin/ls"},
        {"argc": 3, "ARGV": ["ls", "-la", "/tmp"]},  # noqa: S108
        *[{}] * 5,
    ]


def test_a_field_is_kept_with_its_meaning_and_its_bytes() -> None:
    shown = selected(MADE["open refused"](), ["records.SYSCALL.exit", "records.fields.arch"])
    assert shown["records"][0]["fields"] == {
        "arch": "c000003e",
        "ARCH": "x86_64",
        "exit": -13,
        "EXIT": "EACCES",
    }
    assert selected(MADE["no text"](), ["records.PATH.name"])["records"][2]["fields"].keys() == {
        "name",
        "name_hex",
    }
    assert selected(ALL["container"](), ["subject.exe"])["subject"].keys() == {"exe", "exe_hex"}
    assert selected(ALL["container"](), ["subject.exe_hex"])["subject"].keys() == {"exe", "exe_hex"}


def test_a_field_of_a_message_is_found_in_it() -> None:
    shown = selected(MADE["password"](), ["records.fields.acct"])
    assert shown["records"][0]["fields"] == {"msg": {"acct": "bob"}}
    assert selected(MADE["password"](), ["records.fields.msg.acct"]) == shown


def test_kinds_of_namespaces() -> None:
    shown = selected(ALL["container"](), ["namespaces.*.host"])
    assert shown["namespaces"]["net"] == {"ino": 4026532261, "host": False}
    assert "dev" not in shown["namespaces"]


def test_raw_text_is_kept_where_it_is_asked_for() -> None:
    assert "raw" not in selected(MADE["raw"](), ["records.fields"])["records"][0]
    assert selected(MADE["raw"](), ["records.raw"])["records"][0].keys() == {"type", "fields", "raw"}
    assert selected(ALL["damaged"](), ["subject"])["records"] == [{"type": "CWD", "fields": {}}]
    assert selected(ALL["damaged"](), ["records.undecoded"])["records"][0].keys() >= {"raw", "undecoded"}


@pytest.mark.parametrize("name", ["lost", "gap"])
def test_a_loss_and_a_notice_are_whole(name: str) -> None:
    assert selected(ALL[name](), ["subject.pid"]) == ALL[name]()


def test_nothing_asked_for_is_the_event_itself() -> None:
    native = MADE["open"]()
    assert Selection().passes_all
    assert Selection().apply(native) is native
    assert not Selection(["type"]).passes_all
    assert not Selection(redact=["keys"]).passes_all
    assert not Selection(redact=["records.raw"]).passes_all


# -- what is hidden ----------------------------------------------------------------------------------

SECRET = "hunter2"  # noqa: S105 - of nobody


def with_secret() -> NativeEvent:
    """A command line with a secret, in every form in which a kernel tells one; with the records' text."""
    title = f"proctitle={b'tool'.hex()}00{SECRET.encode().hex()}".encode()
    split = f'argc=3 a0="tool" a1_len=7 a1[0]="{SECRET}" a2="x"'.encode()
    call = MADE["chmod"]()["records"][0]
    assert call["type"] == "SYSCALL"
    syscall = (
        b"arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=2 ppid=1 pid=4711 auid=1 uid=0 gid=0"
        b' euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm="tool" exe="/usr/bin/tool" key="k"'
    )
    return made(
        (1300, syscall), (1309, split), (1327, title.upper().replace(b"PROCTITLE", b"proctitle")), raw=True
    )


@pytest.mark.parametrize(
    "redact",
    [["records.*.argv"], ["records.fields.argv"], ["records.*.argv", "records.fields.proctitle"],
     ["records.EXECVE", "records.PROCTITLE.proctitle"], ["records.EXECVE.a1", "records.PROCTITLE"]],
)  # fmt: skip
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_hidden_command_line_is_nowhere(redact: list[str], schema: str) -> None:
    native = with_secret()
    assert SECRET in json.dumps(native)
    render = renderer(schema, OF, raw=True)
    assert SECRET.encode() in render(native)
    shown = render(cast("NativeEvent", selected(native, redact=redact)))
    for form in (SECRET.encode(), SECRET.encode().hex().encode(), SECRET.encode().hex().upper().encode()):
        assert form not in shown


def test_a_damaged_record_hides_all() -> None:
    shown = selected(ALL["damaged"](), redact=["records.fields.cwd"])
    assert shown["records"][0]["raw"] == "[redacted]"
    assert "raw_hex" not in shown["records"][0]
    assert texts(shown["records"][0]["fields"]) == {"[redacted]"}


def test_hidden_values_keep_their_types() -> None:
    shown = selected(
        MADE["open refused"](), redact=["records.SYSCALL.exit", "records.fields.name", "keys", "subject.pid"]
    )
    fields = shown["records"][0]["fields"]
    assert {"exit", "EXIT"} & fields.keys() == {"EXIT"}  # a number cannot say that it is hidden
    assert fields["EXIT"] == "[redacted]"
    assert shown["records"][2]["fields"]["name"] == "[redacted]"
    assert shown["keys"] == ["[redacted]"]
    assert "pid" not in shown["subject"]


def test_a_hidden_text_takes_its_bytes_along() -> None:
    shown = selected(ALL["container"](), redact=["subject.exe", "subject.comm"])
    assert shown["subject"]["exe"] == shown["subject"]["comm"] == "[redacted]"
    assert not {"exe_hex", "comm_hex"} & shown["subject"].keys()
    shown = selected(MADE["no text"](), redact=["records.fields.name"])
    assert "name_hex" not in shown["records"][2]["fields"]


def test_labels_one_or_all() -> None:
    assert selected(ALL["named"](), redact=["container.labels"])["container"]["labels"] == {"k": "[redacted]"}
    assert selected(ALL["named"](), redact=["container.labels.k"])["container"]["labels"] == {
        "k": "[redacted]"
    }
    assert selected(ALL["named"](), redact=["container.labels.j"])["container"]["labels"] == {"k": "v"}


def test_an_address_that_is_hidden_is_no_address() -> None:
    shown = selected(MADE["connect"](), redact=["records.SOCKADDR.saddr"])
    assert shown["records"][1]["fields"] == {
        "saddr": "[redacted]",
        "SADDR": {"fam": "[redacted]", "addr": "[redacted]"},
    }
    shown = selected(MADE["connect"](), redact=["records.SOCKADDR.saddr.port"])
    assert shown["records"][1]["fields"]["saddr"] == "[redacted]"
    assert shown["records"][1]["fields"]["SADDR"] == {"fam": "inet", "addr": "192.0.2.7"}


def test_both_together() -> None:
    shown = selected(
        MADE["login"](), ["subject", "records.fields.acct"], ["records.fields.acct", "subject.exe"]
    )
    assert shown["records"][0]["fields"] == {"msg": {"acct": "[redacted]"}}


@pytest.mark.parametrize(
    ("fields", "redact"),
    [
        (["subject.pid"], []),
        (["records.fields.name"], []),
        ([], ["subject", "records.fields.name", "records.fields.argv", "host.name"]),
        ([], ["records.fields"]),
        ([], ["cgroup.path", "container.id", "container.image", "records.fields.msg"]),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_what_is_left_has_its_place_in_every_schema(name: str, fields: list[str], redact: list[str]) -> None:
    native = Selection(fields, redact).apply(ALL[name]())
    assert complaints(json.loads(json.dumps(native))) == []
    assert ecs_complaints(document(native, raw=True)) == []
    assert ocsf_complaints(ocsf_event(native, raw=True)) == []
    for schema in SCHEMAS:
        renderer(schema, OF, raw=True)(native)


# -- wrong paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("subjcet.pid", "did you mean subject?"),
        ("subject.pdi", "did you mean pid?"),
        ("subject.pid.x", "nothing is below it"),
        ("namespaces.*.inode", "did you mean ino?"),
        ("", "names with dots between them, as subject.pid"),
        ("subject..pid", "names with dots between them, as subject.pid"),
        ("records.EXECEV.argv", "did you mean records.EXECVE?"),
        ("records.execve.argv", "did you mean records.EXECVE?"),
        ("records.zzz.argv", "records.fields.NAME, or records.TYPE.NAME"),
        ("records.*", "records.fields.NAME, or records.TYPE.NAME"),
        ("records.fields.", "records.fields.NAME, or records.TYPE.NAME"),
        ("cgroup.zzz", "there are id, path, path_hex, unit"),
    ],
)
def test_a_wrong_path_is_an_error_with_a_hint(path: str, hint: str) -> None:
    with pytest.raises(UsageError) as kept:
        Selection([path])
    with pytest.raises(UsageError) as hidden:
        Selection(redact=[path])
    assert kept.value.hint == hidden.value.hint == hint


def test_a_type_without_a_name_can_be_chosen() -> None:
    assert selected(MADE["a type without a name"](), ["records.UNKNOWN[1999].a"])["records"][0]["fields"] == {
        "a": "1"
    }
