# SPDX-License-Identifier: Apache-2.0
"""``audit-enricher status``: what the running service says of itself.

Owns this command's options and the words for people. Never looks anything up itself. The service may be of another
version: a member that is missing is left out, one that is new or of another shape is shown as it is. Names of files
come from anyone: nothing of them reaches a terminal raw.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from enricher.cli.options import add_config, put, settings_for_asking
from enricher.config.settings import GROUP, SOCKET
from enricher.route.views.table import escape
from enricher.runtime import control_client

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

_UNITS: Final = ("GiB", 30), ("MiB", 20), ("KiB", 10)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "status",
        help="say how the running service does, with its account",
        description="Ask the running service, over its control socket, how it does: what it reads and writes, what"
        " is missing, and its account. Needs root or the group that control.group names.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    add_config(parser)
    parser.set_defaults(call=status)


def status(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    settings = settings_for_asking(options.config)
    answer = control_client.status(settings[SOCKET], settings[GROUP])
    put(json.dumps(answer) if options.json else "\n".join(words(answer)))
    return 0


def words(answer: Mapping[str, Any]) -> list[str]:
    """Return the lines for people."""
    rest = dict(answer)
    account = rest.pop("account_words", None)
    if account is not None:
        rest.pop("account", None)  # the same in numbers
    rest.pop("degraded", None)
    rows = []
    for name, (label, shown) in _ROWS.items():
        if name in rest:
            value = rest.pop(name)
            try:
                text = shown(value, answer)
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
                text = _plain(value)
            rows.append((label, text))
    rows += [(escape(name), _plain(value)) for name, value in rest.items()]
    width = max((len(label) for label, text in rows if text), default=0)
    lines = [f"{label:<{width}}  {text}" for label, text in rows if text]
    if account is not None:
        lines += ["", *map(escape, str(account).split("\n"))]
    return lines


def _plain(value: object) -> str:
    """Return whatever it is on one line."""
    if isinstance(value, str):
        return escape(value)
    return escape(json.dumps(value, ensure_ascii=False))


def _text(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - what a service of any version says
    return "" if value is None else _plain(value)


def _size(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    return _bytes(value) if value else ""


def _bytes(count: int) -> str:
    for unit, shift in _UNITS:
        if count >= 1 << shift:
            return f"{count / (1 << shift):.1f}".removesuffix(".0") + f" {unit}"
    return f"{int(count)} bytes"


def _mode(value: Any, answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    reason = answer.get("degraded")
    return f"{_plain(value).upper()}: {_plain(reason)}" if reason else _plain(value)


def _rings(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    count = int(value["count"])
    return f"{count}, together {_bytes(value['bytes'])}" if count else "none"


def _output(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    parts = [f"{_plain(value['path'])} ({_plain(value['format'])}), {int(value['written'])} events written"]
    if "rotations" in value:
        parts.append(f"{int(value['rotations'])} rotations")
    if value.get("waiting"):
        parts.append(f"{int(value['waiting'])} events wait for it")
    if value.get("failed"):
        parts.append(f"{int(value['failed'])} events NOT written")
    if value.get("error"):
        parts.append(f"it FAILS now: {_plain(value['error'])}")
    known = {"path", "format", "written", "rotations", "waiting", "failed", "error"}
    parts += [f"{escape(name)} {_plain(value[name])}" for name in value if name not in known]
    return ", ".join(parts)


def _sinks(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    return "; ".join(map(_sink, value)) or "none"


def _sink(value: Mapping[str, Any]) -> str:
    about = ", ".join(_plain(value[name]) for name in ("type", "schema", "queue"))
    parts = [f"{_plain(value['name'])} ({about}): {int(value['taken'])} taken"]
    if value.get("waiting"):
        waiting = f"{int(value['waiting'])} wait ({_bytes(value['waiting_bytes'])}"
        oldest = value.get("oldest_seconds")
        parts.append(f"{waiting}, the oldest for {oldest:.0f}s)" if oldest else f"{waiting})")
    parts += [f"{int(value[name])} {word}" for name, word in _FAILURES if value.get(name)]
    if value.get("error"):
        parts.append(f"it FAILS now: {_plain(value['error'])}")
    parts += [f"{escape(name)} {_plain(value[name])}" for name in value if name not in _OF_SINK]
    return ", ".join(parts)


_FAILURES: Final = (
    ("refused", "REFUSED for ever"),
    ("lost", "LOST"),
    ("unsure", "perhaps not there"),
    ("unheard", "while nobody was connected"),
    ("bugs", "BUGS"),
)
_OF_SINK: Final = frozenset(
    "name type schema queue waiting waiting_bytes max_bytes oldest_seconds sent taken refused retries errors bugs"
    " lost unsure unheard error".split()
)


def _metadata(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    known = ("state", "asked", "answered", "unknown")
    parts = [_plain(value["state"])]
    if value.get("asked"):
        parts.append(
            f"{int(value['answered'])} of {int(value['asked'])} questions answered, {int(value['unknown'])} unknown"
        )
    parts += [
        f"{escape(name).replace('_', ' ')} {_plain(value[name])}"
        for name in value
        if name not in known and value[name]
    ]
    return ", ".join(parts)


def _contid(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    parts = [_plain(value["state"])]
    parts += [
        f"{escape(name).replace('_', ' ')} {_plain(value[name])}"
        for name in value
        if name != "state" and value[name]
    ]
    return ", ".join(parts)


def _journal(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    if value is None:
        return "none is kept"
    parts = [f"{_plain(value['path'])}, {_bytes(value['bytes'])}, {int(value['events'])} events"]
    if value.get("oldest"):
        parts.append(f"from {_plain(value['oldest'])} on")
    if value.get("lost"):
        parts.append(f"{int(value['lost'])} events NOT kept")
    if value.get("failed"):
        parts.append(f"{int(value['failed'])} writes failed")
    if value.get("error"):
        parts.append(f"it FAILS now: {_plain(value['error'])}")
    return ", ".join(parts)


_GAPS: Final = {
    "restart": "between two runs of the service nobody looked",
    "crash": "the run before ended without its account",
    "boot": "from the start of this boot nobody looked",
}


def _gap(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    if value is None:
        return "none before this run"
    if value.get("first") is None:
        return _plain(value.get("text", "not known"))
    why = _GAPS.get(value["reason"]) or _plain(value["reason"])
    return (
        f"serials {int(value['first'])} to {int(value['last'])}, at most {int(value['events'])} events: {why}"
    )


def _files(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    return ", ".join(map(_plain, value["files"])) or "defaults"


def _names(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    return ", ".join(map(_plain, value)) or "none"


def _flag(value: Any, _answer: Mapping[str, Any]) -> str:  # noqa: ANN401 - as above
    return "yes" if value else "no"


_ROWS: Final[dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], str]]]] = {
    "mode": ("mode", _mode),
    "version": ("version", _text),
    "pid": ("pid", _text),
    "since": ("running since", _text),
    "reloaded": ("settings reloaded", _text),
    "config": ("configuration", _files),
    "kernel": ("kernel", _text),
    "hook": ("hook", _text),
    "loader": ("loader", _text),
    "rings": ("rings", _rings),
    "way": ("records by", _text),
    "receive_buffer": ("receive buffer", _size),
    "output": ("output", _output),
    "sinks": ("destinations", _sinks),
    "journal": ("journal", _journal),
    "followers": ("followers", _text),
    "gap": ("gap", _gap),
    "metadata": ("names of containers", _metadata),
    "contid": ("container identifiers", _contid),
    "capabilities": ("capabilities", _names),
    "rss": ("memory", _size),
    "watchdog": ("watchdog", _flag),
}
"""Label and words for each member, in the order of the lines; a row without words is left out."""
