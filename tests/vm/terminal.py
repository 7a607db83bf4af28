# SPDX-License-Identifier: Apache-2.0
"""A root shell in the guest on the user's terminal.

Owns the terminal's raw mode and gives it back whatever happens. Never used by tests.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from typing import TYPE_CHECKING

from tests.vm.agent import CHUNK

if TYPE_CHECKING:
    from tests.vm.machine import Machine
    from tests.vm.process import GuestProcess

__all__ = ["interact"]

_POLL_SECONDS = 0.02


def interact(machine: Machine) -> int:
    """Run a login shell on a pty until it ends; without a terminal, feed it standard input to its end."""
    size = shutil.get_terminal_size()
    env = {"TERM": os.environ.get("TERM", "dumb")}
    if not sys.stdin.isatty():
        done = machine.run(
            ["/bin/bash", "-l"],
            timeout=3600,
            input=sys.stdin.buffer.read(),
            env=env,
            stdout=sys.stdout.buffer,
            stderr=sys.stderr.buffer,
        )
        return done.returncode
    with machine.popen(["/bin/bash", "-l"], env=env, pty=(size.lines, size.columns)) as shell:
        saved = termios.tcgetattr(sys.stdin)
        tty.setraw(sys.stdin)
        try:
            return _relay(shell)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


def _relay(shell: GuestProcess) -> int:
    size = shutil.get_terminal_size()
    while True:
        status = shell.poll()
        output = shell.read_available()
        if output:
            sys.stdout.buffer.write(output)
            sys.stdout.buffer.flush()
        elif status is not None:
            return status
        readable, _, _ = select.select([sys.stdin], [], [], _POLL_SECONDS)
        if readable:
            shell.write(os.read(sys.stdin.fileno(), CHUNK))
        now = shutil.get_terminal_size()
        if now != size:
            size = now
            shell.resize(size.lines, size.columns)
