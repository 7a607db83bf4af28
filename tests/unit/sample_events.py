# SPDX-License-Identifier: Apache-2.0
"""Events made by hand for the tests of what stands behind the join: records of the kernel's form, a context.

Never read from a real system: every value is invented.
"""

from __future__ import annotations

from collections.abc import Sequence

from enricher.model import Context, ContextFlag, Event, HostFacts, Level, Record

STAMP = b"1772366400.042:9001"
HEAD = b"audit(" + STAMP + b"): "

INITIAL = (4026531841, 4026531838, 4026531839, 4026531840, 4026531836, 4026531837, 4026531835, 4026531834)
HOST_INUMS = (*INITIAL, 4026531836, 4026531834)
# A container as runc makes it: its own mnt, uts, ipc, net, pid and cgroup; the host's user and time.
BOX_INUMS = (
    *(4026532257, 4026532258, 4026532259, 4026532261, 4026532260, 4026531837, 4026532262, 4026531834),
    *(4026532260, 4026531834),
)
HOST = HostFacts(
    "web1", "0123456789abcdef0123456789abcdef", "0b6c8f3e-1d2c-4c57-9a51-3f7a6b1c0d2e", "00:04", HOST_INUMS
)

SYSCALL = (
    b"arch=c000003e syscall=59 success=yes exit=0 a0=55d2a9e4c2a0 a1=55d2a9e4c310 a2=55d2a9e4c500 a3=8"
    b" items=2 ppid=4000 pid=4711 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0"
    b' tty=pts0 ses=3 comm="ls" exe="/usr/bin/ls" subj=unconfined key="exec"'
)
EXECVE = b'argc=3 a0="ls" a1="-la" a2="/tmp"'
CWD = b'cwd="/root"'
_INODE = b" dev=fe:01 mode=0100755 ouid=0 ogid=0 rdev=00:00"
_CAPS = b" nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
PATHS = (
    b'item=0 name="/usr/bin/ls" inode=1835' + _INODE + _CAPS,
    b'item=1 name="/lib64/ld-linux-x86-64.so.2" inode=1991' + _INODE + _CAPS,
)
PROCTITLE = b"proctitle=6C73002D6C61002F746D70"
EXEC = (
    (1300, SYSCALL),
    (1309, EXECVE),
    (1307, CWD),
    (1302, PATHS[0]),
    (1302, PATHS[1]),
    (1327, PROCTITLE),
    (1320, b""),
)
USER_LOGIN = (
    b'pid=4711 uid=0 auid=1000 ses=3 subj=unconfined msg=\'op=login acct="root"'
    b' exe="/usr/sbin/sshd" hostname=? addr=192.0.2.7 terminal=ssh res=failed\''
)


def context(  # noqa: PLR0913 - each is a fact a test may want to vary
    *,
    record_type: int = 1300,
    flags: int = ContextFlag.SUBJECT,
    pid: int = 4711,
    auid: int = 1000,
    ses: int = 3,
    cgroup_id: int = 7312,
    comm: bytes = b"ls",
    inums: Sequence[int] = HOST_INUMS,
    ids: Sequence[int] = (0,) * 10,
    levels: Sequence[tuple[int, int]] = ((4026531836, 4711),),
) -> Context:
    return Context(
        stamp=STAMP,
        time=81_000_000_000,
        record_type=record_type,
        flags=int(flags),
        pid=pid,
        tid=pid + 1,
        ppid=4000,
        auid=auid,
        ses=ses,
        start=80_123_456_789,
        cgroup_id=cgroup_id,
        comm=comm,
        inums=tuple(inums),
        ids=tuple(ids),
        levels=tuple(Level(*level) for level in levels),
        key=repr((tuple(inums), tuple(ids))).encode(),
    )


def event(*records: tuple[int, bytes], context: Context | None = None, stamp: bytes = STAMP) -> Event:
    """Make an event of (type, text after the stamp) pairs; complete, since that is the usual case."""
    made = Event(stamp, 0.0)
    made.records = [Record(number, b"audit(" + stamp + b"): " + body) for number, body in records]
    made.context = context
    made.complete = True
    return made


def exec_event(in_context: Context | None = None) -> Event:
    return event(*EXEC, context=in_context if in_context is not None else context())
