# SPDX-License-Identifier: Apache-2.0
"""Guest: a machine by the name of its kernel slot, which builds on first use what it boots.

The class tests use. Never leaves a QEMU process behind.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.vm.image import ensure_image
from tests.vm.kernels import ensure_kernel
from tests.vm.machine import BootOptions, Completed, Machine

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

__all__ = ["Completed", "Guest"]


class Guest(Machine):
    """A guest of a slot (5.10, 6.1, 6.12, newest). With settle, entering waits for systemd to finish starting up."""

    def __init__(  # noqa: PLR0913 - one keyword per property of the machine
        self,
        slot: str,
        *,
        smp: int = 2,
        memory: int = 2048,
        extra_append: str = "",
        maxcpus: int | None = None,
        icount: bool = False,
        share: Path | None = None,
        extra: Path | None = None,
        forward: tuple[int, int] | None = None,
        settle: bool = True,
    ) -> None:
        """Build kernel and image if they are missing.

        memory is in MiB; share appears read-only at /opt/share, the disk image extra as
        /dev/disk/by-id/virtio-extra, not mounted. forward is a port of the guest's and one of our loopback.
        """
        options = BootOptions(smp, memory, extra_append, maxcpus, icount, share, extra=extra, forward=forward)
        super().__init__(ensure_kernel(slot), ensure_image(), options, name=slot)
        self.slot = slot
        self.state = "unknown"
        self.up_seconds = 0.0
        self._settle = settle

    def __enter__(self) -> Self:
        """Boot."""
        super().__enter__()
        if self._settle:
            started = time.monotonic()
            try:
                self.state = self.wait_up()
                self.up_seconds = self.boot_seconds + time.monotonic() - started
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self
