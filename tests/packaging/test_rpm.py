# SPDX-License-Identifier: Apache-2.0
"""The rpm as a file, and unpacked into a directory: the deb's files, at rpm's places.

No distribution of rpms runs here: dependencies are compared as names, scriptlets are run with a recorder in the place
of systemd's helper. Needs root where it enters a directory, as test_chroot.py does.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from enricher import __version__
from tests.lint.tree import ROOT
from tests.packaging.built import Debs

pytestmark = pytest.mark.timeout(300)  # on a machine that is busy with other things

BUILD = ROOT / "tools" / "build_rpm.py"
SPEC = ROOT / "packaging" / "rpm" / "audit-enricher.spec"
HELPER = "/usr/lib/systemd/systemd-update-helper"
UNIT = "audit-enricher.service"
OBJECTS = "/usr/lib/audit-enricher/enricher/sources/bpf/objects"

MOVED = (
    (re.compile(r"^/lib/systemd/"), "/usr/lib/systemd/"),
    (re.compile(r"/zsh/vendor-completions/"), "/zsh/site-functions/"),
    (
        re.compile(r"^/usr/share/doc/audit-enricher/changelog\.gz$"),
        "/usr/share/doc/audit-enricher/CHANGELOG.md",
    ),
    # Debian's tools compress what is large.
    (re.compile(r"^(/usr/share/doc/audit-enricher/docs/.*)\.gz$"), r"\1"),
)
"""Where rpm's distributions have what Debian has elsewhere."""

DEBS_OWN = re.compile(
    r"\.cpython-311-x86_64-linux-gnu\.so$|/vendor/|^/usr/share/(lintian|python3)/|^/etc/apparmor\.d/"
    r"|^/usr/share/doc/audit-enricher/(changelog\.Debian\.gz|copyright)$"
)
"""What is for Debian 12's Python, for Debian's own tools, or for AppArmor, which its kin do not have."""

RPMS_OWN = re.compile(rf"^{OBJECTS}/aarch64[a-z-]*\.bpf\.o$|^/usr/share/licenses/audit-enricher/")
"""What a package for every machine has too, and where rpm has licences."""


def build(into: Path, **how: str | int | dict[str, str]) -> Path:
    command = [sys.executable, str(BUILD), "--into", str(into)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, **how)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    (made,) = into.glob("*.rpm")
    return made


@pytest.fixture(scope="module")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("rpm"))


def query(rpm: Path, *options: str) -> list[str]:
    command = ["rpm", "--query", "--package", *options, str(rpm)]
    return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()


def content(rpm: Path) -> dict[str, str]:
    """Return each name in the package, with its mode and owner as ls shows them."""
    rows = query(
        rpm, "--queryformat", "[%{FILENAMES}\\t%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME}\\n]"
    )
    return dict(row.split("\t") for row in rows)  # each has one tab


def files(listed: dict[str, str]) -> dict[str, str]:
    return {name: mode for name, mode in listed.items() if not mode.startswith("d")}


def in_deb(deb: Path) -> dict[str, str]:
    """The same of a deb, at rpm's places."""
    listed = subprocess.check_output(["dpkg-deb", "--contents", str(deb)], text=True)
    found = {}
    for row in (line.split(None, 5) for line in listed.splitlines()):
        name = row[5].removeprefix(".").rstrip("/")
        for pattern, place in MOVED:
            name = pattern.sub(place, name)
        found[name] = f"{row[0]} {row[1]}"
    return found


def test_the_same_files_as_the_debs(rpm: Path, debs: Debs) -> None:
    ours, theirs = files(content(rpm)), files(in_deb(debs.main))
    left, added = set(theirs) - set(ours), set(ours) - set(theirs)
    assert [name for name in sorted(left) if not DEBS_OWN.search(name)] == []
    assert [name for name in sorted(added) if not RPMS_OWN.search(name)] == []
    assert {name for name in ours if DEBS_OWN.search(name)} == set(), "nothing for one Python or one machine"
    assert {name: ours[name] for name in set(ours) & set(theirs) if ours[name] != theirs[name]} == {}
    assert f"{OBJECTS}/aarch64.bpf.o" in added
    assert len(set(ours) & set(theirs)) > 200


