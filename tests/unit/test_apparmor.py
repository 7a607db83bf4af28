# SPDX-License-Identifier: Apache-2.0
"""The profile lets the service do what its code does by default: every path in the code, and what the unit gives it.

Paths are taken from the code, so that a new one that the profile does not know fails here. What the kernel makes of
the profile is seen in a guest (tests/packaging/test_confined.py).
"""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from enricher.config import settings
from enricher.enrich.metadata.files import Budget, Files, Host
from enricher.enrich.metadata.worker import RUNTIMES
from enricher.enrich.places import Found
from enricher.runtime.sinktypes import TYPES
from enricher.sources.bpf import contidpins, features, moduleprobes
from tests.lint.tree import ROOT
from tests.packaging.profile import PROFILE, allowed, expression, rules, words_after

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enricher.enrich.metadata.files import Base

TEXT = PROFILE.read_text()
RULES = rules(TEXT)
UNIT = (ROOT / "packaging/systemd/audit-enricher.service").read_text()
CONTID = (ROOT / "packaging/systemd/examples/contid.conf").read_text()
BCC = (ROOT / "packaging/systemd/audit-enricher.service.d/bcc.conf").read_text()
NAME = "a" * 64

SYSTEM = re.compile(r"/(proc|sys|run|var|etc|dev|tmp)(/[A-Za-z0-9_.{}-]+)+/?")
"""What in a text of the program's is a path of the host's."""
NOT_THE_SERVICES = {
    "/sys/kernel/kheaders.tar.xz": "the bcc loader's, which is not confined",
}
WHERE = ("runtime", "sources", "sinks", "config")
"""The packages whose code runs in the service. What the readers of state files ask for is asked of them, below."""


def unit(key: str) -> list[str]:
    """Return the values of a directive in the unit, one by one."""
    return [word for value in re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE) for word in value.split()]


def texts(source: str) -> Iterator[str]:
    """The constant strings of a module that are not documentation; what is filled in is one name."""
    tree = ast.parse(source)
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "1" for v in node.values)
    left_out = documentation | parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


def paths_in_code() -> dict[str, str]:
    """Each path of the host's that the service's code names, with a file that does."""
    found: dict[str, str] = {}
    for package in WHERE:
        for file in sorted((ROOT / "enricher" / package).rglob("*.py")):
            for text in texts(file.read_text()):
                if SYSTEM.fullmatch(text):
                    found[text] = str(file.relative_to(ROOT))
    return found


def test_every_path_in_the_code_may_be_read() -> None:
    """The path itself, or where it is a directory all that is in it."""
    paths = paths_in_code()
    known = {
        "/proc/self/statm",
        "/sys/fs/bpf/audit-enricher",
        "/etc/machine-id",
        "/run/audit-enricher/control.sock",
    }
    assert known <= set(paths), "the code was looked at"
    refused = {
        path: file
        for path, file in paths.items()
        if path not in NOT_THE_SERVICES
        and not {"r", "w"} & (allowed(RULES, path) | allowed(RULES, f"{path.rstrip('/')}/x/y"))
    }
    assert refused == {}
    assert {path for path in NOT_THE_SERVICES if path in paths or path == "/etc/systemd/system"} == set(
        NOT_THE_SERVICES
    )


@pytest.mark.parametrize(
    ("directive", "base", "access"),
    [
        ("ConfigurationDirectory", "/etc", "r"),
        ("StateDirectory", "/var/lib", "rwk"),
        ("LogsDirectory", "/var/log", "rwk"),
        ("RuntimeDirectory", "/run", "rw"),
    ],
)
def test_the_units_directories(directive: str, base: str, access: str) -> None:
    """The state directory itself is locked, so that no two services write it."""
    (name,) = unit(directive)
    assert allowed(RULES, f"{base}/{name}/") >= set(access) - (
        {"k"} if directive != "StateDirectory" else set()
    )
    assert allowed(RULES, f"{base}/{name}/spool/x.seg") >= set(access)
    assert ("w" in allowed(RULES, f"{base}/{name}/x")) == ("w" in access), "its configuration is not its own"


