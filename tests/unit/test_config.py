# SPDX-License-Identifier: Apache-2.0
"""Settings: kinds of values, what wins over what, and every error with its place; hostile files say what is wrong."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from enricher.config import kinds, load
from enricher.config.kinds import Choice, Count, Duration, Flag, Kind, Name, Size, Unfit, Words
from enricher.config.load import Problem, Settings
from enricher.config.settings import (
    BY_NAME,
    FILE,
    HOOK,
    OUTPUT_FORMAT,
    OUTPUT_KEYS,
    OUTPUT_PATH,
    OUTPUT_RAW,
    RING_MEMORY,
    ROTATE_KEEP,
    SECTIONS,
    SETTINGS,
    Setting,
)
from enricher.errors import ConfigInvalid

T = TypeVar("T")

BIG = 1 << 62


def read(directory: Path, text: str | bytes, environment: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a file of this text, `F` standing for the file."""
    file = directory / "F"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return said(load.read(str(file), environment or {})[1], directory)


def said(problems: list[Problem], directory: Path) -> list[str]:
    return [str(problem).replace(f"{directory}/", "") for problem in problems]


# -- kinds -------------------------------------------------------------------------------------------


def through_toml(kind: Kind[T], value: T) -> T:
    return kind.from_toml(tomllib.loads(f"key = {kind.show(value)}")["key"])


texts = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: dict[Kind[Any], st.SearchStrategy[Any]] = {
    Choice("a", "b.c", "d e"): st.sampled_from(["a", "b.c", "d e"]),
    Flag(): st.booleans(),
    Count(0): st.integers(0, BIG - 1),
    Count(0, 65535): st.integers(0, 65535),
    Size(): st.integers(1, 10**18 - 1) | st.integers(0, 61).map(lambda shift: 1 << shift),
    Duration(): st.floats(min_value=0, max_value=1e15, exclude_min=True),
    kinds.Path(): texts.map(lambda text: "/" + text.replace("\0", "")),
    kinds.Path(107, optional=True): st.sampled_from(["", "/a"]),
    Name(): texts.filter(lambda text: not any(char.isspace() or char in ":/\0" for char in text)),
    kinds.Text("EXPR"): texts,
    Words(): st.lists(texts.filter(bool)).map(tuple),
}


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: type(kind).__name__)
@given(data=st.data())
def test_what_is_shown_is_read_again(kind: Kind[Any], data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert through_toml(kind, value) == value


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: type(kind).__name__)
@given(data=st.data())
def test_a_text_is_a_value_or_unfit_and_the_value_can_be_shown(kind: Kind[Any], data: st.DataObject) -> None:
    text = data.draw(st.text() | st.from_regex(r"[0-9]{0,25}(\.[0-9]+)?(K|M|G|ms|s|m|h)?", fullmatch=True))
    wrong = ""
    try:
        shown = kind.show(kind.parse(text))
    except Unfit as unfit:
        wrong = str(unfit)
        shown = ""
    assert shown.isprintable()
    assert wrong.isprintable()
    assert kind.what in wrong if wrong else shown


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Choice("a", "b"), "b", "b"),
        (Flag(), "YES", True),
        (Flag(), "0", False),
        (Count(), "007", 7),
        (Count(0), "0", 0),
        (Size(), "65536", 1 << 16),
        (Size(), "64K", 1 << 16),
        (Size(), "3G", 3 << 30),
        (Duration(), "30", 30.0),
        (Duration(), "500ms", 0.5),
        (Duration(), "1.5h", 5400.0),
        (Duration(), "30d", 2_592_000.0),
        (Count(0, 65535), "65535", 65535),
        (kinds.Path(), "/a b", "/a b"),
        (kinds.Path(optional=True), "", ""),
        (Name(), "", ""),
        (kinds.Text("EXPR"), " a, b", " a, b"),
        (Words(), " a ,, b", ("a", "b")),
        (Words(), "", ()),
    ],
)
def test_how_a_value_is_written_in_a_variable(kind: Kind[Any], text: str, value: object) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (Choice("a", "b"), ["", "A", "c"]),
        (Flag(), ["", "on", "2"]),
        (Count(), ["", "0", "-1", "1.5", "\u0661", "\u00b2", " 1", "9" * 19, "9" * 5000]),
        (Size(), ["", "0", "0K", "K", "-1", "1.5M", "1k", "1T", "\u0661", "9" * 19, "9" * 17 + "G"]),
        (Duration(), ["", "0", "0.0s", "-1", "1w", "1e3", "inf", "nan", "\u0661s", "9" * 400]),
        (Count(0, 65535), ["65536", "-1"]),
        (kinds.Path(), ["", "a", "./a", "/a\0"]),
        (kinds.Path(3, optional=True), ["a", "/abc"]),
        (Name(), ["a b", "a/b", "a:b", "a\n"]),
    ],
)
def test_what_is_no_value(kind: Kind[Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(Unfit, match="is not"):
            kind.parse(text)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Choice("a"), [1, True, ["a"], {}]),
        (Flag(), ["true", 1, []]),
        (Count(), [True, "1", 1.0, -1, BIG]),
        (Size(), [True, 0, -1, 1.5, []]),
        (Words(), ["a", [1.5], [""], ["a", []], {}]),
    ],
)
def test_what_a_file_may_not_hold(kind: Kind[Any], values: list[object]) -> None:
    for value in values:
        with pytest.raises(Unfit, match="is not"):
            kind.from_toml(value)


