# SPDX-License-Identifier: Apache-2.0
"""Test guests: real Debian kernels under QEMU, for tests that load audit rules and BPF programs.

Owns the kernels, the root image, the agent inside the guest and the class that drives it.
Never touches audit, BPF or containers on the machine the tests run on: the guest is the test host.
"""

from __future__ import annotations

from tests.vm.errors import (
    BuildError,
    CommandFailed,
    GuestBusy,
    GuestLost,
    GuestTimeout,
    VmError,
)
from tests.vm.guest import Completed, Guest
from tests.vm.kernels import SLOTS
from tests.vm.process import GuestProcess

__all__ = [
    "SLOTS",
    "BuildError",
    "CommandFailed",
    "Completed",
    "Guest",
    "GuestBusy",
    "GuestLost",
    "GuestProcess",
    "GuestTimeout",
    "VmError",
]
