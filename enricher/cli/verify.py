# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher verify``: whether sealed files are as they were written; and the key to seal with.

Owns this command's options and words. Never changes a file of events.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from enricher import sealformat
from enricher.cli.options import put, tell
from enricher.errors import NotAsWritten, UsageError
from enricher.sealformat import Key, Malformed
from enricher.sources.sealed import Verifier, files_of

if TYPE_CHECKING:
    import argparse

    from enricher.sources.sealed import Verdict


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "verify",
        help="prove that nothing in sealed files was removed, reordered or altered",
        description="Compare files that were written with seals (output.seal, or seal of a destination) with their"
        " seals, and name every break. One FILE stands for its older ones as well: FILE.1, FILE.2.gz and so on;"
        " several are read in the order given, the oldest first.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="a file, or several in their order")
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="the first key, as --make-key printed it: without it anybody can have made the seals",
    )
    parser.add_argument(
        "--make-key",
        metavar="FILE",
        help="make a key for output.seal_key in a new FILE, and print the first key, to be kept on another machine",
    )
    parser.set_defaults(call=verify)


def verify(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    if options.make_key:
        if options.files or options.key:
            raise UsageError("--make-key goes alone", "verify files in another call")
        put(make_key(Path(options.make_key)).rstrip("\n"))
        return 0
    if not options.files:
        raise UsageError(
            "no file is named", "name the newest file: those that were rotated before are found beside it"
        )
    verifier = Verifier(_key(options.key))
    given = [Path(name) for name in options.files]
    try:
        for path in files_of(given[0]) if len(given) == 1 else given:
            verifier.look(path)
    except OSError as error:
        raise UsageError(_safe(f"cannot read {error.filename}: {error.strerror}")) from error
    report(verifier.verdict(), with_key=options.key is not None)
    return 0


def make_key(path: Path) -> str:
    """Make a key; returns it as it is kept elsewhere. Raises UsageError where the file cannot be made."""
    key = sealformat.new_key()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(key.text)
    except OSError as error:
        raise UsageError(
            _safe(f"cannot make {path}: {error.strerror}"),
            "a key that is there is never replaced: name another file",
        ) from error
    return key.text


def _key(path: str | None) -> Key | None:
    if path is None:
        return None
    try:
        return sealformat.parse_key(Path(path).read_text(encoding="ascii"))
    except OSError as error:
        raise UsageError(_safe(f"cannot read {path}: {error.strerror}")) from error
    except (UnicodeDecodeError, Malformed) as error:
        said = (
            "no key: bytes that are none of a key's" if isinstance(error, UnicodeDecodeError) else str(error)
        )
        raise UsageError(_safe(f"{path}: {said}"), "--make-key printed one") from error


def report(verdict: Verdict, *, with_key: bool) -> None:
    """Say what was found. Raises NotAsWritten after the places where something is wrong."""
    for broken in verdict.breaks:
        tell(_safe(f"{broken.file}:{broken.line}: {broken.what}"))
    if verdict.breaks:
        raise NotAsWritten(
            "the files are not as they were written",
            "lines between the seal before the first of these places and the place itself are in doubt",
        )
    if verdict.first is None or verdict.last is None:
        raise NotAsWritten(
            "there is no seal: nothing can be said of these files",
            "output.seal, or seal of a destination, has them written with seals from then on",
        )
    first, last = verdict.first, verdict.last
    span = f"{first.number} to {last.number} of chain {last.chain}"
    put(f"{verdict.lines} lines, {verdict.seals} seals, {span}: as written")
    if first.number > 1:
        put(f"what was sealed before seal {first.number} is not in these files")
    if verdict.found:
        put(f"{verdict.found} lines were sealed only when a later start found them")
    if verdict.open:
        put(f"{verdict.open} lines at the end have no seal yet")
    if not with_key:
        put("without a key: whoever can write the files can have made all of it")


def _safe(text: str) -> str:
    """Names of files come from anyone; each becomes one line that drives no terminal."""
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in text)
