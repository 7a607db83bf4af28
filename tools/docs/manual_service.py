# SPDX-License-Identifier: Apache-2.0
"""audit-enricher-service(8): the service, for whoever runs hosts.

Owns that page's prose. What has its place elsewhere is read there: the capabilities and their reasons in the unit,
those that stay in runtime/privileges.py, settings in their rows, exit codes in the command.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from docs import settings
from docs.manual import exit_status
from docs.markup import items, sentence
from docs.roff import Page
from enricher.config.settings import (
    DAEMON,
    DIRECTORY,
    FILE,
    GROUP,
    JOURNAL_AGE,
    JOURNAL_SIZE,
    METADATA,
    OUTPUT_PATH,
    ROTATE_KEEP,
    ROTATE_SIZE,
    SETTINGS,
    SOCKET,
    WITHOUT_HOOK,
)
from enricher.journalformat import NAME
from enricher.runtime import state
from enricher.runtime.privileges import KEPT, ON_DEMAND, names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enricher.config.settings import Setting

UNIT: Final = Path(__file__).parents[2] / "packaging" / "systemd" / "audit-enricher.service"

_JOURNAL: Final = f"/var/lib/audit-enricher/{NAME}"

_TEXT: Final = f"""\
# SYNOPSIS

    systemctl start|stop|reload|status audit-enricher.service

# DESCRIPTION

The unit `audit-enricher.service` runs `audit-enricher service`, which reads the audit stream of this host and writes
events to `{OUTPUT_PATH.default}`; see audit-enricher-events(7). It starts after auditd(8) where there is one, and
works without it. It never loads an audit rule and never changes a setting of audit: it describes what the host's rules
record. Where there is no auditd, `{DAEMON.name}` makes it the host's audit daemon; the operations manual among the
documents says what that means.

It is ready, also for systemd, when a record of its own has proved that its programs see every record. A service that
does not answer systemd's watchdog is started again.

At its end, and on SIGUSR1, it writes its account to the journal: how many records the kernel finished, how many were
joined with their context, how many were lost and why.

# CONFIGURATION

The settings are in `{FILE}` and `{DIRECTORY}/config.d/*.toml`; see audit-enricher.toml(5). After a change:

    audit-enricher check && systemctl reload audit-enricher

# OUTPUT

The events' file has mode 0640 and belongs to the group `{GROUP.default}` (`{GROUP.name}`): who is in that group can
read it. It holds all that an audit log holds, command lines and file names included.

The service rotates it. When it has grown to {settings.default(ROTATE_SIZE)} (`{ROTATE_SIZE.name}`) it becomes
`events.json.1`, the one before that `events.json.2`, and so on; {settings.default(ROTATE_KEEP)} of them are kept
(`{ROTATE_KEEP.name}`). logrotate(8) is not needed. If another program moves the file away, the service makes it anew.

systemd makes `{Path(OUTPUT_PATH.default).parent}`. An output elsewhere needs a directory that the user
`audit-enricher` can write to, and `ReadWritePaths=` in a drop-in of the unit.

# SIGNALS

`SIGHUP`
: Read the configuration again; `systemctl reload audit-enricher` sends it. If it is wrong, the service keeps the
settings it has and says what is wrong in the journal. If it is right, these take effect: {{live}}. The others wait
for a restart. A NOTICE event tells of settings that changed and of wrong ones. The events' file is opened anew. No
record is lost.

`SIGUSR1`
: Write the account so far to the journal.

`SIGTERM`, `SIGINT`
: Finish the events that are open, write the account, and end with status 0.

# CONTROL SOCKET

On `{SOCKET.default}` (`{SOCKET.name}`) the service answers root and the members of the group `{GROUP.default}`
(`{GROUP.name}`), and nobody else. Nothing can be changed through it. Two commands use it:

`audit-enricher status`
: How the service is doing.

`audit-enricher follow`
: Events as they happen.

# PRIVILEGES

The service runs as the user `audit-enricher`, in the host's own pid, user and network namespaces. It starts with

{{capabilities}}

It drops them when the start is over, but for

{{kept}}

and, where `{DAEMON.name}` is true, `CAP_AUDIT_CONTROL`, which is not in effect before the end.

