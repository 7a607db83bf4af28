# SPDX-License-Identifier: Apache-2.0
"""Run a command on one core and say what it cost: CPU seconds of the user and of the system, KiB, its exit status.

    python3 -I -S timed.py CORE INPUT OUTPUT ERRORS COMMAND...

Small on purpose: the kernel counts the memory of whoever starts a program as the program's own largest, so nothing
with more than that may start it. Imports nothing but os and sys.
"""

import os
import sys


def main() -> None:
    """Start it, wait, print."""
    core, source, output, errors, *command = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    made = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, source, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, made, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, errors, made, 0o644),
        ],
    )
    _, status, used = os.wait4(pid, 0)
    sys.stdout.write(
        f"{used.ru_utime} {used.ru_stime} {used.ru_maxrss} {os.waitstatus_to_exitcode(status)}\n"
    )


if __name__ == "__main__":
    main()
