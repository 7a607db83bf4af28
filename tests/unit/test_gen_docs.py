# SPDX-License-Identifier: Apache-2.0
"""Generated documentation: it is up to date, has everything that there is, and its formats are read by their tools."""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from enricher.cli import main
from enricher.config import load
from enricher.config.kinds import Choice
from enricher.config.options import rows
from enricher.config.settings import SETTINGS, Setting
from enricher.config.sinks import Common
from enricher.runtime import sinkconfig
from enricher.runtime.sinktypes import TYPES

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))  # as where gen_docs.py is started as a program

import gen_docs  # noqa: E402

from docs import commands, completion, manual_service, markup, roff  # noqa: E402

PAGES = ("audit-enricher.1", "audit-enricher.toml.5", "audit-enricher-events.7", "audit-enricher-service.8")


@cache
def texts() -> dict[str, str]:
    return gen_docs.texts()


def man(page: str) -> str:
    return texts()[f"packaging/man/{page}"]


def bash() -> str:
    return texts()["packaging/completions/audit-enricher.bash"]


def zsh() -> str:
    return texts()["packaging/completions/_audit-enricher"]


def reference() -> str:
    return texts()["docs/configuration.md"]


def sample() -> str:
    return texts()["packaging/audit-enricher.toml"]


def plain(page: str) -> str:
    """A page's words without roff."""
    text = re.sub(r"\\f[BR]|\\[%&]", "", man(page))
    for escape, char in {
        r"\-": "-",
        r"\(aq": "'",
        r"\(ti": "~",
        r"\(ha": "^",
        r"\(ga": "`",
        r"\e": "\\",
    }.items():
        text = text.replace(escape, char)
    return text


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of the program ("") and of each command."""
    top = main.parser()
    [below] = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    return {"": top, **below.choices}


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


# -- up to date --------------------------------------------------------------------------------------


def test_what_is_checked_in_is_what_would_be_written() -> None:
    stale = [name for name, text in texts().items() if (ROOT / name).read_text() != text]
    assert not stale, "make docs"


def test_these_are_all_pages() -> None:
    assert {name for name in texts() if "/man/" in name} == {f"packaging/man/{page}" for page in PAGES}


def test_nothing_else_is_checked_in_where_all_is_generated() -> None:
    for directory in ("packaging/man", "packaging/completions"):
        there = {f"{directory}/{path.name}" for path in (ROOT / directory).iterdir()}
        assert there == {name for name in texts() if name.startswith(directory)}


def test_two_runs_write_the_same_bytes_whatever_the_environment(tmp_path: Path) -> None:
    for number, variables in enumerate(
        (
            {"COLUMNS": "40", "LC_ALL": "C", "PYTHONHASHSEED": "1", "TZ": "UTC"},
            {"COLUMNS": "400", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "AUDIT_ENRICHER_OUTPUT_RAW": "1"},
        )
    ):
        done = subprocess.run(
            [sys.executable, str(TOOLS / "gen_docs.py"), str(tmp_path / str(number))],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == list(texts())
        assert {name: (tmp_path / str(number) / name).read_text() for name in texts()} == texts()


def test_files_that_are_right_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gen_docs.main([str(tmp_path)])
    (tmp_path / "docs/configuration.md").write_text("old")
    capsys.readouterr()
    gen_docs.main([str(tmp_path)])
    assert capsys.readouterr().out == "docs/configuration.md\n"
    assert (tmp_path / "docs/configuration.md").read_text() == reference()


# -- has everything ----------------------------------------------------------------------------------


def parts_of_the_page() -> dict[str, str]:
    """The text of audit-enricher(1) about the program ("") and about each command."""
    text = plain("audit-enricher.1")
    about = re.findall(r'^\.SS "audit-enricher (\w+)"\n(.*?)(?=^\.S)', text, re.MULTILINE | re.DOTALL)
    return {"": text.partition(".SH OPTIONS\n")[2].partition("\n.SH")[0], **dict(about)}


def test_the_manual_has_every_command_and_option_and_no_other() -> None:
    parts = parts_of_the_page()
    assert list(parts) == list(parsers())
    for name, parser in parsers().items():
        terms = re.findall(r"^\.TP\n(-.*)$", parts[name], re.MULTILINE)
        found = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", "\n".join(terms)))
        assert found == options(parser) - (options(parsers()[""]) if name else set()), name
    for name in set(parsers()) - {""}:
        assert re.search(rf"^audit-enricher {name}( |$)", plain("audit-enricher.1"), re.MULTILINE)


def test_the_manual_says_what_help_says() -> None:
    parts = parts_of_the_page()
    for name, parser in parsers().items():
        said = " ".join(parts[name].split()).lower()
        for action in parser._actions:
            if action.help and "--help" not in action.option_strings and name:
                help_text = parser._get_formatter()._expand_help(action).replace("`", "").lower()
                assert " ".join(help_text.split()) in said


@pytest.mark.parametrize("page", ["audit-enricher.1", "audit-enricher-service.8"])
def test_the_manual_has_every_exit_code(page: str) -> None:
    listed = re.findall(r"^ +(\d+) ", main.EXIT_CODES, re.MULTILINE)
    section = plain(page).partition('.SH "EXIT STATUS"\n')[2].partition("\n.SH")[0]
    assert re.findall(r"^\.TP\n(\d+)$", section, re.MULTILINE) == listed


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_every_setting_is_in_the_reference_the_manual_and_the_sample(row: Setting[object]) -> None:
    assert f"\n#### {row.name}\n\n{markup.sentence(row.doc)}\n" in reference()
    assert f"`{row.variable}`" in reference()
    page = " ".join(plain("audit-enricher.toml.5").split())
    assert f".TP {row.key} = {row.kind.show(row.default)} {markup.sentence(row.doc)} " in page
    assert f"Variable: {row.variable}." in page
    assert f"\n#{row.key} = {row.kind.show(row.default)}\n" in sample()
    if row.option:
        assert f"`{row.option}` of `" in reference()
        assert f"Option: {row.option} of " in page


def test_the_reference_has_no_other_setting() -> None:
    assert re.findall(r"^#### (.*)$", reference(), re.MULTILINE) == [row.name for row in SETTINGS]


def test_the_page_of_the_service_has_every_capability_of_the_unit() -> None:
    unit = manual_service.UNIT.read_text()
    [given] = re.findall(r"^AmbientCapabilities=(.*)$", unit, re.MULTILINE)
    assert list(manual_service.capabilities()) == given.split()
    assert set(re.findall(r"^CAP_\w+$", plain("audit-enricher-service.8"), re.MULTILINE)) == set(
        given.split()
    )


def test_a_capability_without_a_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = tmp_path / "a.service"
    unit.write_text("#   CAP_A  one thing\nAmbientCapabilities=CAP_A CAP_B\n")
    monkeypatch.setattr(manual_service, "UNIT", unit)
    with pytest.raises(ValueError, match="CAP_B"):
        manual_service.capabilities()


# -- the sample --------------------------------------------------------------------------------------


def test_the_sample_as_it_is_sets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "sample.toml"
    file.write_text(sample())
    found, problems = load.read(str(file), {})
    assert problems == []
    assert {found.origin(row) for row in SETTINGS} == {"default"}


def test_the_sample_without_its_comment_signs_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "sample.toml"
    file.write_text(re.sub(r"^#(?=[a-z]|\[sinks)", "", sample(), flags=re.MULTILINE))
    found, problems = load.read(str(file), {})
    assert problems == []
    (sink,) = sinkconfig.load(found)
    assert sink.common == Common(type="relp", schema="native")
    for row in SETTINGS:
        assert found[row] == row.default
        assert found.origin(row).startswith(f"{file}:")


def test_what_the_reference_shows_of_check_is_toml_where_it_says_so() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", reference(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        tomllib.loads(block.replace("\n...\n", "\n"))
    assert (
        "audit-enricher.toml:3: there is no setting rotate_sise in [output]\n  hint: did you mean"
        in reference()
    )


# -- manual pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_roff_has_nothing_to_complain_about(page: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here")
    done = subprocess.run(
        [groff, "-man", "-ww", "-z", "-Tutf8"], input=man(page), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_ascii_without_a_date(page: str) -> None:
    text = man(page)
    assert text.isascii()
    assert re.search(r'^\.TH \S+ [1578] "" "audit\\-enricher" "[A-Z][A-Za-z ]+"$', text, re.MULTILINE)
    name = page.rpartition(".")[0].replace("-", "\\-")
    assert f"\n.SH NAME\n{name} \\- " in text
    requests = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
    assert requests <= {'.\\"', ".TH", ".ad", ".SH", ".SS", ".PP", ".TP", ".RS", ".RE", ".EX", ".EE"}


def test_pages_refer_to_pages_that_are_there() -> None:
    ours = {f"{page.rpartition('.')[0]}({page.rpartition('.')[2]})" for page in PAGES}
    for page in PAGES:
        named = set(re.findall(r"audit-enricher[a-z.-]*\(\d\)", plain(page)))
        assert named <= ours
        assert named, page
    for page in texts():
        assert set(re.findall(r"audit-enricher[a-z.-]*\(\d\)", texts()[page].replace("\\", ""))) <= ours


def test_no_text_becomes_a_request() -> None:
    page = roff.roff(
        roff.Page("a-b", 1, "c - d", "# T\n\n.so /etc/passwd\n'x \\fB `\\-'` ^\n\n    .so x\n\n    'y\n")
    )
    body = page.partition(".SH T\n")[2]
    assert body == (
        "\\&.so \\%/etc/passwd 'x \\efB \\%\\fB\\e\\-\\(aq\\fR \\(ha\n"
        ".PP\n.RS 4\n.EX\n\\&.so x\n\\&\n\\(aqy\n.EE\n.RE\n"
    )


@pytest.mark.parametrize("text", ["one ` only", "not ASCII: \u2014"])
def test_what_a_page_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        roff.inline(text)


def test_what_is_one_word_is_not_broken() -> None:
    assert roff.inline("(see a.b_c) x-y --z foo-bar(8)") == (
        r"\%(see a.b_c) x-y \-\-z \%\fBfoo\-bar\fR(8)".replace(r"\%(see a.b_c)", r"(see \%a.b_c)")
    )
    assert roff.inline("(`a-b`)") == r"\%(\fBa\-b\fR)"


def test_markup() -> None:
    assert list(markup.blocks("# A\n\n## B\n\none\ntwo\n\n`t`\n: x\ny\n\n    l\n\n      m\n\nlast\n")) == [
        markup.Heading(1, "A"),
        markup.Heading(2, "B"),
        "one two",
        markup.Item("`t`", "x y"),
        markup.Literal(("l", "", "  m")),
        "last",
    ]


def test_help_as_markup() -> None:
    assert markup.from_help("One\ntwo.\n\ncodes:\n  1   first thing\n  12 second\n") == (
        "One two.\n\nCodes:\n\n1\n: First thing.\n\n12\n: Second."
    )
    with pytest.raises(ValueError, match="no table"):
        markup.from_help("codes:\n  1  first\nno row")


# -- completion --------------------------------------------------------------------------------------


def words_of_choices() -> dict[str, tuple[str, ...]]:
    return {row.option: row.kind.words for row in SETTINGS if row.option and isinstance(row.kind, Choice)}


def test_both_completions_have_every_command_and_option() -> None:
    for name, parser in parsers().items():
        pattern = name or '""'
        part = re.search(
            rf"^        {pattern}\)\n(.*?);;",
            bash().partition('case "$command" in')[2],
            re.MULTILINE | re.DOTALL,
        )
        assert part
        assert options(parser) <= set(part[1].replace('"', " ").split())
        if not name:
            assert set(parsers()) - {""} <= set(part[1].replace('"', " ").split())
            continue
        assert f"'{name}:" in zsh()
        about = re.search(rf"^                {name}\)\n(.*?);;", zsh(), re.MULTILINE | re.DOTALL)
        assert about
        assert options(parser) <= set(re.findall(r"--?[a-z][a-z-]*(?=[=\[,}])", about[1]))


def test_a_settings_words_are_offered() -> None:
    assert words_of_choices()
    for option, words in words_of_choices().items():
        assert f" {option}" in bash()
        assert f"({' '.join(words)})" in zsh()


def test_bash_can_read_it() -> None:
    done = subprocess.run(["bash", "-n"], input=bash(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def offered(*words: str) -> list[str]:
    """What the function offers for the last of these words."""
    call = 'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _audit_enricher; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{bash()}\n{call}", "bash", "audit-enricher", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("ch",), ["check"]),
        (("re",), ["record", "replay"]),
        (("--v",), ["--version"]),
        (("check", "--s"), ["--show"]),
        (("run", "--no"), ["--no-self"]),
        (("run", "--loader", ""), ["auto", "libbpf", "bcc"]),
        (("run", "--format", "json", "--loader", "b"), ["bcc"]),
        (("run", "--loader", "=", "l"), ["libbpf"]),
        (("run", "--loader", "="), ["auto", "libbpf", "bcc"]),
        (("run", "--count", "r"), []),
        (("doctor", "x"), []),
    ],
)
def test_bash_completes(words: tuple[str, ...], wanted: list[str]) -> None:
    assert offered(*words) == wanted


def test_bash_completes_every_option_of_every_command() -> None:
    for name, parser in parsers().items():
        if name:
            assert set(offered(name, "-")) == options(parser)


ONLY_SAY = "audit-enricher() { printf '<%s>' \"$@\"; echo :end; }"
"""The command, where a shell completes its line: it says its arguments."""


def shell(directory: Path, *argv: str) -> Iterator[int]:
    """An interactive shell in the directory, which has a file; the terminal's other end."""
    (directory / "a b.json").touch()
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(directory)
        home = str(directory)
        environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": home, "HISTFILE": "/dev/null"}
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - the shell is what is tested
    yield fd
    os.close(fd)  # hangs up
    os.waitpid(pid, 0)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "rc").write_text(f"{bash()}\nPS1='ready> '\nbind 'set bell-style none'\n{ONLY_SAY}\n")
    yield from shell(tmp_path, "bash", "--noprofile", "--rcfile", "rc", "-i")