def test_a_hostile_text_is_shown_harmless() -> None:
    with pytest.raises(Unfit) as caught:
        Choice("a").parse('\x1b[31m"\n')
    assert str(caught.value) == r'"\U0000001B[31m\"\U0000000A" is not one of a'


# -- rows --------------------------------------------------------------------------------------------


def test_names_options_and_variables_are_unique() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    assert len({row.variable for row in SETTINGS}) == len(SETTINGS)
    options = [row.option for row in SETTINGS if row.option]
    assert len(set(options)) == len(options)
    assert list(dict.fromkeys(row.section for row in SETTINGS)) == list(SECTIONS)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_a_default_is_of_its_kind(row: Setting[Any]) -> None:
    assert through_toml(row.kind, row.default) == row.default
    assert row.doc
    assert not row.doc.endswith(".")


# -- what wins ---------------------------------------------------------------------------------------


def test_without_anything_all_is_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "FILE", str(tmp_path / "none"))
    settings = load.load(environment={"PATH": "/bin"})
    assert settings.files == ()
    assert all(settings[row] == row.default for row in SETTINGS)
    assert {settings.origin(row) for row in SETTINGS} == {"default"}


def test_the_later_wins(tmp_path: Path) -> None:
    main = tmp_path / "main.toml"
    main.write_text(
        '[source]\nhook = "skb_queue_tail"\n[output]\nkeys = ["a", "b"]\nrotate_keep = 1\nraw = true\n'
    )
    below = tmp_path / "config.d"
    below.mkdir()
    (below / "20.toml").write_text("output.rotate_keep = 3\n")
    (below / "10.toml").write_text('[output]\nrotate_keep = 2\n\nkeys = ["c"]\n')
    (below / "30.conf").write_text("no TOML")
    settings = load.load(str(main), {"AUDIT_ENRICHER_OUTPUT_RAW": "no"})
    assert settings.files == (str(main), str(below / "10.toml"), str(below / "20.toml"))
    assert (settings[HOOK], settings.origin(HOOK)) == ("skb_queue_tail", f"{main}:2")
    assert (settings[OUTPUT_KEYS], settings.origin(OUTPUT_KEYS)) == (("c",), f"{below}/10.toml:4")
    assert (settings[ROTATE_KEEP], settings.origin(ROTATE_KEEP)) == (3, f"{below}/20.toml:1")
    assert (settings[OUTPUT_RAW], settings.origin(OUTPUT_RAW)) == (False, "AUDIT_ENRICHER_OUTPUT_RAW")
    assert (settings[RING_MEMORY], settings.origin(RING_MEMORY)) == (32 << 20, "default")


def test_drop_ins_are_read_without_the_main_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "FILE", str(tmp_path / "none"))
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "a.toml").write_text('[output]\nformat = "text"\n')
    settings = load.load(environment={})
    assert settings[OUTPUT_FORMAT] == "text"
    assert settings.files == (str(tmp_path / "config.d" / "a.toml"),)


def test_the_processes_own_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "F").write_text("")
    monkeypatch.setenv("AUDIT_ENRICHER_SOURCE_RING_MEMORY", "1M")
    assert load.load(str(tmp_path / "F"))[RING_MEMORY] == 1 << 20


