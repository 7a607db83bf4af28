# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher service``: what the unit runs, from ready to the account.

Owns this command's options. What it has to say of itself goes to standard error, which is the journal's; events go
to the file of the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enricher.cli.options import Signals, add_config, say, tell
from enricher.config.load import load
from enricher.correlate import ledger
from enricher.runtime import service

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "service",
        help="run as the host's service: settings from files, events to a file (systemd starts this)",
        description="Run as the host's service, until SIGTERM. Settings come from files and environment, see"
        " audit-enricher.toml(5); SIGHUP reads them again, SIGUSR1 has the account printed.",
    )
    add_config(parser)
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    settings = load(options.config)
    with Signals(reload=True) as signals:
        summary = service.run(options.config, settings, signals, say)
    tell(ledger.words(summary))
    return 0