@pytest.fixture
def zsh_terminal(tmp_path: Path) -> Iterator[int]:
    """The function is found by its name below fpath, as where a package has put it."""
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_audit-enricher").write_text(zsh())
    # No dump of what was found: it would be in the directory of the test. No question about who owns it.
    ready = "fpath=($HOME/functions $fpath)\nautoload -Uz compinit\ncompinit -u -D\nunsetopt beep\nPS1='ready> '\n"
    (tmp_path / ".zshrc").write_text(f"{ready}{ONLY_SAY}\n")
    yield from shell(tmp_path, "zsh", "-d", "-i")


def until(fd: int, wanted: bytes) -> bytes:
    """Read up to these bytes; the test's own timeout bounds it."""
    seen = b""
    while wanted not in seen:
        seen += os.read(fd, 4096)
    return seen


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (b"ch\t --sh\t\n", b"<check><--show>:end"),
        (b"run --hook=sk\t --loader lib\t\n", b"<run><--hook=skb_queue_tail><--loader><libbpf>:end"),
        (b"run --output a\t\n", b"<run><--output><a b.json>:end"),
        (b"replay a\t\n", b"<replay><a b.json>:end"),
        (b"run --count a\t\n", b"<run><--count><a>:end"),
    ],
)
def test_in_a_terminal(keys: bytes, wanted: bytes, terminal: int) -> None:
    until(terminal, b"ready> ")
    os.write(terminal, b"audit-enricher " + keys)
    assert wanted in until(terminal, b":end")