def test_directories_of_ours_are_the_packages(rpm: Path) -> None:
    """What nobody owns stays behind when the package goes."""
    listed = content(rpm)
    assert {mode for mode in listed.values() if mode.startswith("d")} == {"drwxr-xr-x root/root"}
    needed = {
        str(parent) for name in files(listed) for parent in Path(name).parents if "enricher" in str(parent)
    }
    assert needed - set(listed) == set()
    assert "/etc/audit-enricher/config.d" in listed


def test_what_it_says_of_itself(rpm: Path) -> None:
    fields = "%{NAME} %{VERSION} %{ARCH}|%{LICENSE}|%{BUILDHOST}\\n"
    assert query(rpm, "--queryformat", fields) == [
        f"audit-enricher {__version__} noarch|Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)|localhost"
    ]
    licences = {path.name for path in (ROOT / "LICENSES").iterdir()}
    assert {Path(name).name for name in query(rpm, "--licensefiles")} == licences


def test_it_names_fedoras_packages(rpm: Path) -> None:
    needed = {line for line in query(rpm, "--requires") if not line.startswith("rpmlib(")}
    assert needed - {"config(audit-enricher) = 0.1.0-1"} == {
        *("/bin/sh", "/usr/bin/kill", "/usr/bin/python3", "libbpf >= 1.1", "python3 >= 3.11"),
        *("python3-msgpack", "python3-pyroute2", "python3-urllib3", "systemd"),
    }
    assert query(rpm, "--recommends") == ["python3-orjson"]
    assert query(rpm, "--suggests") == ["audit", "python3-confluent-kafka"]


