# SPDX-License-Identifier: Apache-2.0
"""What one run of the service leaves for the next: where it ended, and how.

Owns the file in the state directory and the gap between two runs. Where there is no file no gap is claimed; one
that cannot be believed is told. Never holds anything of an event.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final, NamedTuple

from enricher.correlate.ledger import SERIALS, Gap

_VERSION: Final = 1
_LARGEST: Final = 1 << 16
NAME: Final = "state.json"
DIRECTORY: Final = "/var/lib/audit-enricher"
"""Where systemd says nothing else."""


class Unreadable(Exception):
    """There is a file, and it says nothing that can be believed."""


class Left(NamedTuple):
    """The last word of a run. All events with a serial up to `serial` were given out.

    `closed` says that the run ended with its account: then all between its start and `serial` was read or is told
    as lost there.
    """

    boot_id: str
    serial: int
    closed: bool
    hook: str
    release: str


def directory() -> str:
    """Return the state directory: systemd's first one, or the default."""
    return os.environ.get("STATE_DIRECTORY", DIRECTORY).partition(":")[0]


def load(directory: str) -> Left | None:
    """Return what the last run left; None where there was none. Raises Unreadable."""
    path = Path(directory, NAME)
    try:
        with path.open("rb") as file:
            read = json.loads(file.read(_LARGEST))
        version = read.pop("version")
        left = Left(**read)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unreadable(f"{path} is damaged") from error
    kinds = (str, int, bool, str, str)
    if version != _VERSION or any(type(value) is not kind for value, kind in zip(left, kinds, strict=True)):
        raise Unreadable(f"{path} is of another version")
    if not 0 <= left.serial < SERIALS:
        raise Unreadable(f"{path} is damaged")
    return left


def save(directory: str, left: Left) -> None:
    """Replace the file, or leave the old one. Raises OSError."""
    path = Path(directory, NAME)
    fresh = path.with_suffix(".new")
    data = json.dumps({"version": _VERSION, **left._asdict()}).encode() + b"\n"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)  # before it takes the old one's place: a power cut must not leave an empty one
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    finally:
        os.close(fd)
    fresh.rename(path)


def gap_before(start: int | None, left: Left | None, boot_id: str) -> Gap | None:
    """Return the serials that neither the run that `left` this nor the one that begins at `start` has read.

    None where there are none, or where nothing is known of an earlier run.
    """
    if left is None or start is None:
        return None
    last = (start - 1) % SERIALS
    if left.boot_id != boot_id:
        return Gap(1, last, "boot") if last else None
    first = (left.serial + 1) % SERIALS
    if last == left.serial:
        return None
    return Gap(first, last, "restart" if left.closed else "crash")


def gap_words(gap: Gap) -> str:
    """What is told of a gap, in words."""
    span = f"serials {gap.first} to {gap.last}, at most {gap.events} events"
    if gap.reason == "boot":
        return f"from the start of this boot to the service's nobody looked: {span}"
    if gap.reason == "crash":
        return f"the service ended without its account; what it did not write after is missing: {span}"
    return f"between two runs of the service nobody looked: {span}"


def open_gap_words(left: Left, boot_id: str) -> str:
    """The same of one whose end is not known."""
    since = f"serial {left.serial}" if left.boot_id == boot_id else f"serial {left.serial} of an earlier boot"
    return f"after {since} nobody looked; where that ended is not known, since no self-test record came back"
