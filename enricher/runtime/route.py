# SPDX-License-Identifier: Apache-2.0
"""One route: which events go to a destination, in which form, where they wait, and who carries them.

Owns what belongs to one destination alone. Never waits in `offer`, which nothing gets out of: what cannot be made into
a message is counted and told like any loss.

A courier is a thread, and a thread has the capabilities that its maker had: so it is made in `start`, which is called
when those of the start are gone. Whatever reads a file that only root can read is made before (`sender_of`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.correlate.ledger import serial_of
from enricher.enrich.native import host_entry
from enricher.errors import OutputFailed
from enricher.route.filters import made_of
from enricher.route.schemas import TEXT, renderer
from enricher.route.select import Selection
from enricher.route.views.audit_text import AuditText
from enricher.sinks.delivery.courier import Courier
from enricher.sinks.delivery.givenup import GivenUp
from enricher.sinks.delivery.memory import MemoryQueue
from enricher.sinks.delivery.message import Message
from enricher.sinks.delivery.rejected import RejectedFile
from enricher.sinks.delivery.spool import Limits, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enricher.enrich.surroundings import Surroundings
    from enricher.model import HostFacts, Loss
    from enricher.route.filters import Shared
    from enricher.runtime.sinkconfig import SinkSetting
    from enricher.sinks.delivery.message import Sender

SPOOLS: Final = "spool"
REJECTED: Final = "rejected"
"""Directories below the state directory; in each one entry for each destination."""

_OWN: Final = 0o700
_SAY_EVERY: Final = 60.0  # seconds between two sentences about losses of one destination
_MOST: Final = 1 << 20  # messages of a queue in memory, whose bytes are the real limit

Form = tuple[str, bool, tuple[str, ...], tuple[str, ...]]
"""Schema, raw, fields, redact: where they are equal, so are the bodies."""


class Place(NamedTuple):
    """Where routes are: the host, its state directory, and who listens to sentences."""

    facts: HostFacts
    around: Surroundings
    state: str
    say: Callable[[str], None]


def form_of(setting: SinkSetting) -> Form:
    """Return what decides how a body looks."""
    common = setting.common
    return common.schema, common.raw, common.fields, common.redact


class Rendering:
    """Messages of one form, each made at most once for all routes that have it."""

    def __init__(self, form: Form, place: Place) -> None:
        schema, self.raw, fields, redact = form
        self._body: Callable[[Shared], bytes]
        if schema == TEXT:
            text = AuditText(place.facts, place.around).render
            self._body = lambda one: text(one.event).removesuffix(b"\n")
        else:
            select = Selection(fields, redact).apply
            render = renderer(schema, host_entry(place.facts), raw=self.raw)
            self._body = lambda one: render(select(one.native()))
        self._made: dict[int, Message | Exception] = {}

    def begin(self) -> None:
        """Forget the messages of the last batch."""
        self._made.clear()

    def message(self, at: int, one: Shared) -> Message:
        """Return the message of the event at this index. Raises whatever went wrong, each time it is asked for."""
        made = self._made.get(at)
        if made is None:
            try:
                made = self._message(one)
            except Exception as error:  # noqa: BLE001 - told by each route
                made = error
            self._made[at] = made
        if isinstance(made, Exception):
            raise made
        return made

    def _message(self, one: Shared) -> Message:
        native, event = one.native(), one.event
        seconds = float(event.stamp.partition(b":")[0])
        serial = serial_of(event.stamp)
        return Message(native["uid"], seconds, native["type"], self._body(one), serial, len(event.records))


def sender_of(setting: SinkSetting, place: Place) -> Sender:
    """Make a destination's sender. Raises EnricherError, with the destination's place."""
    return setting.type.make(setting.options, place.facts)


class Route:
    """One destination. `sender` is None where it is made with the courier, in `start`.

    Raises OutputFailed and UsageError where its spool cannot be opened.
    """

    def __init__(
        self, setting: SinkSetting, sender: Sender | None, place: Place, rendering: Rendering
    ) -> None:
        common = setting.common
        self.setting = setting
        self.name = setting.name
        self.rendering = rendering
        self.passes = made_of((), (), common.filter)
        self.courier: Courier | None = None
        self._sender = sender
        self._place = place
        self._broken = GivenUp("sink", "sink")
        self._bugs = 0
        self._say_at = 0.0
        self._advised = ""
        self.spool = ""
        self.queue: Spool | MemoryQueue
        if common.queue == "memory":
            self.queue = MemoryQueue(most=_MOST, size=common.max_size, policy=common.policy)
        else:
            self.spool = str(_directory(place.state, SPOOLS) / self.name)
            self.queue = Spool(self.spool, Limits(common.max_size, common.max_age, common.policy))
            self._tell(self.queue.advice)
        self._rejected = RejectedFile(str(_directory(place.state, REJECTED) / f"{self.name}.json"))

    def start(self) -> None:
        """Begin to deliver. Raises EnricherError where the sender is made now and cannot be."""
        sender = self._sender or sender_of(self.setting, self._place)
        self._sender = sender
        self._advise()
        self.courier = Courier(self.name, self.queue, sender, self._rejected, say=self._place.say)
        self.courier.start()

    def offer(self, events: Sequence[Shared], rich: Sequence[Shared]) -> None:
        """Put those that pass the filter into the queue. `rich` are the same events with their records' text."""
        passes, skip_self = self.passes, self.setting.common.skip_self
        shown = rich if self.rendering.raw else events
        messages = []
        for at, one in enumerate(events):
            event = one.event
            if skip_self and event.self_caused:
                continue
            try:
                if passes is not None and not passes.matches(event, one.native, one.place):
                    continue
                messages.append(self.rendering.message(at, shown[at]))
            except Exception as error:  # noqa: BLE001 - one event must not stop the others, nor a route another
                self._bug(error)
                self._broken.add(1, len(event.records))
        if messages:
            try:
                self.queue.put(messages)
            except Exception as error:  # noqa: BLE001 - as above
                self._bug(error)
                for message in messages:
                    self._broken.add_message(message)

    def _bug(self, error: Exception) -> None:
        if not self._bugs:
            self._tell(f"a bug, please report it: {type(error).__name__}: {error}")
        self._bugs += 1

    def _tell(self, sentence: str) -> None:
        if sentence:
            self._place.say(f"{self.name}: {sentence}")

    def losses(self) -> Sequence[Loss]:
        """Return what was given up, refused, or may be missing since the last call."""
        courier = self.courier
        self._advise()
        found = [*(self.queue.losses() if courier is None else courier.losses()), *self._broken.tell()]
        found = self._named(found)
        now = time.monotonic()
        if found and now >= self._say_at:
            self._say_at = now + _SAY_EVERY
            words = ", ".join(f"{loss.lost} {loss.unit} (stage {loss.stage})" for loss in found)
            self._tell(f"lost: {words}; what is lost in the next minute is told by LOST events alone")
        return found

    def _named(self, losses: Sequence[Loss]) -> list[Loss]:
        """Return them as those of this destination, which is what a LOST event says."""
        return [loss._replace(sink=self.name) for loss in losses]

    def _advise(self) -> None:
        """Pass on what the sender has to say, once."""
        advice = getattr(self._sender, "advice", "")
        if advice != self._advised:
            self._advised = advice
            self._tell(advice)

    def begin_stop(self, seconds: float) -> None:
        """Let the courier's last seconds run."""
        if self.courier is not None:
            self.courier.begin_stop(seconds)

    def join(self, seconds: float) -> None:
        """Wait for the courier, no longer than this."""
        if self.courier is not None and not self.courier.join(seconds):
            self._tell("its receiver keeps it from ending; what was being sent is sent again by the next run")

    def close(self) -> Sequence[Loss]:
        """Close queue and rejected file; returns what a queue in memory has given up by that."""
        self.queue.close()
        losses = self.queue.losses()
        self._rejected.close()
        if self.courier is None and self._sender is not None:
            self._sender.close()
        return self._named(losses)

    @property
    def lost(self) -> int:
        """Messages that were given up: by the queue, or because none could be made of an event."""
        return self.queue.given_up.messages + self._broken.messages

    def facts(self) -> dict[str, object]:
        """Return what `status` says of it."""
        common, courier, queue = self.setting.common, self.courier, self.queue
        facts: dict[str, object] = {
            "name": self.name,
            "type": common.type,
            "schema": common.schema,
            "queue": common.queue,
            "waiting": queue.waiting,
            "waiting_bytes": queue.size,
            "max_bytes": common.max_size,
            "oldest_seconds": 0.0 if courier is None else round(courier.oldest, 3),
        }
        for figure in ("sent", "taken", "refused", "retries", "errors", "bugs"):
            facts[figure] = 0 if courier is None else getattr(courier, figure)
        of_courier = {} if courier is None else courier.facts()
        facts["bugs"] = self._bugs + (0 if courier is None else courier.bugs)
        facts["lost"] = self.lost
        facts["unsure"] = 0 if courier is None else courier.unsure
        facts["unheard"] = getattr(self._sender, "unheard", 0)
        # Each: a disk that is full behind a receiver that is away is what will lose something.
        errors = (str(of_courier.get("error", "")), queue.error, self._rejected.error)
        facts["error"] = "; ".join(filter(None, errors))
        return facts


def _directory(state: str, name: str) -> Path:
    """Make one of our directories. Raises OutputFailed."""
    path = Path(state, name)
    try:
        path.mkdir(mode=_OWN, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(
            f"cannot make {path}: {error.strerror}", "it is below the state directory (STATE_DIRECTORY)"
        ) from error
    return path