def test_what_the_unit_opens_for_writing() -> None:
    """ReadWritePaths= gives it these beside its directories; and the profile none that the unit does not."""
    opened = [path.removeprefix("-") for path in unit("ReadWritePaths")]
    assert opened
    for path in opened:
        assert "w" in allowed(RULES, path) | allowed(RULES, f"{path}/x"), path
    ours = [*opened, *(f"/{base}/audit-enricher" for base in ("var/lib", "var/log", "run"))]
    theirs = ("/tmp/", "/var/tmp/", "/run/systemd/notify")  # noqa: S108 - PrivateTmp=; READY=1
    for rule in RULES:
        if "w" in rule.access and not rule.deny:
            glob = rule.text.split()[-2]
            meets = [
                name
                for name in ours
                if re.match(expression(glob), f"{name}/x") or rule.pattern.fullmatch(name)
            ]
            meets += [name for name in ours if rule.pattern.fullmatch(f"{name}/")]
            meets += [
                name for name in theirs if rule.pattern.fullmatch(name) or rule.pattern.fullmatch(f"{name}x")
            ]
            assert meets or "tracing" in rule.text, rule.text


def test_capabilities_are_the_units() -> None:
    """And with container identifiers, by their drop-in, one more."""
    given = {name.removeprefix("CAP_").lower() for name in unit("CapabilityBoundingSet")}
    more = {
        name.removeprefix("CAP_").lower()
        for name in re.findall(r"^CapabilityBoundingSet=(.*)$", CONTID, re.MULTILINE)
    }
    assert words_after(TEXT, "capability") == given | more


def test_sockets_are_the_units() -> None:
    families = {f"AF_{line.split()[0].upper()}" for line in words_after(TEXT, "network")}
    assert families == set(unit("RestrictAddressFamilies"))


def test_settings_paths() -> None:
    """What the service writes or listens on where nobody has set anything, and its configuration."""
    rows = [value for value in vars(settings).values() if isinstance(value, settings.Setting)]
    paths = {row.default for row in rows if isinstance(row.default, str) and row.default.startswith("/")}
    assert len(paths) >= 3, "the events and two sockets"
    assert {path for path in paths if not allowed(RULES, path) >= {"r", "w"}} == set()
    # Rotating renames it to others in its directory, and so does whoever compresses.
    assert allowed(RULES, f"{settings.OUTPUT_PATH.default}.1.gz") >= {"r", "w"}
    assert "r" in allowed(RULES, f"{settings.DIRECTORY}/config.d/10-local.toml")


def test_sinks_files() -> None:
    """Options of destinations that are paths by default; the file's has none."""
    paths = {
        str(getattr(row, "default", ""))
        for kind in TYPES.values()
        for row in kind.rows()
        if str(getattr(row, "default", "")).startswith("/run/")
        or str(getattr(row, "default", "")).startswith("/var/")
    }
    assert paths, "the unix destination's socket"
    assert {path for path in paths if "w" not in allowed(RULES, path)} == set()


def test_the_kernels_files() -> None:
    assert "r" in allowed(RULES, str(features.KERNEL_BTF))
    for place in moduleprobes.TRACEFS:
        assert allowed(RULES, f"{place}/kprobe_events") >= {"r", "w"}
        assert "r" in allowed(RULES, f"{place}/events/kprobes/x/id")
        assert "w" not in allowed(RULES, f"{place}/trace")
    assert allowed(RULES, f"{contidpins.HOME}/") >= {"r", "w"}
    assert allowed(RULES, f"{contidpins.HOME}/links/x") >= {"r", "w"}
    assert "w" not in allowed(RULES, f"{contidpins.HOME.parent}/other")


class Asked(Files):
    """Notes what it is asked for; a directory has two names in it, a file is not there."""

    def __init__(self, host: Host, uid: int) -> None:
        super().__init__(host, uid, Budget())
        self.files: set[str] = set()
        self.directories: set[str] = set()

    @property
    def home(self) -> str:
        return "/home/x" if self.uid else ""

    def read(self, base: Base, *names: str, limit: int = 0) -> bytes | None:  # noqa: ARG002 - as the one it stands for
        self.files.add("/".join((*base, *names)))
        return None

    def names(self, base: Base, *names: str) -> list[str]:
        self.directories.add("/".join((*base, *names)) + "/")
        return [NAME, "165536.165536"]  # the second is a userns-remap's


