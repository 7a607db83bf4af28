# SPDX-License-Identifier: Apache-2.0
"""Audit text of real kernels' records: to ausearch, auparse and LAUREL our lines are of the events that are there.

The records are those of the captures that the guests' suites left, rendered by the code as it is now.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from enricher.model import Batch
from enricher.sources.audit.types import text_name_of
from enricher.sources.capture import CaptureReader
from tests.interop.readers import Reader
from tests.interop.texts import compare, kernel_lines
from tests.suites.corpus import CORPUS, replayed

pytestmark = pytest.mark.timeout(1800)

LINES: Final = 5_000
"""Of the job's records, most of which are alike; those that were made for their variety are all compared."""

_NOTICE: Final = re.compile(
    rb'type=UNKNOWN\[1398\] (.*) type="(\d+)" (place="\d+") offset="\d+" text_hex="([0-9A-F]+)"'
)


@pytest.fixture(scope="session")
def capture(run: str) -> bytes:
    path = CORPUS / f"{run}.capture"
    assert path.is_file(), f"{path.name} is missing: the suites in guests leave it"
    return path.read_bytes()


@pytest.fixture(scope="session")
def text(run: str, capture: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return replayed(capture, tmp_path_factory.mktemp(run) / "text", "text")


def line_of(number: int, content: bytes) -> bytes:
    return b"type=%b msg=%b" % (text_name_of(number).encode(), content)


def test_the_kernels_bytes_are_all_there(capture: bytes, text: bytes) -> None:
    """Each record of the capture is a line as it is, or its bytes are in a notice."""
    kept: dict[tuple[bytes, ...], bytes] = {}
    for stamp, number, place, digits in _NOTICE.findall(text):
        kept[stamp, number, place] = kept.get((stamp, number, place), b"") + bytes.fromhex(digits.decode())
    announced = Counter(line_of(int(number), content) for (_, number, _), content in kept.items())
    frames = CaptureReader(io.BytesIO(capture), "capture").frames()
    records = Counter(
        line_of(record.type, record.text)
        for frame in frames
        if isinstance(frame, Batch)
        for record in frame.records
    )
    lines = Counter(kernel_lines(text).split(b"\n")[:-1])
    assert sum(lines.values()) == sum(records.values()) > LINES
    assert records - lines == announced


def test_the_same_events(run: str, text: bytes, tools: list[Reader], tmp_path: Path) -> None:
    if not run.startswith("variety-"):
        lines = text.splitlines(keepends=True)[:LINES]
        while not lines[-1].startswith(b"type=EOE "):
            lines.pop()
        text = b"".join(lines)
    events = text.count(b"type=UNKNOWN[1390] ")
    for reader in tools:
        if reader.name.startswith("auparse-file"):
            continue  # the library is the same as of auparse-feed; small logs are read in both ways
        found = compare(reader, text, tmp_path / reader.name.replace("/", "-"))
        assert not found.faults, f"{reader.name}: {len(found.faults)}\n" + "\n".join(found.faults[:10])
        assert found.events > events * 0.99, reader.name
