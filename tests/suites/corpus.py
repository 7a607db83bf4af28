# SPDX-License-Identifier: Apache-2.0
"""Real records, kept for the tests that come after the guests: captures, and what `replay` makes of them.

Owns `.cache/corpus`: NAME.capture as a guest wrote it; NAME.log, its records alone as auditd would write
them; NAME.text, our audit text. Never holds anything that the current run did not make anew.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from enricher.runtime.output import Output, Wanted
from enricher.runtime.replay import replay
from enricher.sources.capture import CaptureReader, Head
from enricher.sources.recorded import RecordedNames

CORPUS = Path(__file__).resolve().parents[2] / ".cache/corpus"

VARIED = ("5.10", "newest")
"""The kernels on which test_variety.py runs without --full: the ends of what there is."""

_NOT_IN_A_LOG = re.compile(rb"^type=(?:EOE|UNKNOWN\[139\d\]) ")


def replayed(capture: bytes, into: Path, view: str = "json", *, raw: bool = False) -> bytes:
    """What `replay` writes for this capture; it is processed here, on a host that knows nothing of it."""
    reader = CaptureReader(io.BytesIO(capture), into.name)
    frames = reader.frames()
    head = next(frames)
    assert isinstance(head, Head)
    names = RecordedNames()
    into.unlink(missing_ok=True)
    with Output(Wanted(view, str(into), raw=raw), head.facts, names) as output:
        _, damage = replay(head, frames, names, output.emit, learn=output.learn)
        output.flush()
    assert damage is None, damage
    return into.read_bytes()


def keep(name: str, capture: bytes) -> None:
    """Put a capture, its log and its text into the corpus."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    (CORPUS / f"{name}.capture").write_bytes(capture)
    text = replayed(capture, CORPUS / f"{name}.text", "text")
    lines = [line for line in text.splitlines(keepends=True) if not _NOT_IN_A_LOG.match(line)]
    (CORPUS / f"{name}.log").write_bytes(b"".join(lines))
