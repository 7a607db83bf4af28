# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces with a cable between them that can be cut: one for receivers, one for who sends.

Owns both, by names that have this process's number in them. Never touches the host's own interfaces.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import Final, Self

_CLONE_NEWNET: Final = 0x40000000


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class Network:
    """``ours`` is the namespace of who sends; ``within`` is the command that starts something in the other one."""

    address = "10.177.0.2"
    """Of the receivers."""

    def __init__(self) -> None:
        self.ours = f"delivery-ours-{os.getpid()}"
        self.theirs = f"delivery-theirs-{os.getpid()}"
        self.within = ("ip", "netns", "exec", self.theirs)

    def __enter__(self) -> Self:
        try:
            for name in (self.ours, self.theirs):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            # Made inside, so that the host never has either end.
            _ip(
                "-n", self.ours, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", self.theirs
            )
            _ip("-n", self.ours, "address", "add", "10.177.0.1/24", "dev", "cable")
            _ip("-n", self.theirs, "address", "add", f"{self.address}/24", "dev", "cable")
            for name in (self.ours, self.theirs):
                _ip("-n", name, "link", "set", "cable", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.ours, self.theirs):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=30)

    def enter(self) -> None:
        """Go to the receivers' namespace, for good: of a process that was forked for it."""
        with open(f"/run/netns/{self.theirs}", "rb") as namespace:  # noqa: PTH123 - its descriptor is wanted
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    def cut(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        _ip("-n", self.theirs, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Let things through again."""
        _ip("-n", self.theirs, "link", "set", "cable", "up")