def test_one_setting_replaced_and_what_changed() -> None:
    before = Settings()
    after = before.replaced(HOOK, "skb_queue_tail", "--hook")
    assert (after[HOOK], after.origin(HOOK)) == ("skb_queue_tail", "--hook")
    assert before[HOOK] == "auto"
    assert after.changed(before) == before.changed(after) == [HOOK]
    assert before.changed(before.replaced(HOOK, "auto", "--hook")) == []


# -- errors ------------------------------------------------------------------------------------------

WRONG = {
    # what a file may say: what is said of it
    "[source]\nhook = auto": ["F:2: Invalid value"],
    "[source]\n\nhook = 'x'": [
        'F:3: hook: "x" is not one of auto, audit_log_end, audit_log_end.part.0, skb_queue_tail'
    ],
    "[source]\r\nring_memory = '1'\r\nring_memory = '2'\r\n": ["F:3: Cannot overwrite a value"],
    "[source]\nhok = 1": ["F:2: there is no setting hok in [source]"],
    "[sorce]\n[output]\nfoo = 1": [
        "F:1: there is no section sorce",
        "F:3: there is no setting foo in [output]",
    ],
    "\nhook = 'auto'": ["F:2: there is no section hook"],
    "\nsource = 1": ["F:2: source is a section: write [source]"],
    "# a\n[[source]]": ["F:2: source is a section: write [source]"],
    "# a\n[output.raw]\nx = 1": ["F:2: raw: this table is not true or false"],
    "output.rotate_keep = -1": ["F:1: rotate_keep: -1 is not a whole number of 0 or more"],
    "output = {raw = 1}": ["F:1: raw: 1 is not true or false"],
    "[output]\nkeys = ''\n'types' = [\n1.5,\n]\n\"raw\" = 1979-05-27": [
        'F:2: keys: "" is not a list of words',
        "F:3: types: this array is not a list of words",
        "F:6: raw: 1979-05-27 is not true or false",
    ],
    "# \u2028 \u0085 \u2029\n[output]\nraw = 1": ["F:3: raw: 1 is not true or false"],
    "[output]\nrotate_keep = " + "9" * 5000: ["F: there is a number with too many digits"],
    "[output]\nrotate_keep = 0x" + "f" * 5000: [
        "F:2: rotate_keep: this number is not a whole number of 0 or more"
    ],
    "a = " + "[" * 50_000: ["F: values within values are too deep"],
    "[output": ["F:1: Expected ']' at the end of a table declaration (at end of document)"],
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:30]))
def test_each_error_has_its_place(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == WRONG[text]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[sorce]", "did you mean source?"),
        ("[source]\nhok = 1", "did you mean hook?"),
        (
            "[zzz]",
            "there are source, metadata, namespaces, output, service, journal, control, contid, metrics, sinks",
        ),
        ("hook = 1", "settings stand below the [section] they belong to"),
        ("[source]\nhook = auto", 'strings are quoted in TOML, key = "value"'),
        ("[output]\nraw = 1", "raw: json: add each record's text as the kernel wrote it"),
    ],
)
def test_hints(text: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "F").write_text(text)
    assert [problem.hint for problem in load.read(str(tmp_path / "F"), {})[1]] == [hint]


def test_files_that_are_none(tmp_path: Path) -> None:
    assert read(tmp_path, b"# \xff") == ["F:1: is not UTF-8"]
    assert read(tmp_path, b"\n\n\xc3") == ["F:3: is not UTF-8"]
    assert read(tmp_path, b"#" * (1 << 20)) == []
    assert read(tmp_path, b"#" * ((1 << 20) + 1)) == ["F: is larger than 1 MiB: this is no configuration"]
    assert said(load.read(str(tmp_path / "no"), {})[1], tmp_path) == ["no: there is no such file"]
    assert said(load.read(str(tmp_path), {})[1], tmp_path.parent) == [
        f"{tmp_path.name}: cannot be read: Is a directory"
    ]


def test_drop_ins_that_are_none(tmp_path: Path) -> None:
    below = tmp_path / "config.d"
    below.mkdir()
    (below / "a.toml").mkdir()
    (below / "b.toml").symlink_to("nowhere")
    (below / "c.toml").write_text("[")
    found = read(tmp_path, "[output]\nraw = 1")
    assert [line.partition(": ")[0] for line in found] == ["F:2", "config.d/a.toml", "config.d/c.toml:1"]
    assert found[1] == "config.d/a.toml: cannot be read: Is a directory"