Two processes beside it read what container runtimes know of their containers (`{METADATA.name}`). They keep
`CAP_DAC_READ_SEARCH`, no descriptor of the service's and nothing else.

# RESTARTS AND GAPS

Where a run ended is kept in `/var/lib/audit-enricher/{state.NAME}`. The next run tells of what neither has read: a
NOTICE event of the kind `gap` has the first and the last serial, and whether it was a restart, a crash or a boot. The
account has the gap too.

# OLD LOGS

In `{_JOURNAL}` the service keeps which namespaces and which cgroup each event had, within the bounds
`{JOURNAL_AGE.name}` and `{JOURNAL_SIZE.name}`. With it the events of an old audit.log that auditd wrote have them
again, exactly or not at all:

    audit-enricher replay --journal {_JOURNAL} /var/log/audit

# KERNELS WITHOUT A HOOK

A kernel update may take away the function that the programs attach to. Then another one that sees every record is
used, and a NOTICE event of the kind `hook` says so. If there is none, or the kernel refuses the programs, the setting
`{WITHOUT_HOOK.name}` decides; its default is `{settings.default(WITHOUT_HOOK)}`.

`run`
: Degraded mode. Every record is written, no event has namespaces, and each says so in `enrichment`. A NOTICE event
of the kind `degraded`, the journal and `audit-enricher status` say it too.

`refuse`
: The service does not start; its exit status is 6, 7 or 8.

# EXIT STATUS

{{exit_status}}

After {{lasting}} systemd does not start the service again: only a change of the host helps. After any other failure it
does.

# FILES

`{FILE}`, `{DIRECTORY}/config.d/*.toml`
: The settings.

`{OUTPUT_PATH.default}`
: The events.

`/var/lib/audit-enricher/{state.NAME}`
: Where the last run ended.

`{_JOURNAL}`
: What is kept for old logs.

`{SOCKET.default}`
: The control socket.

`/lib/systemd/system/audit-enricher.service`
: The unit. What a host wants otherwise goes into a drop-in: `systemctl edit audit-enricher`.

`/etc/apparmor.d/audit-enricher`, `/etc/apparmor.d/local/audit-enricher`
: The AppArmor profile, where the package has one, and what the host adds to it, such as an output elsewhere.

# TROUBLE

Why it does not start, and what it lost:

    systemctl status audit-enricher
    journalctl --unit audit-enricher
    audit-enricher doctor

For a bug report, as root. It holds what an audit log holds:

    audit-enricher record --for 1m capture

# SEE ALSO

audit-enricher(1), audit-enricher.toml(5), audit-enricher-events(7), auditctl(8), auditd(8), systemctl(1)
"""


def service_page() -> Page:
    """Return the page. Raises ValueError where the unit does not say what the page tells."""
    kept = [(name, reason) for number, reason in (KEPT | ON_DEMAND).items() for name in names(1 << number)]
    live: list[Setting[Any]] = [row for row in SETTINGS if row.live]
    return Page(
        "audit-enricher-service",
        8,
        "the system service of audit-enricher",
        _TEXT.format(
            live=settings.listed(row.name for row in live),
            capabilities=_reasons(capabilities().items()),
            kept=_reasons(kept),
            exit_status=exit_status(),
            lasting=", ".join(_unit(r"^RestartPreventExitStatus=([\d ]+)$").split()),
        ),
    )


def capabilities() -> dict[str, str]:
    """Return the capabilities that the unit gives, each with the reason that stands in a comment there."""
    reasons = dict(re.findall(r"^# +(CAP_\w+) +(\S.*)$", UNIT.read_text(), re.MULTILINE))
    given = _unit("^AmbientCapabilities=(.*)$").split()
    if set(given) != set(reasons):
        raise ValueError(f"{UNIT.name}: capabilities and reasons differ: {set(given) ^ set(reasons)}")
    return {name: reasons[name] for name in given}


def _unit(pattern: str) -> str:
    found = re.search(pattern, UNIT.read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"{UNIT.name}: no line is {pattern}")
    return found[1]


def _reasons(rows: Iterable[tuple[str, str]]) -> str:
    return items((f"`{name}`", sentence(reason)) for name, reason in rows)
