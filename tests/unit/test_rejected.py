# SPDX-License-Identifier: Apache-2.0
"""The file of what was refused for ever: bounded, the owner's alone, and never in the way."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

from enricher.sinks.delivery.rejected import BODY_MAX, RejectedFile
from tests.unit.sample_delivery import NOW, message


def test_a_line_says_what_and_why(tmp_path: Path) -> None:
    file = RejectedFile(str(tmp_path / "rejected"))
    assert not (tmp_path / "rejected").exists()
    file.write(
        [(message(1, b'{"a":"\xc3\xbc"}'), "no\nsuch \x9b field"), (message(2, b"\xff\x00"), "\udcff" * 2000)]
    )
    file.close()
    file.close()
    first, second = map(json.loads, (tmp_path / "rejected").read_bytes().splitlines())
    assert first == {
        "uid": "boot/1",
        "time": NOW + 1,
        "type": "SYSCALL",
        "reason": "no\nsuch \x9b field",
        "body": '{"a":"ü"}',
    }
    assert base64.b64decode(second["body_base64"]) == b"\xff\x00"
    assert second["reason"] == "\\udcff" * 1000
    assert b"\xc2\x9b" not in (tmp_path / "rejected").read_bytes()
    assert stat.S_IMODE((tmp_path / "rejected").stat().st_mode) == 0o600
    assert (file.written, file.failed, file.error) == (2, 0, "")


def test_it_is_bounded(tmp_path: Path) -> None:
    file = RejectedFile(str(tmp_path / "rejected"), size=5_000)
    for number in range(100):
        file.write([(message(number, b"x" * 500), "no")])
    file.write([(message(100, b"y" * (BODY_MAX + 1)), "no")])
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rejected", "rejected.1"]
    last = json.loads((tmp_path / "rejected").read_bytes().splitlines()[-1])
    assert (len(last["body"]), last["truncated"]) == (BODY_MAX, True)
    assert (tmp_path / "rejected.1").stat().st_size < 6_000


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    (tmp_path / "rejected").symlink_to("elsewhere")
    file = RejectedFile(str(tmp_path / "rejected"))
    file.write([(message(1), "no"), (message(2), "no")])
    assert (file.written, file.failed) == (0, 2)
    assert "rejected" in file.error
    (tmp_path / "rejected").unlink()
    file.write([(message(3), "no")])
    assert (file.written, file.failed, file.error) == (1, 2, "")
    file.close()