def test_drop_ins_that_cannot_be_listed_are_told(tmp_path: Path) -> None:
    (tmp_path / "config.d").write_text("a file")
    assert read(tmp_path, "") == ["config.d: cannot be read: Not a directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "F").write_text("")
    (tmp_path / "F").chmod(0)
    assert said(load.read(str(tmp_path / "F"), {})[1], tmp_path) == ["F: cannot be read: Permission denied"]


def test_variables(tmp_path: Path) -> None:
    variables = {"AUDIT_ENRICHER_OUTPUT_RAW": "maybe", "AUDIT_ENRICHER_OUTPUT_RAV": "1", "AUDIT_RAW": "x"}
    assert read(tmp_path, "", variables) == [
        "AUDIT_ENRICHER_OUTPUT_RAV: there is no such setting",
        'AUDIT_ENRICHER_OUTPUT_RAW: "maybe" is not true or false',
    ]


def test_all_problems_at_once_in_one_error(tmp_path: Path) -> None:
    file = tmp_path / "F"
    file.write_text("[output]\nraw = 1\nrotate_sise = 1\n")
    with pytest.raises(ConfigInvalid) as caught:
        load.load(str(file), {"AUDIT_ENRICHER_X": ""})
    lines = caught.value.message.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{file}:2", f"{file}:3", "AUDIT_ENRICHER_X"]
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_wrong_value_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "F"
    file.write_text("[output]\nraw = 1\nrotate_keep = 5\n")
    settings, problems = load.read(str(file), {})
    assert len(problems) == 1
    assert settings[OUTPUT_RAW] is False
    assert settings[ROTATE_KEEP] == 5


# -- hostile files -----------------------------------------------------------------------------------

WORDS = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    '"',
    "'",
    '"""',
    "'''",
    "\\",
    "#",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\x00",
    *SECTIONS,
    *(row.key for row in SETTINGS),
    *(row.name for row in SETTINGS),
    "true",
    "nan",
    "-inf",
    "0",
    "-1",
    "0x1F",
    "1e400",
    "1979-05-27",
    "07:32:00",
    "9" * 5000,
    "0x" + "f" * 5000,
    '"auto"',
    '"/x"',
    '"64M"',
    '"\\u0000"',
    '["a"]',
    "\u2028",
    "\ufeff",
    "\x1b",
    "\x00",
    "é",
]
hostile = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=30).map("".join).map(str.encode)
lines = (
    st.lists(
        st.builds("{} = {}\n".format, st.sampled_from(WORDS), st.sampled_from(WORDS))
        | st.sampled_from([f"[{section}]\n" for section in SECTIONS]),
        max_size=12,
    )
    .map("".join)
    .map(str.encode)
)


@given(text=hostile | lines | st.binary(max_size=200))
@hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_only_problems_come_of_it(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "F"
    file.write_bytes(text)
    found, problems = load.read(str(file), {})
    for row in SETTINGS:
        assert through_toml(row.kind, found[row]) == found[row]
    count = text.count(b"\n") + 1
    for problem in problems:
        assert problem.message
        name, _, line = problem.place.removeprefix(str(tmp_path)).partition(":")
        assert name == "/F"
        assert not line or 1 <= int(line) <= count


@given(
    variables=st.dictionaries(
        st.sampled_from([row.variable for row in SETTINGS]) | st.text().map("AUDIT_ENRICHER_".__add__),
        st.text() | st.sampled_from(WORDS),
    )
)
@hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_environment_holds(variables: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "F"
    file.touch()
    found, problems = load.read(str(file), variables)
    known = {row.variable: row for row in SETTINGS}
    assert {problem.place for problem in problems} <= set(variables)
    assert set(variables) - set(known) <= {problem.place for problem in problems}
    for variable in set(variables) - {problem.place for problem in problems}:
        assert found.origin(known[variable]) == variable


def test_a_path_may_be_anything_but_relative(tmp_path: Path) -> None:
    file = tmp_path / "F"
    file.write_text("[output]\npath = '''/a\n[output]'''\n")
    assert load.load(str(file), {})[OUTPUT_PATH] == "/a\n[output]"


def test_the_file_is_where_the_package_puts_it() -> None:
    assert FILE == "/etc/audit-enricher/audit-enricher.toml"
