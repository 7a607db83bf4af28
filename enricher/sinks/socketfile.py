# SPDX-License-Identifier: Apache-2.0
"""The file of a Unix socket that somebody is about to listen on: what is there already, and whether it may go.

Owns that question alone, for everybody who listens. Never makes a socket, and removes nothing that is in use.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enricher.errors import UsageError


def clear(path: str, other: UsageError, busy: UsageError) -> None:
    """Remove the socket of a process that is gone.

    Raises ``other`` where something else is there, ``busy`` where somebody listens, and OSError.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise other
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        Path(path).unlink()
        return
    except BlockingIOError:
        pass  # its queue is full: somebody has to be there
    raise busy
