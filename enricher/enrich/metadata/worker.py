# SPDX-License-Identifier: Apache-2.0
"""The helper's work: a request in, an answer out, for as long as somebody asks.

Owns the requests and answers, which are lines of JSON, and which runtime is asked for what. Never keeps anything from
one request to the next, and lets no exception out: what goes wrong is an answer. It may hang on a file system that
hangs; whoever started it has to be ready for that (`runtime.helper`).

::

    {"op": "lookup", "found": [runtime, id, name, pod, path]}   {"metadata": [..] or null}
    {"op": "by_cgroup", "path": "/.."}                          {"known": [runtime, id, cgroup, [..]] or null}
                                                                {"failed": "request", "budget" or "error"}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from enricher.enrich.metadata.docker import Docker
from enricher.enrich.metadata.files import Budget, BudgetSpent, Files, Host, member, owner_of, parse
from enricher.enrich.metadata.lxc import Lxc
from enricher.enrich.metadata.nspawn import Nspawn
from enricher.enrich.metadata.oci import Containerd, Crio, is_within
from enricher.enrich.metadata.podman import Podman
from enricher.enrich.metadata.runc import Crun, Runc
from enricher.enrich.places import Found
from enricher.enrich.recognise import recognise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enricher.enrich.metadata import Known, Metadata, Runtime

RUNTIMES: Final[tuple[Callable[[Files], Runtime], ...]] = (
    Docker,
    Containerd,
    Crio,
    Podman,
    Lxc,
    Nspawn,
    Runc,
    Crun,
)
"""In the order in which they are asked: who made a container before what it was made with."""

REQUEST_MAX: Final = 64 << 10
ANSWER_MAX: Final = 128 << 10
"""Bytes of a message. An answer that would be longer goes without its labels."""


def request_for(asked: Found | str) -> bytes:
    """Return the line that asks for a container's metadata, or for the container that a cgroup belongs to."""
    if isinstance(asked, str):
        return _line({"op": "by_cgroup", "path": asked})
    return _line({"op": "lookup", "found": asked})


def answer(line: bytes, host: Host | None = None) -> bytes:
    """Return the answer to one request. Raises nothing."""
    try:
        said = _answer(parse(line), host or Host())
    except BudgetSpent:
        said = {"failed": "budget"}
    except Exception:  # noqa: BLE001 - a state file that we did not think of must not end the worker
        said = {"failed": "error"}
    try:
        text = _line(said)
        return text if len(text) <= ANSWER_MAX else _line({"failed": "budget"})
    except ValueError:
        return _line({"failed": "error"})


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _answer(request: object, host: Host) -> dict[str, object]:
    op = member(request, "op")
    if op == "lookup":
        found = _found(member(request, "found"))
        if found is not None:
            metadata = _vouched(found, host)
            return {"metadata": metadata and _bounded(metadata)}
    elif op == "by_cgroup":
        path = member(request, "path")
        if isinstance(path, str) and path.startswith("/"):
            return {"known": _by_cgroup(path, host)}
    return {"failed": "request"}


def _found(value: object) -> Found | None:
    if isinstance(value, list) and len(value) == len(Found._fields):
        texts = [text for text in value if isinstance(text, str)]
        if len(texts) == len(value):
            return Found(*texts)
    return None


def _bounded(metadata: Metadata) -> Metadata:
    return metadata if len(json.dumps(metadata)) <= ANSWER_MAX // 2 else metadata._replace(labels=())


def _vouched(found: Found, host: Host) -> Metadata | None:
    """Look up a container that the host, or its owner, vouches for.

    Not one inside of another: its state is in there, and the name of its cgroup was chosen in there.
    """
    owner = owner_of(found.path)
    if owner is None or len(recognise(found.path).chain) != 1:
        return None
    return _lookup(found, _runtimes(host, owner))


def _lookup(found: Found, runtimes: list[Runtime]) -> Metadata | None:
    first = sorted(runtimes, key=lambda runtime: runtime.name != found.runtime)
    answers = (runtime.lookup(found) for runtime in first)
    return next((metadata for metadata in answers if metadata is not None), None)


def _by_cgroup(path: str, host: Host) -> Known | None:
    """Return the innermost container that state files put there, if they agree on which one it is."""
    owner = owner_of(path)
    if owner is None:
        return None
    runtimes = _runtimes(host, owner)
    there = list(_known_at(path, runtimes))
    longest = max((len(known.cgroup) for known in there), default=0)
    innermost = [known for known in there if len(known.cgroup) == longest]
    if len({known.id for known in innermost}) != 1:
        return None
    known = innermost[0]
    metadata = _lookup(Found(known.runtime, known.id, "", "", known.cgroup), runtimes)
    if metadata is None:
        return known._replace(metadata=_bounded(known.metadata))
    return known._replace(runtime=metadata.runtime, metadata=_bounded(metadata))


def _known_at(path: str, runtimes: list[Runtime]) -> Iterator[Known]:
    for runtime in runtimes:
        for known in runtime.known():
            # What is above a user's service manager passes no `is_cgroup`, so he cannot claim more than his.
            if is_within(path, known.cgroup):
                yield known


def _runtimes(host: Host, owner: int) -> list[Runtime]:
    files = Files(host, owner, Budget())
    return [make(files) for make in RUNTIMES]
