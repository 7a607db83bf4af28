# SPDX-License-Identifier: Apache-2.0
"""`replay --journal`: old logs gain what the journal has kept of their events, in every view."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from enricher.cli import main as command
from enricher.correlate.logjoin import FROM_LOG, FROM_LOG_KNOWN
from enricher.enrich.native import NativeBuilder
from enricher.enrich.surroundings import Surroundings
from enricher.model import CgroupChange, CgroupOp, Context, ContextFlag
from enricher.sources.journal import ELSEWHERE, UNKNOWN
from tests import schema
from tests.unit.sample_events import BOX_INUMS, EXEC, HOST, HOST_INUMS, context
from tests.unit.sample_facts import freed, made
from tests.unit.sample_journal import BOX, BOX_PATH, DAEMON, Kept, of, stamp

_NAMES = {1300: "SYSCALL", 1309: "EXECVE", 1307: "CWD", 1302: "PATH", 1327: "PROCTITLE"}
Json = dict[str, Any]


def lines(serial: int, prefix: bytes = b"") -> bytes:
    """An exec as auditd writes it."""
    return b"".join(
        b"%btype=%b msg=audit(%b): %b\n" % (prefix, _NAMES[number].encode(), stamp(serial), body)
        for number, body in EXEC
        if number in _NAMES
    )


LEFT = context(flags=ContextFlag.SUBJECT | ContextFlag.AFTER_SERVING)
NOT_ALL = context(inums=(0, *HOST_INUMS[1:]))
CONTEXTS: dict[int, Context] = {1: BOX, 2: DAEMON, 3: context(cgroup_id=99), 4: LEFT, 5: NOT_ALL}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A log of six events, and the journal of five of them."""
    kept = Kept(tmp_path)
    kept.write(*(of(serial, each) for serial, each in CONTEXTS.items()))
    kept.close()
    log = tmp_path / "audit.log"
    log.write_bytes(b"".join(map(lines, range(1, 7))))
    return log, kept.path


def replay(tmp_path: Path, *argv: object) -> list[Json]:
    out = tmp_path / "out.json"
    out.unlink(missing_ok=True)
    assert command.main(["replay", *map(str, argv), "--format", "json", "--output", str(out)]) == 0
    return schema.parse(out.read_bytes())


def test_what_the_journal_has_is_found(files: tuple[Path, Path], tmp_path: Path) -> None:
    log, journal = files
    box, daemon, unheard, left, not_all, unknown = replay(tmp_path, "--journal", journal, log)
    host = {"name": HOST.name, "machine_id": HOST.machine_id, "boot_id": HOST.boot_id}
    assert box["host"] == daemon["host"] == host
    assert box["uid"] == f"{HOST.boot_id}/{box['id']}"
    assert (box["where"], box["container"]) == ("container", {"id": "ab" * 32, "runtime": "docker"})
    assert box["cgroup"] == {"id": str(BOX.cgroup_id), "path": BOX_PATH.decode()}
    assert box["namespaces"]["dev"] == HOST.ns_dev
    assert box["namespaces"]["net"] == {
        "ino": BOX_INUMS[3],
        "id": str(1 << 63),
        "life": str(1 << 63),
        "host": False,
    }
    assert box["namespaces"]["user"]["host"]
    assert box["enrichment"] == {"context": "journal", "container": "cgroup", "reason": FROM_LOG_KNOWN}
    assert (box["subject"]["pid"], box["subject"]["comm"]) == (4711, "ls")
    assert "tid" not in box["subject"]
    assert (daemon["where"], daemon["cgroup"]["unit"]) == ("host", "sshd.service")
    assert (unheard["where"], unheard["cgroup"]) == ("unknown", {"id": "99"})
    assert unheard["enrichment"]["context"] == "journal"
    assert left["enrichment"]["reason"] == f"{FROM_LOG_KNOWN}; the task had already left its namespaces"
    assert not_all["enrichment"]["reason"] == f"{FROM_LOG_KNOWN}; not read: namespaces mnt"
    assert unknown["enrichment"] == {
        "context": "none",
        "container": "none",
        "reason": f"{FROM_LOG}; {UNKNOWN}",
    }
    assert (unknown["where"], unknown["host"]) == ("unknown", {})


