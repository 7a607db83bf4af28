# SPDX-License-Identifier: Apache-2.0
"""Every attempt at container identifiers as a fact for the pipeline: what the kernel tells, and who asked.

Owns putting these together, and what is announced of an identifier while it is in use, in a table that is bounded.
Never decides anything, and never lets an attempt go untold: what the kernel did not tell of is told from here.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.facts import CONTID_UNSET, ContainerOp
from enricher.model import UNSET

if TYPE_CHECKING:
    from enricher.facts import Engine
    from enricher.sources.contid import ContidOp, ContidStore

ANNOUNCED_MAX: Final = 16_384
"""Identifiers of which it is kept how an engine calls them; the oldest goes."""
FACTS_MAX: Final = 65_536
"""Facts that wait for the pipeline. What comes beyond is counted in ``dropped``."""


class Attempt(NamedTuple):
    """One request that was answered: who asked, of whom, for what, and how it ended (0 or an errno).

    ``caller_contid`` is the chain of who asked, None where that is not known.
    """

    op: str
    opid: int
    contid: int
    res: int
    caller_pid: int = 0
    caller_uid: int = UNSET
    orchestrator: bool = False
    engine: Engine | None = None
    caller_contid: tuple[int, ...] | None = None


class ContidLog:
    """Of one store, None where there is none: then attempts alone are told."""

    def __init__(self, store: ContidStore | None) -> None:
        self._store = store
        self._announced: OrderedDict[int, Engine] = OrderedDict()
        self._facts: list[ContainerOp] = []
        self.dropped = 0

    @property
    def pending(self) -> bool:
        """Whether `take` has something."""
        return bool(self._facts)

    def take(self) -> list[ContainerOp]:
        """Return what is to be told, once."""
        facts, self._facts = self._facts, []
        return facts

    def collect(self) -> None:
        """Take in what the kernel told: drops, and processes that joined a bound cgroup."""
        for op in self._told():
            self._tell(self._fact(op))

    def attempt(self, attempt: Attempt) -> None:
        """Tell of an attempt that has just ended, with what the kernel told of it meanwhile."""
        if attempt.engine is not None and attempt.op == "set" and not attempt.res:
            self._announce(attempt.contid, attempt.engine)
        told = self._told()
        mine = next((op for op in reversed(told) if _is_of(op, attempt)), None)
        for op in told:
            fact = self._fact(op)
            if op is mine:
                fact = fact._replace(
                    opid=op.opid or attempt.opid,
                    caller_pid=attempt.caller_pid,
                    caller_uid=attempt.caller_uid,
                    engine=attempt.engine or fact.engine,
                    caller_contid=attempt.caller_contid,
                )
            self._tell(fact)
        if mine is None:
            self._tell(
                ContainerOp(
                    time.clock_gettime_ns(time.CLOCK_BOOTTIME),
                    attempt.op,
                    attempt.opid,
                    attempt.contid,
                    res=attempt.res,
                    orchestrator=attempt.orchestrator,
                    caller_pid=attempt.caller_pid,
                    caller_uid=attempt.caller_uid,
                    engine=attempt.engine,
                    caller_contid=attempt.caller_contid,
                )
            )

    def _told(self) -> list[ContidOp]:
        return [] if self._store is None else self._store.take_ops()

    def _fact(self, op: ContidOp) -> ContainerOp:
        engine = None
        if op.op == "drop":
            engine = self._announced.pop(op.old[0], None) if op.old else None
        elif not op.res:
            engine = self._announced.get(op.contid)
        contid = CONTID_UNSET if op.op == "drop" else op.contid
        return ContainerOp(
            op.time, op.op, op.opid, contid, op.old, op.res, orchestrator=op.orchestrator, engine=engine
        )

    def _announce(self, contid: int, engine: Engine) -> None:
        self._announced[contid] = engine
        self._announced.move_to_end(contid)
        if len(self._announced) > ANNOUNCED_MAX:
            self._announced.popitem(last=False)

    def _tell(self, fact: ContainerOp) -> None:
        if len(self._facts) >= FACTS_MAX:
            self.dropped += 1
        else:
            self._facts.append(fact)


def _is_of(op: ContidOp, attempt: Attempt) -> bool:
    same = (op.op, op.contid, op.res) == (attempt.op, attempt.contid, attempt.res)
    return same and op.opid in (0, attempt.opid)
