# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher contid``: set, read and list audit container identifiers, and let others set them.

Owns this command's options. It acts for its parent process, such as the shell that it is called from: that is the owner
of what is set, and what it may not do the command may not either. Never sets anything by itself: the service does.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any, Final

from enricher.cli.options import add_config, put, settings_for_asking
from enricher.config.settings import CONTID_SOCKET
from enricher.errors import UsageError
from enricher.facts import Engine
from enricher.route.views.table import escape
from enricher.runtime import contid_client
from enricher.runtime.contid_request import AUTO, OF_TARGET, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACTIONS: Final = ("set", "get", "list", "grant", "revoke")
_EPILOG: Final = """\
set PID CONTID    give a process an identifier, which everything it starts inherits; CONTID is a number below
                  2^64 - 1, or auto for one that nobody uses
get PID           print the identifiers of a process, its own first, one a line; nothing where it has none
list              print all identifiers that are in use; root's alone
grant PID         let a process set identifiers of its own descendants
revoke PID        and no longer

The process has to be a descendant of who calls this command, and has to have neither children nor threads yet. With
--orchestrator it need be no descendant and may have threads, which takes CAP_AUDIT_CONTROL. contid.md among the
documents says what each error means.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "contid",
        help="set, read and list audit container identifiers",
        description="Ask the service, over its own socket for that, for audit container identifiers. Needs"
        " contid.enabled. The command acts for its parent process, which must have the same credentials.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the process")
    parser.add_argument("contid", nargs="?", metavar="CONTID", help="the identifier, for set")
    parser.add_argument(
        "--orchestrator",
        action="store_true",
        help="set: the service becomes the owner, and the process may have threads and be anybody's",
    )
    parser.add_argument(
        "--bind-cgroup",
        action="store_true",
        help="set: what joins the process's cgroup later takes the identifier too; with --orchestrator",
    )
    for name, words in _ENGINE.items():
        parser.add_argument(
            f"--engine-{name}", metavar="TEXT", default="", help=f"set: {words}, for the events"
        )
    parser.add_argument("--json", action="store_true", help="the service's answer as one JSON object")
    add_config(parser)
    parser.set_defaults(call=contid)


_ENGINE: Final = {
    "id": "the engine's full id of the container",
    "name": "its name of it",
    "image": "its image",
    "runtime": "the engine",
}


def contid(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    path = settings_for_asking(options.config)[CONTID_SOCKET]
    request = _request(options)
    target = -1 if options.pid is None else contid_client.open_target(options.pid)
    try:
        answer = contid_client.ask(path, request, target)
    finally:
        if target >= 0:
            os.close(target)
    lines = [json.dumps(answer)] if options.json else _words(options.action, answer)
    if lines:
        put("\n".join(lines))
    return 0


def _request(options: argparse.Namespace) -> dict[str, object]:
    """Return what is asked. Raises UsageError."""
    action: str = options.action
    if (options.pid is not None) != (action in OF_TARGET):
        raise UsageError(
            f"{action} takes {'a process' if action in OF_TARGET else 'no process'}", "see contid --help"
        )
    if (options.contid is not None) != (action == "set"):
        raise UsageError("an identifier belongs to set, and to nothing else", "contid set PID CONTID")
    if action in {"get", "list"}:
        return {"op": action}
    request: dict[str, object] = {"op": action, "as": "parent"}
    if action == "set":
        number = number_of(options.contid)
        request["contid"] = "auto" if number == AUTO else str(number)
        engine = {name: getattr(options, f"engine_{name}") for name in Engine._fields}
        if any(engine.values()):
            request["engine"] = {name: value for name, value in engine.items() if value}
        request |= {name: True for name in ("orchestrator", "bind_cgroup") if getattr(options, name)}
    return request


def _words(action: str, answer: Mapping[str, Any]) -> list[str]:
    if action == "get":
        return [escape(str(contid)) for contid in answer.get("contid", ())]
    if action == "list":
        lines = [_entry(entry) for entry in answer.get("ids", ())]
        return [*lines, "and more"] if answer.get("cut") else lines
    return [escape(str(answer["contid"]))] if action == "set" and "contid" in answer else []


def _entry(entry: Mapping[str, Any]) -> str:
    chain = ",^".join(str(contid) for contid in entry.get("chain", ()))
    owner = entry.get("owner", {}).get("pid", "?")
    bound = f" cgroup {entry['cgroup']}" if "cgroup" in entry else ""
    return escape(f"{chain}  {entry.get('tasks', '?')} processes, set by {owner}{bound}")
