# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in a way the operator can act on; one leaf per cause, each with its exit code.

Owns messages, hints and exit codes. Never decides what to do about an error: the command line
prints it and exits, a traceback means a bug.

::

    EnricherError
      UsageError            2   the command line does not say something we can do
      ConfigInvalid         2   a configuration file or variable says something we cannot do
      MissingCapability     3   a capability or privilege is missing
      WrongNamespace        4   not in the initial user, pid or network namespace
      AuditUnavailable      5   the kernel has no audit subsystem
      KernelUnsupported     6
        NoBtf               6   the kernel has no BTF, so layouts cannot be known
        NoHook              6   none of the hooks can be attached
        LayoutMismatch      6   the BPF object and the decoder do not agree
      LoadFailed            7   libbpf or the verifier refused the programs
      SelfTestFailed        8   the nonce record was not seen by the hook
        NotProved           8   the nonce record did not come back, which may pass
      OutputFailed          9   the output cannot be opened or written
      DamagedInput         12   a capture or a log is damaged; all before the damage was used
      NotRunning           13   no service answers on the control socket
      ContidRefused        14   what was asked of a container identifier was refused
      NotAsWritten         15   sealed files differ from what was written
      FleetNotReady        16   a fleet's cluster does not answer, or is not as it should be
"""

from __future__ import annotations


class EnricherError(Exception):
    """An error with a cause the operator can do something about: `message`, `hint`, `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EnricherError):
    """The command line or a setting asks for something that cannot be done."""

    exit_code = 2


class ConfigInvalid(EnricherError):
    """Configuration files or variables are wrong; the message has one line for each error."""

    exit_code = 2


class MissingCapability(EnricherError):
    """A capability is missing; the message names it and what it is needed for."""

    exit_code = 3


class WrongNamespace(EnricherError):
    """Run from a user, pid or network namespace in which the kernel sends no audit records."""

    exit_code = 4


class AuditUnavailable(EnricherError):
    """The kernel was built or booted without audit."""

    exit_code = 5


class KernelUnsupported(EnricherError):
    """The running kernel lacks something we cannot do without."""

    exit_code = 6


class NoBtf(KernelUnsupported):
    """No /sys/kernel/btf/vmlinux: private structures cannot be located."""


class NoHook(KernelUnsupported):
    """No function through which every audit record passes can be attached to."""


class LayoutMismatch(KernelUnsupported):
    """The BPF object's structures differ from what user space decodes: object and code do not match."""


class LoadFailed(EnricherError):
    """libbpf or the verifier refused the object; the message has the verifier's last useful lines."""

    exit_code = 7


class SelfTestFailed(EnricherError):
    """The nonce record came back through netlink but the hook did not see it."""

    exit_code = 8


class NotProved(SelfTestFailed):
    """The nonce record was lost on its way: nothing is known of the hook, and another try may be luckier."""


class OutputFailed(EnricherError):
    """The output cannot be created or written."""

    exit_code = 9


class DamagedInput(EnricherError):
    """A capture or a log file is damaged; everything before the damage was used, the message says where."""

    exit_code = 12


class NotRunning(EnricherError):
    """No service answers on the control socket."""

    exit_code = 13


class NotAsWritten(EnricherError):
    """Files with seals are not as they were written, or have no seals at all."""

    exit_code = 15


class ContidRefused(EnricherError):
    """The service or the kernel refused it; ``name`` is the errno's, such as EBUSY."""

    exit_code = 14

    def __init__(self, message: str, hint: str = "", name: str = "") -> None:
        super().__init__(message, hint)
        self.name = name


class FleetNotReady(EnricherError):
    """A fleet's cluster does not answer, refuses, or is not as it should be."""

    exit_code = 16
