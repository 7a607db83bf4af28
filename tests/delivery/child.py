# SPDX-License-Identifier: Apache-2.0
"""A process of a test's own that can be killed by its number at any moment, and started again at once.

Owns the process. It is forked, so that starting it twenty times costs nothing: who makes one has no threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


class Child:
    """Runs this function; what it writes to standard error, and the exception that ended it, goes to the log."""

    def __init__(self, function: Callable[[], None], log: Path) -> None:
        self.log = log
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _run(function, log)

    def kill(self) -> None:
        """Kill it, as a crash would. That it has ended by itself is a failure."""
        assert self.running, f"it has ended: {self.said}"
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self._status = status
        # It may have ended in good order between the two.
        assert status == 0 or os.WIFSIGNALED(status), self.said

    def stop(self) -> None:
        """End it, however it is."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is None

    @property
    def succeeded(self) -> bool:
        """Whether it has ended, and well. That it failed is a failure here."""
        if self.running:
            return False
        assert self._status == 0, f"status {self._status}: {self.said}"
        return True

    @property
    def said(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def _run(function: Callable[[], None], log: Path) -> None:
    status = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd in (1, 2):
            os.dup2(out, fd)
        sys.stdout = sys.stderr = os.fdopen(out, "w", buffering=1)
        function()
        status = 0
    except BaseException:  # noqa: BLE001 - it must not come back into pytest
        traceback.print_exc()
    finally:
        os._exit(status)
