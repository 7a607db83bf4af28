# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: makes each cgroup it is told of, execs in it, and removes it while records are on their way.

Usage: cgroups.py PROGRAM <PATHS

PATHS is a JSON array of paths below the root of cgroup v2, "surrogateescape" for bytes that are not UTF-8. The
program is started as `PROGRAM 1 cgroup-N`. Prints a JSON object: of each path that cannot be, its number and why.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

ROOT = b"/sys/fs/cgroup"


def act(program: str, number: int, path: bytes) -> str:
    """Return why it cannot be, "" where it was."""
    made = []
    parts = path.strip(b"/").split(b"/")
    directory = ROOT
    try:
        for part in parts if parts != [b""] else []:
            directory += b"/" + part
            if not os.path.isdir(directory):  # noqa: PTH112 - bytes
                os.mkdir(directory)  # noqa: PTH102
                made.append(directory)
        child = os.fork()
        if not child:
            status = 1
            try:
                fd = os.open(directory + b"/cgroup.procs", os.O_WRONLY)
                os.write(fd, b"0")
                os.execv(program, [program, "1", f"cgroup-{number}"])  # noqa: S606
            except OSError as error:
                status = error.errno or 1
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        return os.strerror(code) if code else ""
    except (OSError, ValueError) as error:
        return str(error)
    finally:
        for each in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(each)  # noqa: PTH106


def main() -> None:
    """Do all."""
    paths = json.load(sys.stdin)
    failed = {}
    for number, path in enumerate(paths):
        if why := act(sys.argv[1], number, os.fsencode(path)):
            failed[str(number)] = why
    print(json.dumps(failed))


main()
