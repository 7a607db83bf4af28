# SPDX-License-Identifier: Apache-2.0
"""What the long runs about cost and memory let pass, what they hold, and that an interrupted one goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import soak_cost, soak_memory
from tests.bench.line import made
from tests.bench.soak_cost import Done, Pipeline, judged
from tests.bench.soak_memory import MOST, Seen, faults, settled, slope


def flat(level: int = 30_000, rise: float = 0.0) -> list[Seen]:
    return [Seen(5.0 * at, round(level + rise * at)) for at in range(1, 101)]


@pytest.mark.parametrize(
    ("seen", "events", "said"),
    [
        (flat(), 500_000, ""),
        (flat(rise=5), 500_000, ""),
        (flat(rise=20), 500_000, "memory grows: by 1320 KiB, 240.0 KiB a minute"),
        (flat(MOST + 1), 500_000, f"{MOST + 1} KiB were resident, more than {MOST}"),
        (flat(), 400_000, "THE RATE WAS NOT REACHED: 4000 events a second of 5000"),
        (flat()[:2], 500_000, "too short a time tells nothing"),
    ],
)
def test_memory(seen: list[Seen], events: int, said: str) -> None:
    found = faults(seen, events, 100.0, 5_000)
    assert [line[: len(said)] for line in found] == ([said] if said else [])


def test_what_fills_in_the_beginning_is_no_growth() -> None:
    seen = [Seen(5.0 * at, min(20_000 + 1_000 * at, 30_000)) for at in range(1, 101)]
    assert settled(seen)[0].seconds == 170.0
    assert slope(settled(seen)) == 0.0
    assert slope(seen) > 0


def test_a_pipeline_gives_out_every_event_of_the_sample() -> None:
    pipeline = Pipeline(500)
    batches = [made(number, 500) for number in range(3)]
    for batch in batches:
        pipeline.take(batch)
    assert pipeline.events == sum(batch.events for batch in batches)
    assert pipeline.records == sum(len(batch.records) for batch in batches)
    contexts = [bytes(message)[16:] for batch in batches for message in batch.contexts]
    assert len(set(contexts)) == len(contexts), "an event repeats itself"
    pipeline.close()


def test_a_ratio_is_of_pairs() -> None:
    found = judged([(2.0, 1.0), (3.0, 2.0), (3.0, 3.0), (40.0, 30.0)])
    assert found["ratio"] == round((1.5 + 4 / 3) / 2, 4)
    assert soak_cost.faults({"a": found, "b": {"ratio": soak_cost.LIMIT}}) == ["a"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "soak.json"
    Done(path, "one", anew=False).put("10 records", {"ratio": 1.0})
    assert Done(path, "one", anew=False).get("10 records") == {"ratio": 1.0}
    assert Done(path, "one", anew=False).get("20 records") is None
    assert Done(path, "two", anew=False).get("10 records") is None
    assert Done(path, "one", anew=True).get("10 records") is None


def test_the_steps_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole program at a hundredth of its size; what it prints is judged by itself."""
    for name, value in (("FEWEST", 400), ("CONTAINERS", (10, 20)), ("PAIRS", 2), ("BATCHES", 1)):
        monkeypatch.setattr(soak_cost, name, value)
    monkeypatch.setattr(soak_cost, "INTO", tmp_path / "soak.json")
    monkeypatch.setattr(soak_cost, "LIMIT", 100.0)
    assert soak_cost.main(["--records", "5000"]) == 0
    steps = json.loads((tmp_path / "soak.json").read_text())["steps"]
    assert list(steps) == ["20 containers", "400 records", "4,000 records", "5,000 records"]
    first = capsys.readouterr().out
    monkeypatch.setattr(soak_cost, "made", None)  # nothing is done again
    assert soak_cost.main(["--records", "5000"]) == 0
    assert capsys.readouterr().out == first
    for step in steps.values():
        step["ratio"] = 101.0
    said = json.loads((tmp_path / "soak.json").read_text())
    (tmp_path / "soak.json").write_text(json.dumps({**said, "steps": steps}))
    assert soak_cost.main(["--records", "5000"]) == 1


def test_a_replay_is_paced_and_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_memory, "INTO", tmp_path / "memory.json")
    monkeypatch.setattr(soak_memory, "EVERY", 0.2)
    soak_memory.main(["--minutes", "0.05", "--rate", "200"])
    said = json.loads((tmp_path / "memory.json").read_text())
    assert said["events"] >= 200
    assert said["cpu_seconds"] > 0
    assert all(10_000 < resident < MOST for _, resident in said["seen"][-1:])
