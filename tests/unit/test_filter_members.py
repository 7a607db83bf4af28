# SPDX-License-Identifier: Apache-2.0
"""What a compiled filter says of events: each member, each operator, what is missing, and events of our own."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from hypothesis import given, settings

from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.model import KINDS, Event, Loss, Notice
from enricher.route.expression import GLOB_MAX, compile_filter, glob
from enricher.route.filters import Filter, Shared, made_of
from enricher.route.members import MEMBERS
from tests.unit import sample_native
from tests.unit.sample_events import BOX_INUMS, HOST, INITIAL, SYSCALL, USER_LOGIN, context, event, exec_event
from tests.unit.sample_facts import change
from tests.unit.sample_filters import COMPILED

Json = dict[str, Any]


class Named:
    """A name service that knows two users and a group."""

    generation = 0

    def user(self, uid: int) -> str | None:
        return {0: "root", 1000: "alice", 2**32 - 1: "unset"}.get(uid)

    def group(self, gid: int) -> str | None:
        return {0: "wheel"}.get(gid)


def never() -> NativeEvent:
    raise AssertionError("the native event was made")


def built(made: Event) -> NativeEvent:
    return NativeBuilder(HOST, names=Named()).build(made)


def passes(text: str, made: Event, native: Json | None = None) -> bool:
    """Whether the event passes; `native` stands for what would be made of it."""
    given_native = built(made) if native is None else cast("NativeEvent", native)
    return compile_filter(text).matches(made, lambda: given_native)


FAILED = SYSCALL.replace(b"success=yes exit=0", b"success=no exit=-13")

OF_EXEC = {
    "type": ["type == EXECVE", "type == execve", "type in (1, PATH)", "type == 1300", 'type ~ "EXEC*"'],
    "key": ["key == exec", 'key ~ "e?e*"', "key in (x, exec)", "has key"],
    "syscall": ["syscall == execve", "syscall == 59", 'syscall ~ "exec*"', "syscall in (open, execve)"],
    "outcome": ["outcome == success", "outcome in (success, failure)", "outcome != failed"],
    "exit": ["exit == 0", "exit >= 0", "exit < 1", "exit != EACCES", "has exit"],
    "user": ["user == root", "user == 0", "user < 1", 'user ~ "r*t"', "user in (alice, root)"],
    "uid": ["uid == root", "uid == 0"],
    "auid": ["auid == alice", "auid == 1000", "auid >= 1000", "auid != unset", "has auid"],
    **{name: [f"{name} == root", f"{name} <= 0"] for name in ("euid", "suid", "fsuid")},
    **{name: [f"{name} == wheel", f"{name} == 0", f"{name} != users"] for name in ("gid", "egid")},
    **{name: [f"{name} == wheel"] for name in ("sgid", "fsgid")},
    "ses": ["ses == 3", "ses > 2", "ses <= 3", "ses in (1, 3)"],
    "pid": ["pid == 4711", "pid >= 4711", "pid < 4712", "pid in (1, 4711)", "pid != 1"],
    "tid": ["tid == 4712"],
    "ppid": ["ppid == 4000"],
    "comm": ["comm == ls", 'comm ~ "l*"', "comm !~ x", "comm in (ls)"],
    "exe": ["exe == /usr/bin/ls", 'exe ~ "/usr/*/ls"', "has exe"],
    "contid": [
        "contid == unset",
        "contid != 4",
        "contid in (1, unset)",
        "contid == 18446744073709551615",
        "not has contid",
    ],
    "where": ["where == unknown", "where in (unknown, host)", "where != host", "has where"],
    "host.name": ["host.name == web1", 'host.name ~ "web?"'],
    **{f"namespace.{kind}": [f"namespace.{kind} == host", f"has namespace.{kind}"] for kind in KINDS},
}
ID = "ab" * 32
OF_CONTAINER = {
    "where": ["where == container"],
    "container": [
        "container == shop",
        f"container == {ID}",
        "container == abababababab",
        'container ~ "sh*"',
    ],
    "container.id": [f"container.id == {ID}", "container.id == abababababab", "container.id ~ ab*"],
    "container.name": ["container.name == shop", 'container.name ~ "*o*"', "container.name !~ web*"],
    "container.runtime": ["container.runtime == docker", "container.runtime in (podman, docker)"],
    "container.image": ["container.image == shop:1", 'container.image ~ "shop:*"'],
    "label.": ["label.k == v", "label.'k' ~ v*", "has label.k", "not has label.q", "label.q != v"],
    "pod": ["pod == shop-0", "pod == u-1", "has pod"],
    "pod.uid": ["pod.uid == u-1"],
    "pod.name": ['pod.name ~ "shop-?"'],
    "pod.namespace": ["pod.namespace == prod", "pod.namespace not in (test, dev)"],
    "cgroup.path": ['cgroup.path ~ "/system.slice/*"'],
}


@pytest.mark.parametrize("text", [text for texts in OF_EXEC.values() for text in texts])
def test_what_is_true_of_an_event(text: str) -> None:
    made = exec_event()
    assert passes(text, made)
    assert not passes(f"not {text}", made)


@pytest.mark.parametrize("text", [text for texts in OF_CONTAINER.values() for text in texts])
def test_what_is_true_in_a_container(text: str) -> None:
    native = sample_native.named()
    native["container"]["labels"] = {"k": "v"}
    assert passes(text, exec_event(), native)
    assert not passes(f"not ({text})", exec_event(), native)


def test_a_unit() -> None:
    assert passes("cgroup.unit == sshd.service and where == host", exec_event(), sample_native.in_a_unit())


def test_every_member_is_tried() -> None:
    tried = {*OF_EXEC, *OF_CONTAINER, "cgroup.unit"} - {"label."}
    assert tried == set(MEMBERS)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "type == CRED_ACQ",
            "key == ex",
            "key == EXEC",
            "syscall == open",
            "outcome == failed",
            "exit == EPERM",
        ],
        *["user == alice", "auid == bob", "auid < 1000", "auid == unset", "ses < 3", "ses > 3", "pid < 4711"],
        *["pid > 4711", "pid <= 4710", "pid >= 4712", "comm == l", "comm ~ l", "comm ~ L*", "exe == ls"],
        *["where == host", "host.name == web", "namespace.net != host", "namespace.net == 1", "tid == 4711"],
        *["has container", "has label.k", "has pod", "has cgroup.unit", "container == ''", "ppid == 4711"],
        *["syscall != execve", "type != PATH", "type not in (PATH, USER)", "key !~ e*", "user == 1000"],
    ],
)
def test_what_is_false_of_an_event(text: str) -> None:
    assert not passes(text, exec_event())
    assert passes(f"not {text}", exec_event())


def test_a_failed_call() -> None:
    failed = event((1300, FAILED), context=context())
    for text in ("outcome == failed", "outcome == failure", "exit == EACCES", "exit == -13", "exit < 0"):
        assert passes(text, failed)
    assert not passes("exit == EPERM or exit > -13 or exit < EACCES or outcome != failure", failed)
    assert passes("exit <= EACCES", failed)


def test_namespaces_of_a_container_and_of_the_host() -> None:
    inside = exec_event(context(inums=BOX_INUMS))
    assert passes(f"namespace.net == {BOX_INUMS[3]} and namespace.net != host", inside)
    assert passes(f"namespace.user == host and namespace.user == {INITIAL[5]}", inside)
    assert not passes("namespace.mnt == host", inside)


@pytest.mark.parametrize(
    "member", [name for name in MEMBERS if name.split(".")[0] not in {"type", "host", "where"}]
)
def test_what_an_event_does_not_have(member: str) -> None:
    """A comparison with it is false, and its contrary is true."""
    kind = MEMBERS[member].kind
    value = {"system call": "open", "number or error": "1", "`success`, `failure`, `failed`": "failed"}
    about = value.get(kind.what, "1")
    made = event((1327, b"proctitle=6C73"))
    assert not passes(f"has {member}", made)
    for op in kind.operators:
        asked = {"in": f"in ({about})", "not in": f"not in ({about})", "~": "~ *", "!~": "!~ *"}
        text = f"{member} {asked.get(op, f'{op} {about}')}"
        assert passes(text, made) is (op in ("!=", "not in", "!~")), text


def test_an_id_that_is_not_set() -> None:
    body = SYSCALL.replace(b"auid=1000", b"auid=4294967295")
    made = event((1300, body), context=context(auid=2**32 - 1))
    assert passes("auid == unset and not has auid and not auid >= 0 and auid != 1000", made)


def test_a_name_is_of_the_number_that_the_subject_has() -> None:
    """The record may be about another: then the number alone is known."""
    body = SYSCALL.replace(b"auid=1000", b"auid=0")
    made = event((1300, body), context=context(auid=1000))
    assert passes("auid == 1000", made)
    assert not passes('auid == root or auid == 0 or auid ~ "*"', made)


def test_root_is_0_where_nobody_is_known() -> None:
    native = NativeBuilder(HOST).build(exec_event())
    assert compile_filter("user == root and gid == root").matches(exec_event(), lambda: native)
    assert not compile_filter("auid == alice").matches(exec_event(), lambda: native)


def test_a_program_cannot_choose_what_the_kernel_says() -> None:
    login = event((1112, USER_LOGIN.replace(b"op=login", b"uid=0 UID=bob syscall=1 key=exec")))
    assert passes("user == root and outcome == failed and pid == 4711 and type == USER_LOGIN", login)
    assert not passes("user == bob or has syscall or has key", login)


def test_a_key_is_compared_with_all_its_bytes() -> None:
    odd = event((1300, SYSCALL.replace(b'"exec"', b"61FF0162")))
    assert passes("key == 'a\udcff' and key == b and key in (b) and key !~ a", odd)
    assert not passes("key == 'a\ufffd'", odd)


# -- what is decided before the native event is made ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("type == EXECVE", True),
        ("type == USER_LOGIN", False),
        ("key != exec", False),
        ("where == host", None),
        ("where == host and key == other", False),
        ("key == other and where == host", False),
        ("where == host or key == exec", True),
        ("where == host or key == other", None),
        ("where == host and key == exec", None),
        ("not (where == host and key == other)", True),
        ("not (where == host or key == exec)", False),
        ("not where == host", None),
        ("has where", None),
        ("has key and type ~ EX*", True),
        ("(pid == 1 or pid == 2) and (key == exec or pid == 3) and type == PATH", None),
        ("(pid == 1 or pid == 2) and (key == exec or pid == 3) and type == CRED_ACQ", False),
    ],
)
def test_what_is_known_before_the_native_event_is_made(text: str, known: object) -> None:
    made = compile_filter(text)
    assert made.early(exec_event()) is known
    if known is not None:
        assert made.matches(exec_event(), never) is known


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("(where == host or key == exec) and ses == 3", True),
        ("(where == unknown and key == other) or ses == 1", False),
        ("not ((where == host or key == exec) and ses == 3)", False),
        ("key == exec and (where == unknown and type == PATH) and ses == 3", True),
        ("key == other or (where == host or type == LOGIN) or ses == 1", False),
    ],
)
def test_what_a_part_knew_early_still_counts(text: str, *, verdict: bool) -> None:
    """Parts that decide early stand within others that do not."""
    assert compile_filter(text).early(exec_event()) is None
    assert passes(text, exec_event()) is verdict


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("where == container", False),
        ("not where == container", True),
        ("container.name ~ web* and pid == 3 and key == exec", False),
        ("namespace.net == host or comm == x", True),
        ("has label.a or has pod or has cgroup.unit", False),
        ("host.name == web1", True),
        ("where == unknown and pid == 4711", None),
        ("pid == 4711 and comm == ls", None),
    ],
)
def test_what_is_known_of_the_place_alone(text: str, known: object) -> None:
    made = compile_filter(text)
    shared = Shared(exec_event(), built, NativeBuilder(HOST).place)
    assert made.early(shared.event) is None
    assert made._part.early(shared.event, shared.place()) is known
    if known is None:
        assert made.matches(shared.event, shared.native, shared.place) is True
        assert shared.place() is shared.native(), "what is there already is not made again"
    else:
        assert made.matches(shared.event, never, shared.place) is known
        assert shared.place() is shared.place()


def test_no_place_is_made_for_a_filter_that_has_no_use_for_it() -> None:
    made = compile_filter("pid == 4711 and comm == ls")
    assert made.matches(exec_event(), lambda: built(exec_event()), never)


def test_a_place_is_that_of_the_native_event() -> None:
    """Every member that is said to be there is the same, wherever an event comes from."""
    builder = NativeBuilder(HOST, around=sample_native.around())
    events = [
        *EVENTS,
        sample_native.journalled(),
        exec_event(context(flags=0)),
        exec_event(context(inums=(0,) * 10)),
    ]
    events.append(exec_event(context(cgroup_id=1, inums=sample_native.ENTERED, ids=sample_native.IDS)))
    from_elsewhere = exec_event()
    from_elsewhere.context, from_elsewhere.node = None, b"elsewhere"
    events.append(from_elsewhere)
    lists = []
    for made in events:
        native, place = builder.build(made), builder.place(made)
        said = [name for name, row in MEMBERS.items() if row.place and row.read and row.read(native)]
        for name in [name for name, row in MEMBERS.items() if row.place]:
            read = MEMBERS[name].read
            assert read is not None
            assert read(place) == read(native), name
        lists.append(len(said))
    assert max(lists) >= 15, "too little is known of these events to tell anything"
    unplaced = {name for name, row in MEMBERS.items() if row.read and not row.place}
    assert unplaced == {*OF_EXEC} - {"type", "key", "contid", "where", "host.name"} - {
        f"namespace.{kind}" for kind in KINDS
    }


def told() -> Event:
    made = event(stamp=b"1772366400.042:0")
    made.own_id, made.told = "5eed0001/12", change()
    return made


def own(*, loss: bool) -> Event:
    made = event(stamp=b"1772366400.042:0")
    made.own_id = "5eed0001/13"
    if loss:
        made.loss = Loss("ring", "ring", 1, "records", None, None, ())
    else:
        made.notice = Notice("reload", "new settings")
    return made


EVENTS = [
    exec_event(),
    exec_event(context(inums=BOX_INUMS)),
    event((1112, USER_LOGIN)),
    event((1300, FAILED), (1302, b"item=0")),
    event(context=context(record_type=1309)),
    event((1999, b"x=1 key=(null)")),
    told(),
    own(loss=True),
    own(loss=False),
]


@settings(deadline=None)
@given(COMPILED)
def test_early_and_full_agree(text: str) -> None:
    made = compile_filter(text)
    for one in EVENTS:
        native = built(one)
        known = made.early(one)
        verdict = made.matches(one, lambda native=native: native)  # type: ignore[misc]
        assert known in (None, verdict)
        place = NativeBuilder(HOST).place(one)
        assert made.matches(one, lambda native=native: native, lambda place=place: place) is verdict  # type: ignore[misc]
        if not one.own_id:
            assert made._part.full(one, native) is verdict
            assert made._part.early(one, place) in (None, verdict)


@pytest.mark.parametrize("made", EVENTS[:7])
def test_types_and_keys_are_those_of_the_native_event(made: Event) -> None:
    native = built(made)
    types = {record["type"] for record in native["records"]} or {native["type"]}
    for name in ("SYSCALL", "EXECVE", "USER_LOGIN", "PATH", "UNKNOWN[1999]", "NS_CHANGE"):
        assert passes(f"type == {name}", made) is (name in types)
    for key in ("exec", "other"):
        assert passes(f"key == {key}", made) is (key in native["keys"])


# -- events of our own -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lost", "notice"),
    [
        ("key == nobody", True, True),
        ("where == host", True, True),
        ("not type == EXECVE", True, True),
        ("type == EXECVE", True, True),
        ("type != NOTICE", True, False),
        ("not type == 1394", False, True),
        ("type == LOST", True, True),
        ("type == LOST and type != NOTICE", True, False),
        ("key == exec and type not in (LOST, NOTICE)", False, False),
        ("type == NOTICE and key == exec", True, False),
        ("where == unknown and type != notice or type == LOST", True, False),
        ('type ~ "LOS*"', True, True),
    ],
)
def test_what_we_say_ourselves_passes_unless_its_type_is_named(
    text: str, *, lost: bool, notice: bool
) -> None:
    assert passes(text, own(loss=True)) is lost
    assert passes(text, own(loss=False)) is notice


def test_what_we_tell_of_namespaces_is_an_event_like_others() -> None:
    assert passes("type == NS_CHANGE and not has key", told())
    assert passes("has pid", told())
    assert not passes("key == exec", told())
    assert not passes("type == EXECVE", told())


# -- patterns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "like", "unlike"),
    [
        ("web-*", ["web-", "web-1", "web-\n"], ["web", "xweb-", "WEB-1"]),
        ("*", ["", "x", "\n"], []),
        ("", [""], ["x"]),
        ("a?c", ["abc", "a?c", "a\nc"], ["ac", "abbc"]),
        ("*a*b", ["ab", "xaxb", "aab", "abab"], ["ba", "abx"]),
        ("a*b*c", ["abc", "abbc", "axbxc", "abcbc"], ["acb", "ab"]),
        ("*ab*ab", ["abab", "xababab"], ["ab", "aba"]),
        ("**", ["", "x"], []),
        ("[a].+", ["[a].+"], ["a.+", "[a]x+"]),
        ("*.service", ["a.service"], ["aXservice", "a.service.d"]),
    ],
)
def test_patterns(pattern: str, like: list[str], unlike: list[str]) -> None:
    matches = glob(pattern)
    assert [text for text in like if not matches(text)] == []
    assert [text for text in unlike if matches(text)] == []


@pytest.mark.parametrize(
    "pattern", ["*a" * 127 + "*b", "*?" * 127 + "b", "*" + "a" * 254 + "b", "?" * 255 + "*"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    """As a usual regular expression the first would take longer than the universe has been there."""
    matches = glob(pattern[:GLOB_MAX])
    begin = time.process_time()
    matches("a" * 4096)
    assert time.process_time() - begin < 1.0


# -- together with keys and types --------------------------------------------------------------------


def test_keys_and_types_are_short_forms() -> None:
    for keys, types in (
        (["exec", "b"], []),
        ([], ["EXECVE", "1112"]),
        (["exec"], ["PATH"]),
        (["x"], ["PATH"]),
    ):
        texts = [f"key in ({', '.join(keys)})"] * bool(keys) + [f"type in ({', '.join(types)})"] * bool(types)
        expression = compile_filter(" and ".join(texts))
        short = Filter(keys, types)
        for one in EVENTS:
            assert short.early(one) is short.matches(one, never) is expression.matches(one, never)


def test_all_of_what_is_asked_must_hold() -> None:
    both = Filter(["exec"], ["EXECVE"], "ses == 3")
    assert both.early(exec_event()) is None
    assert both.matches(exec_event(), lambda: built(exec_event()))
    assert not both.matches(exec_event(context(ses=1)), lambda: built(exec_event(context(ses=1))))
    assert not both.matches(event((1300, SYSCALL)), never)
    assert both.matches(own(loss=True), never)
    assert not Filter(["exec"], ["EXECVE"], "type != LOST").matches(own(loss=True), never)


def test_nothing_asked_is_no_filter() -> None:
    assert made_of([], [], " \n") is None
    assert made_of([], [], "has key") is not None


def test_the_native_event_is_made_once() -> None:
    made = []

    def build(one: Event) -> NativeEvent:
        made.append(one)
        return built(one)

    shared = Shared(exec_event(), build)
    for text in (
        "key == other",
        "pid == 1",
        "pid == 4711 and comm == ls and where == unknown",
        "uid == root",
    ):
        compile_filter(text).matches(shared.event, shared.native)
    assert len(made) == 1
    assert shared.native() is shared.native()
