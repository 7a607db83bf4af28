# SPDX-License-Identifier: Apache-2.0
"""Events for the tests of schemas: one for each kind of thing that audit tells, every value invented.

They are made from records of the kernel's form by the code that makes all others, so that tables are tested with what
they will get.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from enricher.enrich.native import NativeBuilder
from enricher.enrich.shape import NativeEvent
from enricher.model import Context
from tests.unit.sample_events import BOX_INUMS, HOST, USER_LOGIN, context, event
from tests.unit.sample_native import SAMPLES

IDS = b"auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3"


def call(number: int, *, ok: bool = True, registers: str = "a0=3 a1=7ffe a2=10 a3=0", code: int = 0) -> bytes:
    """A SYSCALL record of x86_64."""
    said = f"success=yes exit={code}" if ok else f"success=no exit={code}"
    head = f"arch=c000003e syscall={number} {said} {registers} items=2 ppid=4000 pid=4711 ".encode()
    return head + IDS + b' comm="tool" exe="/usr/bin/tool" subj=unconfined key="watch"'


def path(item: int, name: str, kind: str, mode: str = "0100644") -> bytes:
    return (
        f'item={item} name="{name}" inode={700 + item} dev=fe:01 mode={mode} ouid=0 ogid=0 rdev=00:00'
        f" nametype={kind} cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
    ).encode()


def said(message: str, pid: int = 4711) -> bytes:
    """A record that a program sent."""
    return f"pid={pid} uid=0 auid=1000 ses=3 subj=unconfined msg='{message}'".encode()


def made(*records: tuple[int, bytes], who: Context | None = None, raw: bool = False) -> NativeEvent:
    around = event(*records, context=context() if who is None else who)
    return NativeBuilder(HOST, raw=raw).build(around)


CWD = (1307, b'cwd="/srv/app"')
TITLE = (1327, b"proctitle=746F6F6C002D7600612062")
INET = (1306, b"saddr=02001F90C00002070000000000000000")
INET6 = (1306, b"saddr=0A0000350000000020010DB800000000000000000000000100000000")
LOCAL = (1306, b"saddr=01002F72756E2F6462757300")
_FAKE = 'op=login acct="root" exe="/usr/sbin/sshd" hostname=h addr=2001:db8::9 terminal=ssh res=success'

MADE: dict[str, Callable[[], NativeEvent]] = {
    "open": lambda: made((1300, call(257, registers="a0=ffffff9c a1=7f a2=0 a3=0", code=3)), CWD,
                         (1302, path(0, "notes/a.txt", "NORMAL")), TITLE),
    "open that makes": lambda: made((1300, call(257, registers="a0=ffffff9c a1=7f a2=241 a3=1b6", code=3)), CWD,
                                    (1302, path(0, "/srv/app", "PARENT", "040755")),
                                    (1302, path(1, "/srv/app/new.log", "CREATE"))),
    "open elsewhere": lambda: made((1300, call(257, registers="a0=5 a1=7f a2=0 a3=0")), CWD,
                                   (1302, path(0, "a.txt", "NORMAL"))),
    "open refused": lambda: made((1300, call(2, ok=False, code=-13)), CWD,
                                 (1302, path(0, "/etc/shadow", "NORMAL", "0100640"))),
    "open without a path": lambda: made((1300, call(2, ok=False, code=-14)), TITLE),
    "mkdir": lambda: made((1300, call(83)), CWD, (1302, path(0, "/srv", "PARENT", "040755")),
                          (1302, path(1, "/srv/d", "CREATE", "040755"))),
    "unlink": lambda: made((1300, call(87)), CWD, (1302, path(0, "/srv", "PARENT", "040755")),
                           (1302, path(1, "/srv/old=a|b", "DELETE"))),
    "unlink of ?": lambda: made((1300, call(87)), CWD, (1302, path(0, "/srv/?", "DELETE"))),
    "unlink of what is not": lambda: made((1300, call(87)), CWD, (1302, path(0, "unset", "DELETE"))),
    "rename": lambda: made((1300, call(82)), CWD, (1302, path(0, "/srv/", "PARENT", "040755")),
                           (1302, path(1, "/srv/", "PARENT", "040755")), (1302, path(2, "/srv/one", "DELETE")),
                           (1302, path(3, "two", "CREATE"))),
    "chmod": lambda: made((1300, call(90)), CWD, (1302, path(0, "/bin/tool", "NORMAL", "0104755"))),
    "mount": lambda: made((1300, call(165)), CWD, (1302, path(0, "/mnt", "NORMAL", "040755"))),
    "umount": lambda: made((1300, call(166)), CWD, (1302, path(0, "/mnt", "NORMAL", "040755"))),
    "connect": lambda: made((1300, call(42)), INET, TITLE),
    "connect over six": lambda: made((1300, call(42)), INET6),
    "connect to a file": lambda: made((1300, call(42)), LOCAL, (1302, path(0, "/run/dbus", "NORMAL", "0140666"))),
    "accept": lambda: made((1300, call(43, code=5)), INET),
    "bind": lambda: made((1300, call(49)), INET),
    "sendto": lambda: made((1300, call(44, code=20)), INET),
    "clone without a child": lambda: made((1300, call(56, code=4720))),
    "exit": lambda: made((1300, call(231))),
    "setuid": lambda: made((1300, call(105))),
    "setns": lambda: made((1300, call(308)), who=context(inums=BOX_INUMS)),
    "kill without a target": lambda: made((1300, call(62))),
    "kill by its record": lambda: made((1300, call(62)), (1318, b"opid=4800 oauid=1000 ouid=0 oses=3 ocomm=\"cat\"")),
    "ptrace": lambda: made((1300, call(101)), (1318, b"opid=4800 oauid=1000 ouid=0 oses=3 ocomm=\"cat\"")),
    "an unknown call": lambda: made((1300, call(9999))),
    "module": lambda: made((1300, call(313)), (1330, b'name="dummy"')),
    "module without a name": lambda: made((1300, call(313))),
    "module taken out": lambda: made((1300, call(176)), (1330, b'name="dummy"')),
    "avc": lambda: made((1400, (b'avc:  denied  { read } for  pid=4711 comm="tool" name="x" dev="vda1" ino=7'
                               b" scontext=a:b:c:s0 tcontext=d:e:f:s0 tclass=file permissive=0")),
                        (1300, call(2, ok=False, code=-13)), CWD, (1302, path(0, "/etc/x", "NORMAL"))),
    "avc granted": lambda: made((1400, b'avc:  granted  { read } for  pid=4711 comm="tool"'), (1300, call(2)), CWD,
                                (1302, path(0, "/etc/x", "NORMAL"))),
    "apparmor": lambda: made((1400, b'apparmor="DENIED" operation="open" profile="p" name="/x" pid=4711 comm="tool"')),
    "seccomp": lambda: made((1326, (b"auid=1000 uid=0 gid=0 ses=3 subj=unconfined pid=4711 comm=\"tool\""
                                   b" exe=\"/usr/bin/tool\" sig=31 arch=c000003e syscall=101 compat=0 ip=0x7f"
                                   b" code=0x80000000"))),
    "abend": lambda: made((1701, b'auid=1000 uid=0 gid=0 ses=3 pid=4711 comm="tool" exe="/bin/tool" sig=11 res=1')),
    "login": lambda: made((1112, USER_LOGIN)),
    "login from six": lambda: made((1112, said(_FAKE))),
    "login of nobody": lambda: made((1112, said('op=login acct="(unknown)" exe="/usr/sbin/sshd" res=failed'))),
    "kernel's login": lambda: made((1006, (b"pid=4711 uid=0 subj=unconfined old-auid=4294967295 auid=1000 tty=(none)"
                                          b" old-ses=4294967295 ses=3 res=1")), (1300, call(1, code=4))),
    "auth": lambda: made((1100, said('op=PAM:authentication acct="eve" exe="/usr/bin/su" terminal=pts/0 res=failed'))),
    "session": lambda: made((1105, said('op=PAM:session_open acct="root" exe="/usr/bin/su" addr=? res=success'))),
    "session's end": lambda: made((1106, said('op=PAM:session_close acct="root" exe="/usr/bin/su" res=success'))),
    "logout": lambda: made((1113, said('op=logout id=1000 exe="/usr/sbin/sshd" addr=192.0.2.7 res=success'))),
    "command": lambda: made((1123, said('cwd="/root" cmd="id" exe="/usr/bin/sudo" terminal=pts/0 res=success'))),
    "user added": lambda: made((1114, said('op=adding user acct="bob" exe="/usr/sbin/useradd" res=success'))),
    "user added by number": lambda: made((1114, said('op=add-user id=1001 exe="/usr/sbin/useradd" res=success'))),
    "user removed": lambda: made((1115, said('op=delete-user id=1001 exe="/usr/sbin/userdel" res=success'))),
    "password": lambda: made((1108, said('op=change password acct="bob" exe="/usr/bin/passwd" res=success'))),
    "nobody's password": lambda: made((1108, said('op=change password exe="/usr/bin/passwd" res=failed'))),
    "account locked": lambda: made((1135, said('op=pam_faillock acct="bob" exe="/usr/bin/su" res=success'))),
    "group added": lambda: made((1116, said('op=add-group acct="ops" id=1002 exe="/usr/sbin/groupadd" res=success'))),
    "configuration": lambda: made((1305, b"op=set audit_enabled=1 old=1 auid=1000 ses=3 subj=unconfined res=1")),
    "rule added": lambda: made((1305, b'op=add_rule key="watch" list=4 res=1'), (1300, call(44, code=1084))),
    "firewall": lambda: made((1325, b"table=filter family=2 entries=4"), (1300, call(54))),
    "daemon": lambda: made((1200, (b"op=start ver=3.0.9 format=enriched kernel=6.1 auid=4294967295 pid=700 uid=0"
                                  b" ses=4294967295 subj=unconfined res=success"))),
    "service": lambda: made((1130, said('unit=cron comm="systemd" exe="/usr/lib/systemd/systemd" res=success', 1))),
    "boot": lambda: made((1127, said('comm="systemd-update-utmp" exe="/x" res=success'))),
    "integrity": lambda: made((1800, (b'pid=4711 uid=0 auid=1000 ses=3 op=appraise_data cause=invalid-hash'
                                     b' comm="tool" name="/bin/x" dev="vda1" ino=9 res=0'))),
    "a packet": lambda: made((1324, b"mark=0x1 saddr=192.0.2.7 daddr=198.51.100.9 proto=6 sport=40000 dport=22")),
    "packet over six": lambda: made((1324, b"mark=0x1 saddr=2001:db8::7 daddr=2001:db8::9 proto=17 sport=1 dport=53")),
    "a type without a name": lambda: made((1999, b"a=1 b=two")),
    "raw": lambda: made((1300, call(90)), CWD, (1302, path(0, "/bin/tool", "NORMAL")), raw=True),
    "no text": lambda: made((1300, call(87)), CWD, (1302, (b"item=0 name=2F746D702FFF0A1B5B3D7C5C inode=9 dev=fe:01"
                                                         b" mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=DELETE"))),
}  # fmt: skip
"""By what they are; of containers, of our own and of damage there are those of `sample_native`."""

ALL = cast("dict[str, Callable[[], NativeEvent]]", {**SAMPLES, **MADE})