@pytest.mark.parametrize("uid", [0, 1000])
def test_state_files_of_every_runtime(uid: int, tmp_path: Path) -> None:
    """What each reader asks for when it looks a container up, and when it lists what there is."""
    files: set[str] = set()
    for make in RUNTIMES:
        asked = Asked(Host(tmp_path), uid)
        runtime: Any = make(asked)
        for name in (runtime.name, "docker", "containerd"):
            runtime.lookup(Found(name, NAME, "", "", f"/{NAME}"))
        list(runtime.known())
        assert asked.files or uid, f"{runtime.name} asks for nothing"
        files |= asked.files | asked.directories
    files = {path.replace("/var/run/", "/run/") for path in files}
    assert len(files) > (20 if not uid else 5)
    assert {path for path in files if "r" not in allowed(RULES, path)} == set()
    assert {path for path in files if "w" in allowed(RULES, path)} == set()


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/etc/shadow",
            "/root/secret",
            "/home/x",
            "/var/lib/dpkg/status",
            "/var/log/auth.log",
        ),
        *(
            "/proc/1/mem",
            "/proc/1/environ",
            "/proc/1/task/1/mem",
            "/proc/kcore",
            "/var/lib/docker/overlay2/x/diff/y",
        ),
    ],
)
def test_what_is_nobodys_business(path: str) -> None:
    """By the profile's own rules; CAP_DAC_READ_SEARCH alone would open each."""
    assert allowed(RULES, path) == set()


def test_nothing_is_executed() -> None:
    assert [rule.text for rule in RULES if not rule.deny and rule.access & set("xiupc")] == []


def test_the_unit_says_how_it_is_asked_for() -> None:
    """With a minus: a host without AppArmor, or with the profile taken out, has a service all the same."""
    assert unit("AppArmorProfile") == []
    assert unit("#AppArmorProfile") == ["-audit-enricher"]
    assert re.search(
        r"^profile audit-enricher flags=\(attach_disconnected(, complain)?\) \{$", TEXT, re.MULTILINE
    )
    assert "include if exists <local/audit-enricher>" in TEXT
    assert re.search(r"^AppArmorProfile=$", BCC, re.MULTILINE), (
        "a compiler in the service is not what it is for"
    )


def parser(profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Compile a profile as the package's scripts do, without giving it to this machine's kernel."""
    command = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--quiet", *options, str(profile)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("mode", [(), ("--Complain",)])
def test_apparmors_parser_takes_it(mode: tuple[str, ...]) -> None:
    done = parser(PROFILE, *mode)
    assert done.returncode == 0, done.stderr


def test_apparmors_parser_refuses_a_broken_one(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text(TEXT.replace("  capability kill,", "  capability killing,"))
    assert parser(broken).returncode != 0


def test_a_local_file_adds_to_it(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    rule = "/srv/audit/** rwk,"
    (tmp_path / "local/audit-enricher").write_text(f"{rule}\n")
    done = parser(PROFILE, "--preprocess", f"--Include={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert rule in done.stdout
    assert rule not in parser(PROFILE, "--preprocess").stdout.replace(f"#   {rule}", "")


def test_a_rule_of_another_kind_is_refused() -> None:
    with pytest.raises(AssertionError, match="does not know"):
        rules("mount options=ro /a -> /b,")
    with pytest.raises(AssertionError, match="does not know"):
        rules("@{other}/a r,")


def test_globs_are_apparmors() -> None:
    found = rules("/a/* r,\n/b/** rw,\n/c{,/d} r,\ndeny /b/x w,")
    assert allowed(found, "/a/x") == {"r"}
    assert allowed(found, "/a/x/y") == allowed(found, "/a/") == allowed(found, "/b/") == set()
    assert allowed(found, "/b/x/y") == {"r", "w"}
    assert allowed(found, "/b/x") == {"r"}
    assert allowed(found, "/c/d") == {"r"} == allowed(found, "/c")
