# SPDX-License-Identifier: Apache-2.0
"""What the pipeline needs of whoever brings the kernel's records.

That is the multicast socket, auditd through a pipe, or the audit daemon's slot. Owns the interface alone. Whatever
comes this way was finished by the kernel before: its context is in a ring by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from enricher.model import Record


class Source(Protocol):
    """See `receiver.Receiver` for the counters, which only ever grow."""

    way: str
    """Its name among the three."""
    batch: int
    """Records that one `receive` returns at most."""
    receive_buffer: int
    """Bytes of room for what waits."""
    buffer_limited: bool
    foreign: int
    overflows: int
    patience: float
    """Seconds that a record of ours may take to come back at the start."""

    unheard: str
    """What to look at where a record that the kernel has finished does not come: a hint."""

    @property
    def truncated(self) -> int:
        """How many records were longer than what can be received."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more, and all that came was received."""
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable while there are records."""
        ...

    def receive(self) -> list[Record]:
        """Return what has arrived, at most a batch."""
        ...

    def drops(self) -> int:
        """Return how many records there was no room for, since it was opened."""
        ...

    def queued(self) -> int:
        """Return the bytes that wait to be received."""
        ...

    def leave(self) -> bool:
        """Have no more brought, where it is brought to us alone; whether it was, and some may be left to receive."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...
