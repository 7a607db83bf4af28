# SPDX-License-Identifier: Apache-2.0
"""Users of a NATS cluster, one for each host, that may publish to the host's own subject and to no other.

Owns the file that the servers include, ``users.conf``, and one file with a password for each user, ``NAME.password``.
Never connects, never changes a password that is there, and never removes one. What each may do is here alone.

A host may hear what is below ``_INBOX``, its acknowledgements; what `collect` is sent goes elsewhere (`INBOX`), since
else every host could read every event on its way there.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from typing import TYPE_CHECKING, Final

from enricher.errors import OutputFailed, UsageError
from enricher.runtime.fleet.layout import Finding
from enricher.sinks.delivery.jetstream import SUBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

INBOX: Final = "_COLLECT"
"""Where the cluster sends what `collect` asks for."""
COLLECT, SETUP = "collect", "setup"
"""The users of the commands."""
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_$./-]{16,128}")
_HEAD: Final = (
    "# Written by `audit-enricher fleet users`; changes here are lost. It has passwords: mode 0600.\n"
)


def read_hosts(path: Path) -> list[str]:
    """Return the machine ids in a file, one a line. Raises UsageError."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "a file with a machine id on each line") from error
    found = []
    for number, line in enumerate(lines, start=1):
        host = line.partition("#")[0].strip()
        if not host:
            continue
        if not _HOST.fullmatch(host) or host in {COLLECT, SETUP}:
            raise UsageError(
                f"{path}:{number}: this is no machine id", "what /etc/machine-id of each host has, one a line"
            )
        found.append(host)
    if not found:
        raise UsageError(f"{path} has no host", "a machine id on each line")
    return list(dict.fromkeys(found))


def permissions(user: str, stream: str) -> dict[str, list[str]]:
    """Return what a user may publish to and hear."""
    api = "$JS.API"
    if user == COLLECT:
        asks = [f"{api}.STREAM.INFO.{stream}", f"{api}.CONSUMER.CREATE.{stream}"]
        asks += [f"{api}.CONSUMER.{each}.{stream}.>" for each in ("CREATE", "INFO", "MSG.NEXT", "DELETE")]
        return {"publish": asks, "subscribe": [f"{INBOX}.>"]}
    if user == SETUP:
        asks = [f"{api}.STREAM.{each}.{stream}" for each in ("INFO", "CREATE", "UPDATE")]
        return {"publish": asks, "subscribe": ["_INBOX.>"]}
    return {"publish": [f"{SUBJECT}.{user}"], "subscribe": ["_INBOX.>"]}


def write_users(directory: Path, hosts: Iterable[str], stream: str, *, dry: bool) -> list[Finding]:
    """Write, or with `dry` only compare, the files of these hosts and of the two commands. Raises OutputFailed."""
    names = [COLLECT, SETUP, *hosts]
    try:
        there = {each.name.removesuffix(".password") for each in directory.glob("*.password")}
        passwords = {name: _password(directory, name) for name in names}
        missing = [name for name in names if not passwords[name]]
        if not dry:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in missing:
                passwords[name] = secrets.token_urlsafe(24)
                _write(directory / f"{name}.password", passwords[name] + "\n")
        path = directory / "users.conf"
        text = _HEAD + "users: [\n"
        text += "".join(_row(name, passwords[name], stream) for name in names) + "]\n"
        same = not missing and path.exists() and path.read_text(errors="replace") == text
        if not dry and not same:
            _write(path, text)
    except OSError as error:
        raise OutputFailed(f"{error.filename or directory}: {error.strerror}") from error
    would = "would be " if dry else ""
    found = [
        Finding(f"{len(names)} users", "as wanted" if not missing else _made(missing, would), not missing)
    ]
    if gone := sorted(there - set(names)):
        said = f"no more in {path.name}; their password files stay: {_some(gone)}"
        found.append(Finding(f"{len(gone)} users", said, well=True))
    done = "as wanted" if same else f"{would}written: reload the servers"
    found.append(Finding(str(path), done, well=same))
    return found if dry else [each._replace(well=True) for each in found]


def _made(names: list[str], would: str) -> str:
    return f"{len(names)} {would}made: {_some(names)}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")  # noqa: PLR2004 - enough to know them by


def _password(directory: Path, name: str) -> str:
    """Return the one that is there, or ""."""
    path = directory / f"{name}.password"
    if not path.exists():
        return ""
    found = path.read_text(errors="replace").strip()
    if not _PASSWORD.fullmatch(found):
        raise UsageError(f"{path} holds no password of ours", "remove it, and another is made")
    return found


def _row(name: str, password: str, stream: str) -> str:
    """Return a user in the configuration's words, of which JSON's are some."""
    rights = json.dumps(permissions(name, stream))
    return f"  {{ user: {json.dumps(name)}, password: {json.dumps(password)}, permissions: {rights} }}\n"


def _write(path: Path, text: str) -> None:
    """Write it whole or not at all, for nobody else to read."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    new.rename(path)
