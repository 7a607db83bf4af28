# SPDX-License-Identifier: Apache-2.0
"""What is opened, and what is not: every file here was written by somebody who may want us to read another one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from enricher.enrich.metadata import Known, Metadata, is_cgroup, known_from, labels_of, metadata_from, word
from enricher.enrich.metadata.files import (
    FILE_MAX,
    Budget,
    BudgetSpent,
    Files,
    Host,
    member,
    objects,
    owner_of,
    parse,
)
from tests.unit.sample_state import USER, Tree

BASE = ("/var/lib/x",)
HOME = ("/home/ann", ".local")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_file_below_a_base(tree: Tree) -> None:
    tree.text("var/lib/x/a/b", "text")
    files = tree.files()
    assert files.read(BASE, "a", "b") == b"text"
    assert files.read(BASE, "a", "c") is None
    assert files.read(("/var/lib/none",), "b") is None
    assert files.names(BASE) == ["a"]
    assert files.names(BASE, "a", "b") == []


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x/a/b", "a\0b", "n" * 256, "\ud800"])
def test_a_name_is_one_step(tree: Tree, name: str) -> None:
    tree.text("var/lib/x/a/b", "text")
    assert tree.files().read(BASE, name) is None
    assert tree.files().read(BASE, name, "b") is None
    assert tree.files().names(BASE, name) == []


def test_links_are_followed_in_the_base_alone(tree: Tree) -> None:
    secret = tree.text("etc/secret", "key")
    (tree.root / "data").mkdir()
    tree.text("data/x/file", "moved")
    (tree.root / "var/lib").mkdir(parents=True)
    (tree.root / "var/lib/x").symlink_to(tree.root / "data/x")
    assert tree.files().read(BASE, "file") == b"moved"
    (tree.root / "data/x/link").symlink_to(secret)
    assert tree.files().read(BASE, "link") is None
    (tree.root / "data/x/etc").symlink_to(tree.root / "etc")
    assert tree.files().read(BASE, "etc", "secret") is None
    assert tree.files().names(BASE, "etc") == []


def test_a_users_directories_are_no_base(tree: Tree) -> None:
    tree.text("home/bob/.local/file", "bob's", USER)
    (tree.root / "home/ann").mkdir()
    (tree.root / "home/ann/.local").symlink_to(tree.root / "home/bob/.local")
    assert tree.files(USER).read(HOME, "file") is None


def test_a_file_is_its_owners(tree: Tree) -> None:
    tree.text("home/ann/.local/file", "mine", USER)
    tree.text("home/ann/.local/roots", "root's")
    tree.text("home/ann/.local/bobs", "bob's", USER + 1)
    tree.text("var/lib/x/file", "not root's", USER)
    assert tree.files(USER).read(HOME, "file") == b"mine"
    assert tree.files(USER).read(HOME, "roots") is None
    assert tree.files(USER).read(HOME, "bobs") is None
    assert tree.files().read(BASE, "file") is None
    assert tree.files().names(BASE) == []


def test_a_file_that_anybody_can_write_is_nobodys(tree: Tree) -> None:
    tree.text("var/lib/x/file", "text").chmod(0o666)
    assert tree.files().read(BASE, "file") is None


def test_only_regular_files_and_none_is_waited_for(tree: Tree) -> None:
    (tree.root / "var/lib/x").mkdir(parents=True)
    os.mkfifo(tree.root / "var/lib/x/fifo")
    (tree.root / "var/lib/x/dir").mkdir()
    assert tree.files().read(BASE, "fifo") is None
    assert tree.files().read(BASE, "dir") is None


def test_a_large_file_is_not_read(tree: Tree) -> None:
    tree.text("var/lib/x/file", "x" * (FILE_MAX + 1))
    assert tree.files().read(BASE, "file") is None
    assert tree.files().read(BASE, "file", limit=FILE_MAX + 1) is not None


def test_a_budget_ends(tree: Tree) -> None:
    tree.text("var/lib/x/file", "x" * 100)
    files = Files(tree.host, 0, Budget(files=2))
    files.read(BASE, "file")
    files.read(BASE, "file")
    with pytest.raises(BudgetSpent):
        files.read(BASE, "file")
    with pytest.raises(BudgetSpent):
        Files(tree.host, 0, Budget(size=100)).read(BASE, "file")


def test_homes_are_those_of_passwd(tree: Tree) -> None:
    assert tree.files(USER).home == "/home/ann"
    assert tree.files(USER + 1).home == ""
    assert tree.files().home == ""
    assert tree.files(USER).bases("/var/lib/x", home=".local/x", runtime="x") == (
        (f"/run/user/{USER}", "x"),
        ("/home/ann", ".local", "x"),
    )
    assert tree.files(USER + 1).bases("/var/lib/x", home=".local/x") == ()
    assert tree.files().bases("/var/lib/x", home=".local/x") == (("/var/lib/x",),)


@pytest.mark.parametrize("line", ["ann:x:{uid}:0::relative:", "ann:x:{uid}:0:/short", "", "\udcff"])
def test_a_home_that_is_none(tree: Tree, line: str) -> None:
    (tree.root / "etc/passwd").write_bytes(line.format(uid=USER).encode("utf-8", "surrogateescape"))
    assert tree.files(USER).home == ""


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/system.slice/docker-x.scope", 0),
        ("/user.slice/user-1000.slice/user@1000.service/x", 1000),
        ("/user.slice/user-1000.slice/user@1000.service", None),
        ("/user.slice/user-1000.slice/user@1001.service/x", None),
        ("/user.slice/user-1000.slice/x.scope", 0),
        ("/user.slice/user-0.slice/user@0.service/x", 0),
        ("/system.slice/x/user.slice/user-1000.slice/user@1000.service/x", None),
    ],
)
def test_whose_a_cgroup_is(path: str, owner: int | None) -> None:
    assert owner_of(path) == owner


def test_the_host_is_the_host() -> None:
    assert Host() == (Path("/"), 0)


def test_json_of_strangers() -> None:
    assert parse(b'{"a": [1]}') == {"a": [1]}
    assert parse(b"") is None
    assert parse(b"\xff") is None
    assert parse(b"[" * 4000 + b"]" * 4000) is None
    assert parse(b"[" + b"[]," * 300_000 + b"[]]") is None
    assert parse(b"1" * 10_000) is None
    assert parse(json.dumps([{"id": "x" * 64, "names": ["name"]}] * 10_000).encode()) is not None
    assert member({"a": {"b": 1}}, "a", "b") == 1
    assert member({"a": [1]}, "a", "b") is None
    assert list(objects([1, {"a": 1}, None])) == [{"a": 1}]
    assert list(objects({"a": {}})) == []


def test_words_and_labels() -> None:
    assert word("web-1") == "web-1"
    assert [word(value) for value in (None, 1, ["x"], "a\nb", "\x1b[2J", "\ud800", "x" * 1025)] == [""] * 7
    wanted = {f"k{number:03}": "v" for number in range(100)}
    assert labels_of(wanted) == tuple(sorted(wanted.items()))[:64]
    odd = {
        "": "v",
        "k" * 257: "v",
        "long": "v" * 1025,
        "number": 1,
        "half": "\ud800",
        "a\nb": "v",
        "ok": "\n",
    }
    assert labels_of(odd) == (("ok", "\n"),)
    assert labels_of("text") == ()
    assert labels_of([["a", "b", "c"], "xy", ["a", "1"]]) == (("a", "1"),)


@pytest.mark.parametrize(
    "path",
    ["/", "", "relative", "/a/../b", "/a//b", "/a/", "/a.slice", "/system.slice/a.service", "/init.scope", "/a\0b",
     "/user.slice/user-1.slice/session-3.scope", "/" + "x" * 4096, None, 7],
)  # fmt: skip
def test_what_no_container_has_for_itself(path: object) -> None:
    assert not is_cgroup(path)
    assert is_cgroup("/a/b.scope")


def test_answers_are_checked_again() -> None:
    metadata = Metadata("docker", "web", "img", (("a", "b"),), "u", "p", "n")
    known = Known("docker", "web", "/a", metadata)
    assert metadata_from(json.loads(json.dumps(metadata))) == metadata
    assert known_from(json.loads(json.dumps(known))) == known
    good = json.loads(json.dumps(metadata))
    for at, bad in [
        (0, ""),
        (0, 1),
        (1, None),
        (2, "a\nb"),
        (3, None),
        (3, [["a"]]),
        (3, [["a", "b"]] * 65),
        (6, []),
    ]:
        assert metadata_from([*good[:at], bad, *good[at + 1 :]]) is None
    assert metadata_from(good[:-1]) is None
    assert metadata_from({}) is None
    for at, bad in [(0, ""), (1, ""), (2, "/"), (2, 1), (3, None)]:
        row = json.loads(json.dumps(known))
        row[at] = bad
        assert known_from(row) is None
    assert known_from(None) is None
