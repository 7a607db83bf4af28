# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: audit's sample rules, a workload under them, and auditd that writes the log. One line of JSON.

    capture_guest.py WORKLOAD EVENTS SECONDS RULES...

Loads each line of the files RULES by itself, so that one that this host refuses does not stop the others, and tells
which those were. Runs tests/workload/hostload.c as a user who logged in, until the log has so many events or the time
is over. Never reads what is in the log but its last lines. The log is auditd's, raw: /var/log/audit/audit.log.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path("/opt/share/hostload")
BASE = Path("/srv/load")
LOG = Path("/var/log/audit/audit.log")
USER = 1000
SERVER = 33
"""Debian's www-data."""
BACKLOG = 500_000
FULL = 100_000
"""Records in the kernel's queue at which the workload waits: some 150 MiB."""
DIRECTORIES = (
    *("build/obj", "build/dep", "build/stage", "build/private/include"),
    *("www/private", "www/sessions", "box/root", "bin"),
)
SETUID = (
    *("/usr/bin/load-install", "/usr/bin/load-suexec", "/usr/bin/load-box"),
    str(BASE / "bin/su-exec"),
)
WATCHED = ("/etc/sudoers", "/etc/security/opasswd", "/etc/gshadow", "/etc/issue.net")
WATCHED_DIRECTORIES = ("/etc/sudoers.d", "/etc/NetworkManager", "/etc/selinux", "/var/log/audit/old")
"""What the rules name and a small image lacks."""
_KEPT = re.compile(r"(?m)^(?:log_format|flush|max_log_file|max_log_file_action|space_left_action) *=.*\n")
_CONFIGURATION = """\
log_format = RAW
flush = NONE
max_log_file = 99
max_log_file_action = IGNORE
space_left_action = IGNORE
"""
_SERIAL = re.compile(rb"msg=audit\([0-9.]+:([0-9]+)\)")
_LAST = 1 << 16


def prepare() -> None:
    """Make what the workload works in, and what the rules name."""
    for name in DIRECTORIES:
        (BASE / name).mkdir(parents=True, exist_ok=True)
    for name in ("build/obj", "build/dep"):
        os.chown(BASE / name, USER, USER)
    os.chown(BASE / "www/sessions", SERVER, SERVER)
    for number in range(97):  # as many as the workload has sites
        private = BASE / f"www/site-{number}/private"
        private.mkdir(parents=True)
        private.chmod(0o700)
    (BASE / "build/private").chmod(0o700)
    for name in ("cc", "entry"):
        shutil.copy(PROGRAM, BASE / "bin" / name)
        (BASE / "bin" / name).chmod(0o755)
    for name in SETUID:
        shutil.copy(PROGRAM, name)
        Path(name).chmod(0o4755)
    for name in WATCHED_DIRECTORIES:
        Path(name).mkdir(exist_ok=True)
    for name in WATCHED:
        Path(name).touch()
    for number in range(64):
        old = LOG.parent / f"old/audit.log.{number}"
        old.touch()
        old.chmod(0o600)


def daemon() -> None:
    """Start auditd, which writes all and rotates nothing."""
    path = Path("/etc/audit/auditd.conf")
    path.write_text(_KEPT.sub("", path.read_text()) + _CONFIGURATION)
    Path("/etc/audit/rules.d/audit.rules").write_text("-D\n")
    subprocess.run(["systemctl", "start", "auditd"], check=True, timeout=120)
    LOG.parent.chmod(
        0o755
    )  # which auditd has taken back: a server that looks for old logs finds them, and is refused


def privileged() -> list[str]:
    """The rules that 31-privileged.rules has a host make: one for each set-uid program of the usual places."""
    places = ("/usr/bin", "/usr/sbin")
    found = [path for place in places for path in sorted(Path(place).iterdir()) if not path.is_symlink()]
    return [
        f"-a always,exit -F path={path} -F perm=x -F auid>=1000 -F auid!=unset -F key=privileged"
        for path in found
        if path.is_file() and path.stat().st_mode & 0o4000
    ]


def load(files: list[str]) -> dict[str, object]:
    """Load the rules; return how many, and those that were refused with what auditctl said."""
    lines = []
    for name in files:
        text = Path(name).read_text().splitlines()
        lines += privileged() if "privileged" in name else [line.strip() for line in text]
    loaded, refused = 0, []
    for line in lines:
        if not line or line[0] == "#":
            continue
        done = subprocess.run(["auditctl", *shlex.split(line)], capture_output=True, text=True, check=False)
        if done.returncode:
            refused.append([line, " ".join((done.stderr or done.stdout).split())])
        else:
            loaded += 1
    for words in (["-b", str(BACKLOG)], ["--reset-lost"]):
        subprocess.run(["auditctl", *words], capture_output=True, check=True)
    return {"loaded": loaded, "refused": refused}


def status() -> tuple[int, int]:
    """How many records the kernel has lost, and how many wait in its queue: struct audit_status of linux/audit.h."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as kernel:
        kernel.send(struct.pack("=IHHII", 16, 1000, 1, 1, 0))  # AUDIT_GET, a request
        lost, backlog = struct.unpack_from("=2I", kernel.recv(8192), 16 + 6 * 4)
    return lost, backlog


def readers_last() -> None:
    """Let kauditd and auditd run when nothing else does: who writes and who reads take turns of seconds, not of events.

    On an emulated processor a switch between them costs more than the event.
    """
    for name in ("kauditd", "auditd"):
        [pid] = subprocess.run(
            ["pgrep", "-x", name], capture_output=True, text=True, check=True
        ).stdout.split()
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def serial() -> int:
    """The last event in the log."""
    with LOG.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST))
        found = _SERIAL.findall(file.read())
    return int(found[-1]) if found else 0


def logged_in() -> None:
    """Become a user who logged in, in the child that executes the workload."""
    Path("/proc/self/loginuid").write_text(str(USER))
    user = SERVER if sys.argv[1] == "web" else USER
    os.umask(0o022)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def run(workload: str, events: int, seconds: float) -> dict[str, object]:
    """Run it until the log has so many events, or for so long."""
    first = serial()
    begun = time.monotonic()
    running = subprocess.Popen([str(PROGRAM), workload, "1000"], preexec_fn=logged_in, cwd=BASE)  # noqa: PLW1509 - no threads
    while serial() - first < events and time.monotonic() - begun < seconds and running.poll() is None:
        time.sleep(1)
        if status()[1] > FULL:
            running.send_signal(signal.SIGSTOP)
            drain()
            running.send_signal(signal.SIGCONT)
    ended = running.poll()
    running.kill()
    running.wait()
    drain()
    passed = time.monotonic() - begun
    return {"events": serial() - first, "seconds": round(passed, 1), "ended": ended}


def drain() -> None:
    """Wait until the queue is empty."""
    while status()[1]:
        time.sleep(0.2)


def main(words: list[str]) -> None:
    """Do all of it."""
    workload, events, seconds, *rules = words
    prepare()
    daemon()
    told: dict[str, object] = {"rules": load(rules)}
    readers_last()
    told |= run(workload, int(events), float(seconds))
    told["lost"] = status()[0]
    subprocess.run(["auditctl", "-D"], capture_output=True, check=True)
    subprocess.run(["pkill", "-TERM", "-x", "auditd"], check=True)
    while not subprocess.run(["pgrep", "-x", "auditd"], capture_output=True, check=False).returncode:
        time.sleep(0.2)
    told["bytes"] = LOG.stat().st_size
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
