# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher record``: a capture of both raw streams, to be replayed elsewhere.

Owns this command's options. It is `run` with its output thrown away: the events are made all the same,
so that the capture holds every answer of the host that making them takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.cli import run
from enricher.cli.options import size

if TYPE_CHECKING:
    import argparse

_DEFAULT_SIZE = 1 << 30


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "record",
        help="write a capture of this host's audit stream, for `replay`",
        description="Load the programs and write both raw streams, as they come, to a capture."
        " It holds everything that the audit log holds, arguments and file names included: handle it as such."
        " Ends on Ctrl-C with an account of every record.",
    )
    parser.add_argument("capture", metavar="FILE", help="the capture, made with mode 0600; must not exist")
    parser.add_argument(
        "--max-size",
        type=size,
        default=_DEFAULT_SIZE,
        metavar="SIZE",
        help="stop when the capture has grown to this size (default: 1G)",
    )
    run.add_sources(parser)
    parser.set_defaults(
        call=run.run,
        discard=True,
        sinks=False,
        format="json",
        output=None,
        count=None,
        key=[],
        type=[],
        filter="",
        no_self=False,
        raw=False,
    )