def test_a_namespace_has_the_life_that_the_live_event_had(tmp_path: Path) -> None:
    around = Surroundings(HOST)
    kept = Kept(tmp_path)
    facts = [made("uts", BOX_INUMS[1], 1_000), freed(BOX_INUMS[1], 2_000), made("uts", BOX_INUMS[1], 3_000)]
    around.lives.learn(facts)
    kept.lives.learn(facts)
    events = [
        of(serial, BOX._replace(time=time)) for serial, time in ((1, 1_500), (2, 2_500), (3, 3_500), (4, 10))
    ]
    kept.write(*events)
    kept.close()
    live = [NativeBuilder(HOST, around=around).build(each)["namespaces"] for each in events]
    log = tmp_path / "audit.log"
    log.write_bytes(b"".join(map(lines, range(1, 5))))
    replayed = replay(tmp_path, "--journal", kept.path, log)
    assert [event["namespaces"] for event in replayed] == live
    assert [event["namespaces"]["uts"].get("life") for event in replayed] == ["1000", None, "3000", None]


def test_without_a_journal_nothing_changes(files: tuple[Path, Path], tmp_path: Path) -> None:
    assert {event["enrichment"]["reason"] for event in replay(tmp_path, files[0])} == {FROM_LOG}


def test_the_counts(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay(tmp_path, "--journal", files[1], files[0])
    assert "5 of 6 events found in the journal\n" in capsys.readouterr().err


def test_packed_rotated_and_piped(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, journal = files
    whole = replay(tmp_path, "--journal", journal, log)
    (tmp_path / "d").mkdir()
    content = log.read_bytes()
    half = content.index(b"type=SYSCALL", len(content) // 2)
    (tmp_path / "d/audit.log.1.gz").write_bytes(gzip.compress(content[:half]))
    (tmp_path / "d/audit.log").write_bytes(content[half:])
    assert replay(tmp_path, "--journal", journal, tmp_path / "d") == whole
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert replay(tmp_path, "-", "--journal", journal) == whole


def test_a_log_of_several_hosts(files: tuple[Path, Path], tmp_path: Path) -> None:
    log, journal = files
    log.write_bytes(lines(1, b"node=web1 ") + lines(2, b"node=web2 ") + lines(1, b"node=web3 "))
    ours, *others = replay(tmp_path, "--journal", journal, log)
    assert ours["enrichment"]["context"] == "journal"
    for event in others:
        assert event["enrichment"]["reason"].endswith(ELSEWHERE)
        assert (event["where"], "namespaces" in event) == ("unknown", False)


def test_what_auditd_says_of_itself_is_not_looked_up(files: tuple[Path, Path], tmp_path: Path) -> None:
    """It makes its own serials, and may have made one of ours."""
    log, journal = files
    log.write_bytes(b"type=DAEMON_START msg=audit(%b): op=start\nnonsense\n" % stamp(1))
    daemon, malformed = replay(tmp_path, "--journal", journal, log)
    assert daemon["enrichment"]["context"] == "none"
    assert UNKNOWN in daemon["enrichment"]["reason"]
    assert malformed["enrichment"]["context"] == "none"


def test_a_further_part_is_of_the_same_task(files: tuple[Path, Path], tmp_path: Path) -> None:
    log, journal = files
    end = b"type=EOE msg=audit(%b): \n" % stamp(1)
    log.write_bytes(lines(1) + end + b'type=CWD msg=audit(%b): cwd="/"\n' % stamp(1))
    first, second = replay(tmp_path, "--journal", journal, log)
    assert second["uid"] == first["uid"] + "/2"
    assert second["namespaces"] == first["namespaces"]
    assert second["enrichment"]["reason"].startswith(f"{FROM_LOG_KNOWN}; ")


def test_text(files: tuple[Path, Path], tmp_path: Path) -> None:
    log, journal = files
    out = tmp_path / "out.text"
    argv = ["replay", str(log), "--journal", str(journal), "--format", "text", "--output", str(out)]
    assert command.main(argv) == 0
    ours = [line for line in out.read_text().splitlines() if line.startswith("type=UNKNOWN[1390]")]
    assert f'context="journal" boot_id="{HOST.boot_id}" ns_dev="00:04" ns_mnt="{BOX_INUMS[0]}"' in ours[0]
    assert f'cgroup_id="{BOX.cgroup_id}" where="container"' in ours[0]
    assert f'container="{"ab" * 32}" runtime="docker"' in ours[0]
    assert 'reason="read_from_a_log:_no_count"' in ours[0]
    assert 'ns_host="uts,' in ours[4]
    assert 'reason="read_from_a_log:_no_count;_the_task_had_already_left_its_namespaces"' in ours[3]
    assert 'context="none"' in ours[5]
    # What was written is a log again: our lines are left out, and the journal is asked again.
    assert replay(tmp_path, out, "--journal", journal) == replay(tmp_path, log, "--journal", journal)


def test_table(files: tuple[Path, Path], tmp_path: Path) -> None:
    log, journal = files
    out = tmp_path / "out.table"
    argv = ["replay", str(log), "--journal", str(journal), "--format", "table", "--output", str(out)]
    assert command.main(argv) == 0
    rows = out.read_text().splitlines()[1:]
    assert "docker abababababab" in rows[0]
    assert " host " in rows[1]
    assert " ? " in rows[5]


def test_a_capture_has_its_contexts(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.sample_capture import PARTS, write

    write(tmp_path / "x", PARTS)
    assert command.main(["replay", str(tmp_path / "x"), "--journal", str(files[1])]) == 2
    assert "a capture needs no journal" in capsys.readouterr().err


@pytest.mark.parametrize(("what", "code"), [("nowhere", 2), ("audit.log", 12), ("cut", 12)])
def test_a_journal_that_is_none(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, code: int
) -> None:
    (tmp_path / "cut").write_bytes(files[1].read_bytes()[:6000])
    out = tmp_path / "out.json"
    argv = ["replay", str(files[0]), "--journal", str(tmp_path / what), "--output", str(out)]
    assert command.main(argv) == code
    said = capsys.readouterr().err
    assert str(tmp_path / what) in said
    assert "hint: " in said
    assert "Traceback" not in said


def test_damage_that_shows_later(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is written, what was found before the damage as found, and the exit code says it."""
    log, journal = files
    content = bytearray(journal.read_bytes())
    at = content.index(b"x\x9c")  # the packed stamps
    content[at + 3] ^= 0xFF
    journal.write_bytes(content)
    out = tmp_path / "out.json"
    argv = ["replay", str(log), "--journal", str(journal), "--format", "json", "--output", str(out)]
    assert command.main(argv) == 12
    events = schema.parse(out.read_bytes())
    assert len(events) == 6
    assert all(event["enrichment"]["reason"] == f"{FROM_LOG}; the journal is damaged" for event in events)
    said = capsys.readouterr().err
    assert "0 of 6 events found in the journal" in said
    assert "the journal is damaged: a row's checksum does not fit" in said


def test_hostile_bytes_of_a_path(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.learn(CgroupChange(5, CgroupOp.MADE, b"/docker/" + b"cd" * 32 + b"/\x1b[2J\xff", 0))
    kept.write(of(1, context(cgroup_id=5)))
    kept.close()
    log = tmp_path / "audit.log"
    log.write_bytes(lines(1))
    (event,) = replay(tmp_path, log, "--journal", kept.path)
    assert event["container"]["id"] == "cd" * 32
    assert bytes.fromhex(event["cgroup"]["path_hex"]).endswith(b"\x1b[2J\xff")
    for view in ("text", "table"):
        out = tmp_path / view
        argv = ["replay", str(log), "--journal", str(kept.path), "--format", view, "--output", str(out)]
        assert command.main(argv) == 0
        assert b"\x1b" not in out.read_bytes()
