# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher check``: what it says of right and wrong settings, where, and with which status."""

from __future__ import annotations

import grp
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from enricher.cli import check, main
from enricher.config import load
from enricher.config.settings import OUTPUT_PATH, SETTINGS
from enricher.runtime import routes, sinkconfig

GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in SETTINGS:
        monkeypatch.delenv(row.variable, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A right file that this host has everything for."""
    path = tmp_path / "audit-enricher.toml"
    path.write_text(f'[control]\ngroup = "{GROUP}"\n')
    return path


def run(*argv: str | Path) -> int:
    return main.main(["check", *map(str, argv)])


def test_a_right_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "config.d").mkdir()
    more = file.parent / "config.d" / "10.toml"
    more.write_text("[output]\ntypes = ['execve', '1300', 'UNKNOWN[1999]']\n")
    assert run("--config", file) == 0
    out, err = capsys.readouterr()
    assert out == f"read {file}\nread {more}\nno problem found\n"
    assert err == ""


def test_no_file_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "FILE", str(tmp_path / "none.toml"))
    monkeypatch.setenv("AUDIT_ENRICHER_CONTROL_GROUP", "")
    assert run() == 0
    assert capsys.readouterr() == ("no file was read\nno problem found\n", "")


def test_every_problem_with_its_place_and_hint(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        '[output]\nraw = 1\nrotate_sise = "1M"\n\ntypes = ["SYSCALL", "EXECV"]\n[control]\ngroup = ""\n'
    )
    assert run("--config", file, "--show") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{file}:2: raw: 1 is not true or false",
        "  hint: raw: json: add each record's text as the kernel wrote it",
        f"{file}:3: there is no setting rotate_sise in [output]",
        "  hint: did you mean rotate_size?",
        f"{file}:5: output.types: no such record type: EXECV",
        "  hint: did you mean EXECVE?",
    ]


def test_a_wrong_filter_with_its_line_and_column(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('[control]\ngroup = ""\n[output]\n\nfilter = "key == a and where == contaner"\n')
    assert run("--config", file) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{file}:5: output.filter: column 23: no such value: contaner",
        "  hint: did you mean container?",
    ]
    file.write_text("[control]\ngroup = ''\n[output]\nfilter = '''\nhas pod\n  and key = 'a'\n'''\n")
    assert run("--config", file) == 2
    assert f"{file}:4: output.filter: line 2, column 11: = means nothing here\n" in capsys.readouterr().err


def test_a_right_filter_is_shown_as_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n  where == container\n  and not key in ('a', \"b\\\\\")\n"
    file.write_text(f"[control]\ngroup = ''\n[output]\nfilter = '''{text}'''\n")
    assert run("--config", file, "--show") == 0
    assert tomllib.loads(capsys.readouterr().out)["output"]["filter"] == text.removeprefix("\n")


def test_a_problem_in_a_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIT_ENRICHER_OUTPUT_TYPES", "EXECVE,nonsense")
    assert run("--config", file) == 2
    assert (
        "AUDIT_ENRICHER_OUTPUT_TYPES: output.types: no such record type: nonsense\n"
        in capsys.readouterr().err
    )


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--config", tmp_path / "none") == 2
    assert f"{tmp_path}/none: there is no such file\n" in capsys.readouterr().err


def test_what_this_host_lacks_is_a_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('[output]\npath = "/nowhere/at/all/e.json"\n[control]\ngroup = "no-such-group"\n')
    assert run("--config", file) == 0
    out, err = capsys.readouterr()
    assert out.endswith("no problem found\n")
    first, hint, second, other = err.splitlines()
    assert first == f"{file}:2: warning: output.path: /nowhere/at/all: No such file or directory"
    assert hint.startswith("  hint: only /var/log/audit-enricher is made for the service; ")
    assert second == f"{file}:4: warning: control.group: there is no group no-such-group"
    assert other.startswith("  hint: make it with groupadd")


@pytest.mark.parametrize("path", ["/dev/null/e.json", "{file}/e.json"])
def test_a_file_is_no_directory(path: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = path.format(file=file)
    file.write_text(f'[output]\npath = "{path}"\n[control]\ngroup = ""\n')
    assert run("--config", file) == 0
    assert (
        f"{file}:2: warning: output.path: {Path(path).parent}: Not a directory\n" in capsys.readouterr().err
    )


def test_the_directory_that_the_unit_makes_need_not_be_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_no_directory", lambda _: "not there")
    settings, problems = check.examine(str(file), {"AUDIT_ENRICHER_CONTROL_GROUP": GROUP})
    assert problems == []
    assert settings[OUTPUT_PATH] == OUTPUT_PATH.default
    assert list(check.doubts(settings)) == []
    assert len(list(check.doubts(settings.replaced(OUTPUT_PATH, "/x/e.json", "here")))) == 1


def test_show_is_toml_that_comes_to_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(file.read_text() + '[output]\nkeys = ["a,b", "\\u001b\\"\\\\"]\n')
    monkeypatch.setenv("AUDIT_ENRICHER_SOURCE_RING_MEMORY", "64M")
    assert run("--config", file, "--show") == 0
    out = capsys.readouterr().out
    assert 'ring_memory = "64M"  # AUDIT_ENRICHER_SOURCE_RING_MEMORY\n' in out
    assert f'group = "{GROUP}"  # {file}:2\n' in out
    assert 'hook = "auto"  # default\n' in out
    assert f"# read {file}\n" in out
    shown = file.with_name("shown.toml")
    shown.write_text(out)
    document = tomllib.loads(out)
    assert {f"{section}.{key}" for section, table in document.items() for key in table} == {
        row.name for row in SETTINGS
    }
    before, _ = load.read(str(file), dict(os.environ))
    after, problems = load.read(str(shown), {})
    assert problems == []
    assert before.changed(after) == []


def test_names_are_shown_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "\x1b[31m\udcff\n.toml"
    file.write_text('[control]\ngroup = ""\n')
    assert run("--config", file, "--show") == 0
    file.write_text("[output]\nraw = 1\n")
    assert run("--config", file) == 2
    out, err = capsys.readouterr()
    assert r"/\U0000001B[31m\U0000DCFF\U0000000A.toml" in out
    assert r"/\U0000001B[31m\U0000DCFF\U0000000A.toml:2: raw" in err
    assert (out + err).replace("\n", "").isprintable()


# -- as a process ------------------------------------------------------------------------------------


def process(
    *argv: str | Path, stdout: int | None = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "enricher", "check", *map(str, argv)],
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], **variables},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        check=False,
    )


def test_standard_output_that_is_full_is_an_error_of_its_own(file: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = process("--config", file, "--show", stdout=full.fileno())
    assert done.returncode == 9
    assert done.stderr == (
        "audit-enricher: standard output: No space left on device\n  hint: see where it leads to\n"
    )


def test_a_reader_that_goes_away_is_none(file: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = process("--config", file, "--show", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    file = tmp_path / "\u4e2d.toml"
    file.write_text('[control]\ngroup = ""\n')
    done = process("--config", file, PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u4e2d.toml\n" in done.stdout


SINKS = """
[sinks.siem]
type = "relp"
address = "logs.example.org:2514"
schema = "ecs"
redact = ["subject.exe"]

[sinks.local]
type = "unix"
path = "/run/audit-enricher/events.sock"
queue = "memory"

[sinks.not]
type = "otlp"
url = "https://h"
enabled = false
"""


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "units"
    directory.mkdir()
    monkeypatch.setattr(check, "UNITS", (str(directory),))
    return directory


def test_what_is_shown_of_destinations_comes_to_the_same(file: Path, units: Path, tmp_path: Path) -> None:
    assert units.is_dir()
    with file.open("a") as more:
        more.write(SINKS)
    settings, problems = check.examine(str(file), {})
    assert problems == []
    again = tmp_path / "again.toml"
    again.write_text("\n".join(check.shown(settings)))
    read, problems = check.examine(str(again), {})
    assert problems == []
    assert sinkconfig.read(read)[0] == sinkconfig.read(settings)[0] != []
    assert f'redact = ["subject.exe"]  # {file}:' in again.read_text()


def test_problems_of_destinations_are_among_all(
    file: Path, units: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert units.is_dir()
    with file.open("a") as more:
        more.write("[sinks.a]\ntype = 'relp'\nadress = 'x'\n")
    assert run("--config", file) == 2
    err = capsys.readouterr().err
    assert f"{file}:5: there is no key adress in [sinks.a]\n  hint: did you mean address?\n" in err


@pytest.mark.parametrize(
    "unit, drop_in, warned",
    [
        ("", "", ""),
        ("IPAddressDeny=any\n", "", "x"),
        ("IPAddressDeny=any\n", "[Service]\nIPAddressDeny=\n", ""),
        ("", "[Service]\nIPAddressDeny=any\n", "x"),
    ],
)
def test_a_unit_that_denies_the_network_is_told(  # noqa: PLR0913 - fixtures
    unit: str, drop_in: str, warned: str, file: Path, units: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (units / "audit-enricher.service").write_text(f"[Service]\n{unit}")
    (units / "audit-enricher.service.d").mkdir()
    (units / "audit-enricher.service.d" / "10.conf").write_text(drop_in)
    with file.open("a") as more:
        more.write(SINKS)
    assert run("--config", file) == 0
    assert ("keeps the service from the network" in capsys.readouterr().err) == bool(warned)


def test_the_shipped_unit_lets_destinations_work(units: Path) -> None:
    shipped = Path(__file__).parents[2] / "packaging" / "systemd" / "audit-enricher.service"
    (units / "audit-enricher.service").write_text(shipped.read_text())
    assert check._unit_without_network() == ""
    families = [
        line for line in shipped.read_text().splitlines() if line.startswith("RestrictAddressFamilies=")
    ]
    assert families == ["RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6"]
    (stop,) = [line for line in shipped.read_text().splitlines() if line.startswith("TimeoutStopSec=")]
    assert int(stop.partition("=")[2].removesuffix("s")) >= 3 * routes.STOP


def test_files_and_directories_that_are_missing_are_doubts(
    file: Path, units: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert units.is_dir()
    with file.open("a") as more:
        more.write(
            "[sinks.a]\ntype = 'relp'\naddress = 'a:1'\ntls = true\ntls_ca_file = '/nowhere/ca.pem'\n"
            "[sinks.b]\ntype = 'file'\npath = '/nowhere/events'\n"
            "[sinks.c]\ntype = 'unix'\ngroup = 'no-such-group'\n"
        )
    assert run("--config", file) == 0
    err = capsys.readouterr().err
    assert "warning: sinks.a: tls_ca_file: /nowhere/ca.pem: No such file or directory" in err
    assert "warning: sinks.b: /nowhere: No such file or directory" in err
    assert "warning: sinks.c: there is no group no-such-group" in err
