# SPDX-License-Identifier: Apache-2.0
"""What the service is fed by: which way records come, and whether there are programs beside them.

Owns the choice that the settings make of both. Never touches a record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.config import settings as rows
from enricher.errors import KernelUnsupported, LoadFailed, NotProved, SelfTestFailed
from enricher.runtime import startup
from enricher.runtime.loaders import pick
from enricher.sources.audit.daemon import DaemonSocket
from enricher.sources.bpf.hook import Hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from enricher.config.load import Settings
    from enricher.runtime.startup import Started
    from enricher.sources.audit.source import Source

_UNUSABLE: Final = (KernelUnsupported, LoadFailed, SelfTestFailed)
"""What says that this kernel offers no hook that can be used."""


def open_source(
    settings: Settings, given: Source | None, say: Callable[[str], None], stack: ExitStack
) -> Source | None:
    """Return what brings the records, None for the multicast socket, which each start opens for itself.

    `given` goes before the settings: whoever is auditd's plugin is not the audit daemon, and its maker closes it. The
    slot is taken here, where all else is open that can be opened without it, and given back with the `stack`.
    """
    if given is not None or not settings[rows.DAEMON]:
        return given
    made = DaemonSocket(settings[rows.RECEIVE_BUFFER], say)
    stack.callback(made.close)  # also where no start succeeds: the next one uses it again
    return made


def start_sources(
    settings: Settings,
    say: Callable[[str], None],
    source: Source | None = None,
    contid: Mapping[str, int] | None = None,
) -> tuple[Started, str]:
    """Start with the programs, or without them where that is what the settings say; and why without.

    `contid` are the maps of container identifiers, where they are on.
    """
    name, buffer = settings[rows.HOOK], settings[rows.RECEIVE_BUFFER]
    try:
        return startup.start(
            say,
            forced=None if name == "auto" else Hook(name),
            budget=settings[rows.RING_MEMORY],
            receive_buffer=buffer,
            loader=pick(settings[rows.LOADER], say, contid=contid),
            source=source,
        ), ""
    except NotProved:
        raise  # it may pass: systemd tries again
    except _UNUSABLE as error:
        if settings[rows.WITHOUT_HOOK] == "refuse":
            raise
        why = error.message.partition("\n")[0]
        say(f"no hook can be used: {why}")
        if error.hint:
            say(f"hint: {error.hint}")
        say(
            "going on without: events will have neither namespaces nor cgroup, and say so (service.without_hook)"
        )
        return startup.start_blind(say, receive_buffer=buffer, source=source), why
