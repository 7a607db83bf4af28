# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher namespaces``: which namespaces there are on this host, who is in them, and whose they are.

Owns this command's options. Never looks anything up itself: `runtime.namespaces` does.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Final

from enricher.cli.options import add_config, count, put, say, settings_for_asking
from enricher.config.settings import GROUP, SOCKET
from enricher.enrich.nsplaces import Wanted
from enricher.enrich.nstrees import SCHEMA
from enricher.model import KINDS
from enricher.route.views.namespaces import lines
from enricher.route.views.table import escape, terminal_width
from enricher.runtime.births import ask
from enricher.runtime.namespaces import look

_KINDS: Final = KINDS[:8]

_EPILOG: Final = """\
A user namespace stands below its parent, everything else below the user namespace that owns it. WHERE says who is
in a namespace, by the cgroups of its tasks. SINCE is exact where the running service saw the namespace being made;
with <= it is "at the latest": the namespace may be older. A namespace without a task is there because of a mount, an
open descriptor, or one below it.

Run it as root on the host. Without CAP_SYS_PTRACE only one's own processes are seen, without CAP_SYS_ADMIN no other
network namespace is entered; what could not be read is said on standard error, and the exit code is 0 all the same.
Links and addresses are read through the Python module pyroute2 (Debian's python3-pyroute2).
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "namespaces",
        help="show the namespaces of this host, who is in them and what holds them",
        description="Show the namespaces that are on this host now: as trees, with the tasks and the containers in"
        " them, what keeps them where no task does, and the links and addresses of network namespaces.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=_KINDS,
        help="only namespaces of this kind (may be repeated)",
    )
    parser.add_argument("--pid", type=count, metavar="PID", help="only namespaces that this process is in")
    parser.add_argument(
        "--container", metavar="ID", help="only namespaces with a task of a container whose id begins so"
    )
    parser.add_argument(
        "--no-network", action="store_true", help="do not enter network namespaces: no links and no addresses"
    )
    parser.add_argument("--json", action="store_true", help=f"one JSON document on one line, schema {SCHEMA}")
    add_config(parser)
    parser.set_defaults(call=namespaces)


def namespaces(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    settings = settings_for_asking(options.config)
    found = look(
        Wanted(frozenset(options.kind), options.pid, options.container),
        inside=not options.no_network,
        births=partial(ask, settings[SOCKET], settings[GROUP]),
    )
    if options.json:
        put(json.dumps(found))
    else:
        terminal = sys.stdout is not None and sys.stdout.isatty()
        put("\n".join(lines(found, terminal_width(1) if terminal else None)))
    for note in found["notes"]:
        say(escape(note))
    return 0
