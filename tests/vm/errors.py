# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a test guest; one leaf per cause, so that a lost VM never looks like a failed test.

    VmError
    +-- BuildError       a kernel or the root image could not be built
    +-- GuestBusy        this process already runs as many guests as there is room for
    +-- GuestLost        QEMU died, the kernel panicked, or the agent went silent
    +-- GuestTimeout     the guest lives, but a command or the boot exceeded its time limit
    +-- CommandFailed    a command run with check=True returned a status other than 0

Never raised for a command that merely fails without check=True.
"""

from __future__ import annotations


class VmError(Exception):
    """Base of everything this package raises on purpose."""


class BuildError(VmError):
    """A kernel or the root image could not be built; the message names the step."""


class GuestBusy(VmError):
    """This process already runs as many guests as there is room for."""


class GuestLost(VmError):
    """The guest is gone; the message ends with the last lines of its console."""


class GuestTimeout(VmError):
    """A command or the boot took too long while the guest was still alive."""

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        """Keep what the command wrote until then, it usually tells why it hung."""
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class CommandFailed(VmError):
    """A command with check=True failed; returncode is negative for a signal, as in subprocess."""

    def __init__(self, argv: list[str], returncode: int, stdout: bytes, stderr: bytes) -> None:
        """Put the tail of both streams into the message: a test log often has nothing else."""
        tail = b"\n".join(part[-2000:] for part in (stdout, stderr) if part)
        super().__init__(f"{argv!r} returned {returncode}\n{tail.decode(errors='replace')}")
        self.argv = argv
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
