# SPDX-License-Identifier: Apache-2.0
"""Events of real kernels in the words of other schemas: each is what ECS and OCSF say that such an event is.

The records are those of the captures that the guests' suites left, made into events by the code as it is now. Of events
that have the same members, of the same types, one is validated; all are mapped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enricher.enrich.shape import HostEntry
from enricher.route.schemas import SCHEMAS, renderer
from enricher.route.schemas.ecs import document
from enricher.route.schemas.ocsf import event as ocsf_event
from enricher.route.select import Selection
from tests.schema import compiled
from tests.suites.corpus import CORPUS, replayed
from tests.unit.schema_checks import ecs_complaints, ocsf_complaints, shape

pytestmark = pytest.mark.timeout(1800)

ELSEWHERE: HostEntry = {"name": "elsewhere"}
HIDING = Selection(redact=["records.fields.argv", "records.fields.name", "subject.exe", "host.name"])
KEEPING = Selection(["subject", "container", "records.PATH", "records.fields.exit"])

EVERY = 10
"""Of events that have the same members every so many are cut down and validated: their records differ still."""


def test_real_events_are_valid_in_every_schema(run: str, tmp_path: Path) -> None:
    path = CORPUS / f"{run}.capture"
    assert path.is_file(), f"{path.name} is missing: the suites in guests leave it"
    lines = replayed(path.read_bytes(), tmp_path / "json", raw=True).splitlines()
    renders = [renderer(name, ELSEWHERE, raw=True) for name in SCHEMAS]
    seen: set[object] = set()
    for number, line in enumerate(lines):
        native = json.loads(line)
        assert all(render(native) for render in renders)
        ecs, ocsf = document(native, raw=True), ocsf_event(native, raw=True)
        faults = ecs_complaints(ecs)
        alike = (ocsf["class_uid"], shape(ocsf))
        if alike not in seen or number % EVERY == 0:
            for choice in (HIDING, KEEPING):
                compiled()(choice.apply(native))
        if alike not in seen:
            seen.add(alike)
            faults += ocsf_complaints(ocsf)
        assert not faults, f"{native['id']} {native['type']}: {faults}"
    assert len(lines) > 100
    assert len(seen) >= 3