def test_zsh_can_read_it() -> None:
    done = subprocess.run(["zsh", "-fn"], input=zsh(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (b"ch\t --sh\t\n", b"<check><--show>:end"),
        (b"run --hook=sk\t--loader lib\t\n", b"<run><--hook=skb_queue_tail><--loader><libbpf>:end"),
        (b"run --output a\t\n", b"<run><--output><a b.json>:end"),
        (b"run --output=a\t\n", b"<run><--output=a b.json>:end"),
        (b"replay a\t\n", b"<replay><a b.json>:end"),
        (b"run --count a\t\n", b"<run><--count><a>:end"),
    ],
)
def test_in_a_terminal_of_zsh(keys: bytes, wanted: bytes, zsh_terminal: int) -> None:
    until(zsh_terminal, b"ready> ")
    os.write(zsh_terminal, b"audit-enricher " + keys)
    assert wanted in until(zsh_terminal, b":end")


def test_zsh_quotes() -> None:
    option = commands.Argument(("-x", "--ex"), "FILE", (), many=False, required=False, help="it's [a:b]")
    assert completion._zsh_option(option) == ("'(-x --ex)'{-x,--ex=}'[it'\\''s \\[a\\:b\\]]:file:_files'")
    assert zsh().startswith("#compdef audit-enricher\n")


def test_every_key_of_destinations_is_in_the_reference_and_the_manual_page() -> None:
    section = reference().partition("### [sinks.NAME]\n")[2]
    page = plain("audit-enricher.toml.5").partition("[sinks.NAME]")[2]
    for name, kind in TYPES.items():
        of_type = section.partition(f'##### type = "{name}"\n')[2].partition("#####")[0]
        assert re.findall(r"^\| `(\w+)`", of_type, re.MULTILINE) == [row.key for row in rows(kind.options)]
        assert f"[sinks.NAME] of type {name}" in page
        for row in kind.rows():
            assert row.doc.replace("`", "")[1:30] in page.replace("\n", " "), row.key
    for row in rows(Common):
        assert f"| `{row.key}` |" in section
        assert f"#{row.key} = " in sample()
