# SPDX-License-Identifier: Apache-2.0
"""Command line: `python3 -m tests.vm build | run`.

Owns exit statuses: the guest's own, 124 for a timeout, 125 for a lost guest or a failed build, 128+N for a signal.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm.cache import tell
from tests.vm.errors import GuestTimeout, VmError
from tests.vm.guest import Guest
from tests.vm.image import ensure_image
from tests.vm.kernels import SLOTS, ensure_kernel
from tests.vm.terminal import interact

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_TIMEOUT = 124
EXIT_LOST = 125


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm", description="Test guests.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build kernels and the root image into the cache")
    build.add_argument("--kernel", action="append", choices=list(SLOTS), help="default: all")
    build.add_argument("--refresh", action="store_true", help="look for newer kernels and updates")
    run = commands.add_parser("run", help="boot, run a command (default: a shell), exit with its status")
    run.add_argument("--kernel", choices=list(SLOTS), default="6.12")
    run.add_argument("--share", type=Path, metavar="DIR", help="appears read-only at /opt/share")
    run.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="for the command (600)")
    run.add_argument("--smp", type=int, default=2)
    run.add_argument("--maxcpus", type=int, help="possible CPUs, of which --smp are online")
    run.add_argument("--memory", type=int, default=2048, metavar="MIB")
    run.add_argument("--icount", action="store_true", help="one CPU, repeatable instruction counts")
    run.add_argument("--append", default="", metavar="STR", help="added to the kernel's command line")
    run.add_argument("--no-settle", action="store_true", help="do not wait for systemd to finish starting up")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    return parser


def _build(arguments: argparse.Namespace) -> int:
    for slot in arguments.kernel or SLOTS:
        kernel = ensure_kernel(slot, refresh=arguments.refresh)
        verified = "verified" if kernel.verified else "NOT verified"
        tell(f"kernel {slot}: {kernel.version} ({kernel.package_version}, {kernel.suite}, {verified})")
    tell(f"root image: {ensure_image(refresh=arguments.refresh)}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    argv: list[str] = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    guest = Guest(
        arguments.kernel,
        smp=arguments.smp,
        memory=arguments.memory,
        extra_append=arguments.append,
        maxcpus=arguments.maxcpus,
        icount=arguments.icount,
        share=arguments.share,
        settle=not arguments.no_settle,
    )
    with guest:
        tell(
            f"{guest.version}: agent after {guest.boot_seconds:.1f} s, {guest.state} {guest.up_seconds:.1f} s"
        )
        if argv:
            done = guest.run(
                argv, timeout=arguments.timeout, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer
            )
            status = done.returncode
        else:
            status = interact(guest)
    return status if status >= 0 else 128 - status


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line; return the exit status."""
    # The guest's context has to be left on SIGTERM as on Ctrl-C.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    arguments = _parser().parse_args(words)
    if shutil.which("apt-get") is None:
        tell("this needs a Debian host: apt and mmdebstrap make the kernels and the image")
        return EXIT_LOST
    try:
        return _build(arguments) if arguments.command == "build" else _run(arguments)
    except GuestTimeout as error:
        tell(f"timeout: {error}")
        return EXIT_TIMEOUT
    except VmError as error:
        tell(f"{type(error).__name__}: {error}")
        return EXIT_LOST


if __name__ == "__main__":
    sys.exit(main())