def test_the_python_it_asks_for_is_the_programs(rpm: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (least,) = re.findall(r'^requires-python = ">=([\d.]+)"', project, re.MULTILINE)
    assert f"python3 >= {least}" in query(rpm, "--requires")


def test_the_configuration_is_the_operators(rpm: Path) -> None:
    flags = query(rpm, "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\\n]")
    told = dict(line.split(" ", 1) for line in flags)
    # c: configuration, n: not replaced
    assert [name for name, flag in told.items() if "c" in flag] == ["/etc/audit-enricher/audit-enricher.toml"]
    assert "n" in told["/etc/audit-enricher/audit-enricher.toml"]


def scriptlet(rpm: Path, tag: str) -> str:
    return "\n".join(query(rpm, "--queryformat", f"%{{{tag}}}"))


@pytest.mark.parametrize(
    ("tag", "left", "expected"),
    [
        ("POSTIN", 1, [f"install-system-units {UNIT}"]),
        ("POSTIN", 2, []),
        ("PREUN", 0, [f"remove-system-units {UNIT}"]),
        ("PREUN", 1, []),
        ("POSTUN", 1, [f"mark-restart-system-units {UNIT}"]),
        ("POSTUN", 0, []),
    ],
)
def test_scriptlets_ask_systemd(rpm: Path, tag: str, left: int, expected: list[str], tmp_path: Path) -> None:
    """With as many packages of the name as there will be: 1 at an install, 2 and 1 in an upgrade, 0 at the end."""
    body = scriptlet(rpm, tag)
    assert HELPER in body
    told = tmp_path / "told"
    recorder, sysusers = tmp_path / "helper", tmp_path / "systemd-sysusers"
    recorder.write_text(f'#!/bin/sh\necho "$*" >>{told}\nexit 1\n')
    sysusers.write_text(f'#!/bin/sh\necho "users $*" >>{told}\nexit 1\n')
    recorder.chmod(0o755)
    sysusers.chmod(0o755)
    command = ["sh", "-eu", "-c", body.replace(HELPER, str(recorder)), "scriptlet", str(left)]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "one that fails leaves half a package"
    users = ["users audit-enricher.conf"] if tag == "POSTIN" else []
    assert (told.read_text().splitlines() if told.exists() else []) == users + expected


def test_scriptlets_do_without_systemd(rpm: Path) -> None:
    """As in a container's image, or a directory."""
    for tag in ("POSTIN", "PREUN", "POSTUN"):
        for left in "012":
            body = scriptlet(rpm, tag).replace(HELPER, "/nonexistent/helper")
            command = ["/bin/sh", "-eu", "-c", body, "scriptlet", left]
            done = subprocess.run(command, check=False, capture_output=True, env={"PATH": "/nonexistent"})
            assert (done.returncode, done.stderr) == (0, b"")


def test_rpmlint_finds_nothing(rpm: Path) -> None:
    """But what packaging/rpm/rpmlint.toml names, with a reason each; a filter that nothing needs is one too many."""
    settings = SPEC.parent / "rpmlint.toml"
    done = subprocess.run(
        ["rpmlint", "--strict", "--config", str(settings), str(rpm), str(SPEC)],
        check=False,
        capture_output=True,
        text=True,
    )
    found = [line for line in done.stdout.splitlines() if re.match(r"\S+: [EW]: ", line)]
    assert (done.returncode, found) == (0, []), done.stdout + done.stderr
    assert "packages: 2" in done.stdout, "the package and the spec were read"


def test_two_builds_are_the_same_bytes(rpm: Path, tmp_path: Path) -> None:
    """In another directory, under another umask, time zone and language."""
    elsewhere = tmp_path / "a-directory-with-another-name"
    elsewhere.mkdir()
    environment = {**os.environ, "TMPDIR": str(elsewhere), "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    again = build(tmp_path / "second", cwd=str(elsewhere), env=environment, umask=0o077)
    assert rpm.name == again.name
    assert rpm.read_bytes() == again.read_bytes(), f"see diffoscope {rpm} {again}"


BORROWED = ("/usr/lib/python3.11", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/dev")
"""Of this machine, for the command to run in the directory: Python with what it is linked to. Nothing of ours."""

REQUIRED = ("msgpack", "urllib3")
"""What the package's Requires would bring, of the test tools'; python3-pyroute2 is imported where it is used."""

INSIDE = """
set -eu
root=$1
shift
while [ "$1" != -- ]; do
    mkdir -p "$root/$2"
    mount --bind "$1" "$root/$2"
    shift 2
done
shift
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin "$@"
"""


@pytest.fixture(scope="module")
def installed(rpm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that rpm has installed the package into, without its scriptlets."""
    root = tmp_path_factory.mktemp("root")
    command = ["rpm", "--root", str(root), "--define", "_dbpath /var/lib/rpm", "--nodeps", "--noscripts"]
    subprocess.run([*command, "--install", str(rpm)], check=True, capture_output=True)
    verified = subprocess.run(
        [*command, "--verify", "audit-enricher"], check=False, capture_output=True, text=True
    )
    assert (verified.returncode, verified.stdout) == (0, ""), "modes, owners and digests are the package's"
    for program in ("python3", "env"):
        target = root / "usr/bin" / program
        target.write_bytes((Path("/usr/bin") / program).read_bytes())
        target.chmod(0o755)
    for name in ("lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    return root


def inside(root: Path, *argv: str) -> str:
    """Run a command of the package's in the directory, in a mount namespace that ends with it."""
    mounts = [word for name in BORROWED for word in (name, name)]
    for name in REQUIRED:
        found = importlib.util.find_spec(name)
        assert found
        assert found.submodule_search_locations
        mounts += [found.submodule_search_locations[0], f"/usr/lib/python3/dist-packages/{name}"]
    command = ["unshare", "--mount", "sh", "-c", INSIDE, "inside", str(root), *mounts, "--", *argv]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="entering a directory needs root")
def test_the_command_runs_from_there(installed: Path) -> None:
    assert inside(installed, "audit-enricher", "--version") == f"audit-enricher {__version__} (interpreted)\n"
    assert inside(installed, "audit-enricher", "schema").startswith("{")


def test_the_documented_places_are_there(rpm: Path) -> None:
    """Each row of the table of files in docs/packaging.md that is not of Debian alone."""
    text = (ROOT / "docs/packaging.md").read_text()
    section = text.partition("\n## The rpm\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(/[^`]+)`", section, re.MULTILINE))
    assert len(named) > 3
    assert named - set(content(rpm)) == set()
