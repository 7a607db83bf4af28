# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher plugin``: the service as auditd starts it, with the records on standard input.

Owns this command's options. auditd's plugins are ended by SIGTERM and by the end of their input, and told to read their
settings again by SIGHUP. A second SIGTERM is no insisting: auditd sends one to its plugins when it ends, and then
systemd sends one to all that is left in auditd's control group.
"""

from __future__ import annotations

import contextlib
import grp
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from enricher.cli.options import Signals, add_config, say, tell
from enricher.config import settings as rows
from enricher.config.load import load
from enricher.correlate import ledger
from enricher.errors import UsageError
from enricher.runtime import privileges, service, state
from enricher.sources.audit.plugin import PluginReader

if TYPE_CHECKING:
    import argparse

    from enricher.config.load import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "plugin",
        help="run as the service does, as a plugin of auditd: records on standard input (auditd starts this)",
        description="Run as the host's service, with the records that auditd hands to its plugins instead of the audit"
        " multicast group. auditd starts it, as /etc/audit/plugins.d/audit-enricher.conf says, with format = string.",
    )
    add_config(parser)
    parser.set_defaults(call=_run)


def make_directories(settings: Settings) -> None:
    """Make what systemd makes for the unit, where it is missing and in the place that the package gave it."""
    places = [Path(state.directory())]
    places += [
        Path(row.default).parent for row in (rows.SOCKET, rows.OUTPUT_PATH) if settings[row] == row.default
    ]
    for directory in places:
        with contextlib.suppress(OSError, LookupError):  # who needs it says so
            directory.mkdir(0o750)
            if group := settings[rows.GROUP]:
                os.chown(directory, -1, grp.getgrnam(group).gr_gid)


def _run(options: argparse.Namespace) -> int:
    settings = load(options.config)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "standard input is a terminal: nobody hands records to this plugin",
            "auditd starts it; see /etc/audit/plugins.d/audit-enricher.conf. By hand there is `audit-enricher run`",
        )
    make_directories(settings)
    source = PluginReader(sys.stdin.fileno(), settings[rows.RECEIVE_BUFFER], lambda: privileges.keep_only(0))
    with contextlib.closing(source), Signals(reload=True, once=True) as signals:
        summary = service.run(options.config, settings, signals, say, source)
    tell(ledger.words(summary))
    return 0
