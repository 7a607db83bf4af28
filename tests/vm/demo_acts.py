# SPDX-License-Identifier: Apache-2.0
"""What happens in the demo: its acts in order, each a command line and how many rows it makes at least.

Owns the story and its words. Never runs anything; demo.py does.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ACTS", "KEYS", "NAMES", "TRUTH_TELLERS", "WEB_PID_FILE", "Act"]

KEYS = ("demo-exec", "demo-setns", "demo-unshare", "demo-shadow")
"""The keys of demo.rules: what the table shows and the JSON file holds."""

WEB_PID_FILE = "/run/web.pid"

TRUTH_TELLERS = 6
"""How many processes of the acts carry their own namespaces in their arguments."""

NAMES = {"podman": ("web", "brief"), "docker": ("batch",)}
"""By runtime, the names that the acts give to their containers."""

_IMAGE = "localhost/busybox"
_TRUTH = f"-v /opt/share/workload:/w:ro {_IMAGE} /w/truth"


class Act(NamedTuple):
    """One command of the workload. ``{web}`` in it is the container's pid as the host sees it.

    It succeeds if it ends with ``status`` and the table has shown ``rows`` rows since its start. With
    ``shows`` the reader also sees what it printed.
    """

    title: str
    command: str
    rows: int
    status: int = 0
    shows: bool = False


ACTS = (
    Act("On the host, root reads the password hashes", "cat /etc/shadow", 2),
    Act(
        "podman run: a container, with the host's /etc mounted in it",
        f"podman run -d --name web --pidfile {WEB_PID_FILE} -v /etc:/host:ro {_IMAGE} sleep 600",
        2,
    ),
    Act(
        "podman exec: the same file read inside that container, where it has another name",
        "podman exec web cat /host/shadow",
        3,
    ),
    Act(
        "nsenter: a process of the host steps into three of the container's namespaces",
        "nsenter --target {web} --mount --net --pid cat /host/shadow",
        6,
    ),
    Act(
        "podman run --rm: processes of a millisecond, in a container that is gone by now."
        " In its arguments\neach carries the namespaces that it saw itself in; they are compared at the end",
        f"podman run --rm --name brief {_TRUTH} 5 brief",
        7,
    ),
    Act(
        "unshare: new uts and ipc namespaces, and no container at all",
        "unshare --uts --ipc hostname elsewhere",
        3,
    ),
    Act(
        "A user namespace: root inside it, user 1000 in truth, and the file stays shut",
        "setpriv --reuid 1000 --regid 1000 --clear-groups unshare --user --map-root-user cat /etc/shadow",
        5,
        status=1,
        shows=True,
    ),
    Act(
        "docker run: a daemon starts the container, so who logged in (AUID) is lost; where it ran is not",
        f"docker run --rm --name batch {_TRUTH} 1 docker",
        3,
    ),
)
