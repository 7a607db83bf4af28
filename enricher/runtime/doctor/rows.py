# SPDX-License-Identifier: Apache-2.0
"""What an examination of the host is made of: rows, the places that are read, and reading them safely.

Owns the shape of a row and of a group of checks. A check never raises: `run_group` turns what goes wrong
in one into rows that say that it could not be told. Never prints, and never changes anything.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from enricher.errors import EnricherError
from enricher.sources.audit.control import AuditControl
from enricher.sources.host import PROC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enricher.sources.audit.control import AuditStatus
    from enricher.sources.audit.rules import Rule

SYS: Final = Path("/sys")
_READ_MAX: Final = 4 << 20
_PIECE: Final = 16 << 10


class State(enum.Enum):
    """The value is what people and programs read."""

    OK = "ok"
    WARN = "warn"  # it runs, and something is lost or will be
    FAIL = "fail"  # it cannot run
    UNKNOWN = "unknown"  # could not be told


class Row(NamedTuple):
    """One finding. `name` is stable, for programs; `hint` says what to do where the state is not ok."""

    name: str
    state: State
    detail: str
    hint: str = ""


class Questions(Protocol):
    """What of `AuditControl` is asked here."""

    def status(self) -> AuditStatus:
        """See `AuditControl.status`."""
        ...

    def rules(self) -> list[Rule | None]:
        """See `AuditControl.rules`."""
        ...

    def close(self) -> None:
        """See `AuditControl.close`."""
        ...


class Host:
    """Where to look. `daemon` says that the service is to be the audit daemon.

    Once the kernel has been looked at, `kprobe` is the function on which the start-up will set a kprobe,
    "" where it needs none, and `kprobes` what came of trying that.
    """

    def __init__(
        self,
        proc: Path = PROC,
        sys: Path = SYS,
        control: Callable[[], Questions] = AuditControl,
        *,
        daemon: bool = False,
    ) -> None:
        self.proc = proc
        self.sys = sys
        self.control = control
        self.daemon = daemon
        self.kprobe = ""
        self.kprobes = State.UNKNOWN

    def read(self, path: Path) -> str:
        """Return at most 4 MiB of a file, bytes that are no UTF-8 replaced. Raises OSError, with the path."""
        pieces = []
        left = _READ_MAX
        try:
            # In small pieces: for a sysctl the kernel takes memory for as much as is asked.
            with path.open("rb", buffering=0) as file:
                while left > 0 and (piece := file.read(_PIECE)):
                    pieces.append(piece)
                    left -= len(piece)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(path)) from error
        return b"".join(pieces).decode("utf-8", "replace")

    def number(self, path: Path) -> int:
        """Return the number that a file holds. Raises OSError, and ValueError where it holds none."""
        text = self.read(path).strip()
        if not text.lstrip("-").isdecimal() or len(text) > 20:  # noqa: PLR2004 - digits of 64 bits and a sign
            msg = f"{path} holds {text[:40]!r}, which is no number"
            raise ValueError(msg)
        return int(text)


class Group(NamedTuple):
    """Rows that are found together, by their names in order."""

    names: tuple[str, ...]
    check: Callable[[Host], Iterator[Row]]


def run_group(group: Group, host: Host) -> list[Row]:
    """Run one group; returns a row for each of its names, whatever happens."""
    rows: dict[str, Row] = {}
    reason, hint = "the check did not come to it", ""
    try:
        for row in group.check(host):
            rows[row.name] = row
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
        reason, hint = reason_of(error), _hint_of(error)
    return [rows.get(name) or Row(name, State.UNKNOWN, reason, hint) for name in group.names]


def reason_of(error: Exception) -> str:
    """Say in words why something could not be told."""
    if isinstance(error, EnricherError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _hint_of(error: Exception) -> str:
    if isinstance(error, EnricherError):
        return error.hint
    return "run it as root" if isinstance(error, PermissionError) else ""


def single(name: str, check: Callable[[Host], Row]) -> Group:
    """Return a group of one row."""

    def run(host: Host) -> Iterator[Row]:
        yield check(host)

    return Group((name,), run)
