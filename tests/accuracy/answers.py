# SPDX-License-Identifier: Apache-2.0
"""The outputs of the programs that are compared, as answers that one scorer can judge.

Owns one reader for each format. Never judges.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests import schema
from tests.accuracy.score import Answer
from tests.suites.live import mismatches, truth_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAF = "truth-leaf"


def of_ours(lines: bytes) -> Iterator[tuple[Answer, dict[str, Any]]]:
    """Read native JSON; each answer comes with its event."""
    for event in schema.parse(lines):
        truth = truth_of(event)
        if truth is None:
            continue
        container = event.get("container", {})
        complete = event["enrichment"]["context"] == "kernel" and "namespaces" in event
        yield (
            Answer(
                truth.tag,
                truth.number,
                event.get("where", "unknown"),
                container.get("runtime", ""),
                container.get("id", ""),
                event.get("cgroup", {}).get("unit", ""),
                tuple(mismatches(event, truth)) if complete else (),
                not complete,
                container.get("name", ""),
            ),
            event,
        )


def of_laurel(lines: bytes) -> Iterator[Answer]:
    """Read LAUREL's JSON, of 0.5 and 0.8.

    ``container = true`` tells the 64 digits: 0.5 as CONTAINER_INFO's ID, 0.8 as the container of the SYSCALL record's
    PID. There is no word for "not known", and no runtime. The service that 0.8 names of other processes is not held
    against it.
    """
    for line in lines.splitlines():
        event = json.loads(line)
        arguments = event.get("EXECVE", {}).get("ARGV", [])
        if arguments[:1] != [LEAF]:
            continue
        said = dict(argument.split("=", 1) for argument in arguments[1:3])
        yield Answer(said["tag"], int(said["n"]), "", id=_container_id(event))


def _container_id(event: dict[str, Any]) -> str:
    """Return the id from where either version puts it."""
    process = event.get("SYSCALL", {}).get("PID", {})
    container = process.get("container") if isinstance(process, dict) else None
    info = event.get("CONTAINER_INFO", {})
    return str(container["id"] if container else info.get("ID", ""))
