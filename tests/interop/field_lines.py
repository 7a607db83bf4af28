# SPDX-License-Identifier: Apache-2.0
"""Records of every kind, and system calls with many arguments, to lay our reading beside auparse's.

Owns lines written for this purpose: every value is invented, none was read from a system.
"""

# ruff: noqa: E501 - a record is one line

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enricher.enrich.interpret_args import Arguments
from enricher.enrich.tables.syscalls import BY_ARCH
from enricher.sources.names import NoNames

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORDS: Final = """\
SYSCALL arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=55d2a9e4c310 a2=80241 a3=1b6 items=2 ppid=4000 pid=4711 auid=4294967295 uid=0 gid=0 euid=1 suid=12345 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=4294967295 comm="ls" exe="/usr/bin/ls" subj=unconfined key="exec"
PATH item=0 name="/usr/bin/ls" inode=1835 dev=fe:01 mode=0104755 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=2000 cap_fe=1 cap_fver=2 cap_frootid=0
PROCTITLE proctitle=6C73002D6C61002F746D70
EXECVE argc=3 a0="ls" a1=2D6C61 a2="/tmp" a3=41FF0A a4_len=10 a4[0]="x" a4[1]=4142
SOCKADDR saddr=020000507F0000010000000000000000
SECCOMP auid=1000 uid=0 gid=0 ses=1 subj=x pid=1 comm="x" exe="/x" sig=31 arch=c000003e syscall=59 compat=0 ip=0x7f code=0x80000000
USER_LOGIN pid=4711 uid=0 auid=1000 ses=3 subj=unconfined msg='op=login acct="root" id=0 exe="/usr/sbin/sshd" hostname=? addr=192.0.2.7 terminal=ssh res=failed'
USER_LOGIN pid=4711 uid=0 auid=1000 ses=3 subj=unconfined msg='op=login acct=726F6F74 res=1'
MMAP fd=3 flags=0x22
CONFIG_CHANGE auid=1000 ses=1 op=add_rule key="x" list=4 res=1
NETFILTER_PKT mark=0x0 saddr=10.0.0.1 daddr=10.0.0.2 proto=6
NETFILTER_CFG table=filter family=2 entries=4 op=xt_replace pid=1 comm="iptables"
CAPSET pid=1 cap_pi=0 cap_pp=3fffffffff cap_pe=1fffffffff cap_pa=0
BPRM_FCAPS fver=2 fp=2000 fi=0 fe=1 old_pp=0 old_pi=0 old_pe=0 old_pa=0 pp=2000 pi=0 pe=2000 pa=0 frootid=0
FANOTIFY resp=2 fan_type=1 fan_info=3137 subj_trust=3 obj_trust=5
OPENAT2 oflag=0100102 mode=0600 resolve=0xa
URINGOP uring_op=18 success=yes exit=0 items=1 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 subj=x key=(null)
BPF prog-id=3 op=LOAD
TIME_ADJNTPVAL op=freq old=0 new=1
MQ_OPEN oflag=0x42 mode=0600 mq_flags=0x0 mq_maxmsg=1 mq_msgsize=3 mq_curmsgs=0
IPC ouid=0 ogid=0 mode=0600
TTY tty pid=1 uid=0 auid=0 ses=1 major=4 minor=1 comm="bash" data=6C730D
ANOM_PROMISCUOUS dev=eth0 prom=256 old_prom=0 auid=0 uid=0 gid=0 ses=1
ANOM_ABEND auid=0 uid=0 gid=0 ses=1 pid=1 comm="x" exe="/x" sig=11 res=1
FEATURE_CHANGE feature=loginuid_immutable old=0 new=1 old_lock=0 new_lock=1 res=1
LOGIN pid=1 uid=0 old-auid=4294967295 auid=0 tty=(none) old-ses=4294967295 ses=1 res=1
KERN_MODULE name="dummy"
SOCKETCALL nargs=3 a0=2 a1=1 a2=0
OBJ_PID opid=1 oauid=0 ouid=0 oses=1 obj=x ocomm="x"
AVC avc:  denied  { read } for  pid=7 comm="x" name="f" dev="sda1" ino=3 scontext=a:b:c:s0 tcontext=a:b:c:s0 tclass=file permissive=0
AVC apparmor="DENIED" operation="open" profile="x" name="/f" pid=3 comm="c" requested_mask="r" denied_mask="r" fsuid=0 ouid=0 capability=21 capname="sys_admin" family="inet" sock_type="stream" protocol=6
CONFIG_CHANGE op=set audit_enabled=1 old=0 auid=4294967295 ses=4294967295 res=1
EVENT_LISTENER pid=1 uid=0 auid=0 tty=(none) ses=1 comm="x" exe="/x" nl-mcgrp=1 op=connect res=1
DM_CTRL module=crypt op=ctr ppid=1 pid=1 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm="x" exe="/x" subj=x dev=254:0 error_msg='success' res=1
INTEGRITY_DATA pid=1 uid=0 auid=0 ses=1 subj=x op=appraise_data cause=missing-hash comm="x" name="/x" dev="sda" ino=3 res=0 errno=-13
IPC_SET_PERM qbytes=0 ouid=0 ogid=0 mode=0600
MQ_SENDRECV mqdes=3 msg_len=1 msg_prio=0 abs_timeout_sec=0 abs_timeout_nsec=0
MQ_NOTIFY mqdes=3 sigev_signo=10
MQ_GETSETATTR mqdes=3 mq_flags=0x800 mq_maxmsg=1 mq_msgsize=1 mq_curmsgs=0
FD_PAIR fd0=3 fd1=4
MAC_IPSEC_EVENT op=SPD-add auid=0 ses=1 subj=x res=1 src=1.2.3.4 dst=1.2.3.5
ANOM_LINK op=linkat ppid=1 pid=2 auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=x ses=1 comm="x" exe="/x" res=0
SYSCALL arch=c000003e syscall=59 success=no exit=-13 a0=1 a1=2 a2=3 a3=4 items=0 ppid=1 pid=2 auid=4294967295 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=4294967295 comm=6120FF62 exe="/bin/a" subj=unconfined key=(null)
SYSCALL arch=c000003e syscall=0 success=no exit=-512 a0=1 a1=2 a2=3 a3=4 items=0
SYSCALL arch=c000003e syscall=1073741883 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0
SYSCALL arch=c000003e syscall=1073742344 success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=0
SYSCALL arch=c000003e syscall=-1 per=8 success=no exit=-38 a0=1 a1=2 a2=3 a3=4 items=0
SYSCALL arch=c000003e syscall=39 per=40008 success=yes exit=3 a0=1 a1=2 a2=3 a3=4 items=0
SYSCALL arch=c00000f3 syscall=56 success=no exit=-2 a0=1 a1=2 a2=3 a3=4 items=0
SYSCALL arch=c000003e syscall=16 success=yes exit=0 a0=1 a1=80045430 a2=3 a3=4 items=0
SYSCALL arch=c000003e syscall=1 success=yes exit=140077777 a0=1 a1=80045430 a2=3 a3=4 items=0
SYSCALL arch=40000003 syscall=102 success=no exit=-111 a0=3 a1=bf0 a2=3 a3=4 items=0
SYSCALL arch=40000003 syscall=117 success=yes exit=0 a0=17 a1=0 a2=1000 a3=1b6 items=0
EXECVE argc=3 a0="sh" a1=2D63FF0A a2=""
EXECVE argc=2 a0="cat" a1_len=6 a1[0]="abc" a1[1]=646566
SOCKADDR saddr=0A000009000000070000000000000000000000000000000103000000
SOCKADDR saddr=01002F746D702FFFFF7300
SOCKADDR saddr=01002F72756E2F782E736F636B00
SOCKADDR saddr=0100006162737472616374
SOCKADDR saddr=0100000000
SOCKADDR saddr=0100
SOCKADDR saddr=0200
SOCKADDR saddr=100000000000000001000000
SOCKADDR saddr=110000030100000000000000000000005806A600
SOCKADDR saddr=28000000D20400000200000000000000
SOCKADDR saddr=0900616263646566
SOCKADDR saddr=63000102030405060708090A0B0C0D0E
PATH item=0 name=(null) inode=7 dev=00:05 mode=0140777 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=? cap_fi=? cap_fe=? cap_fver=? cap_frootid=?
PATH item=1 name=2F612062 inode=7 dev=00:05 mode=041777 ouid=33 ogid=33 rdev=00:00 nametype=CREATE cap_fp=1ffffffffff cap_fi=0 cap_fe=1 cap_fver=2 cap_frootid=0
PATH item=2 name="n" inode=7 dev=00:05 mode=020666 ouid=4242424 ogid=4242424 rdev=01:03 nametype=DELETE cap_fp=30000000000 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0
OPENAT2 oflag=0200000 mode=00 resolve=0x14
SECCOMP auid=0 uid=0 gid=0 ses=1 subj=x pid=1 comm="x" exe="/x" sig=0 arch=c000003e syscall=39 compat=0 ip=0x7f code=0x7ffc0000
SECCOMP auid=0 uid=0 gid=0 ses=1 subj=x pid=1 comm="x" exe="/x" sig=0 arch=c00000b7 syscall=172 compat=0 ip=0x7f code=0x7fc00000
OBJ_PID opid=1 oauid=-1 ouid=0 oses=-1 obj=x ocomm="x"
MAC_MAP_ADD netlabel: auid=0 ses=1 subj=x nlbl_domain=(default) nlbl_protocol=unlbl res=1
AVC apparmor="STATUS" operation="profile_load" profile="unconfined" name="a b" pid=3 comm="c" info="not a word"
MMAP fd=3 flags=0x100003
MMAP fd=-1 flags=0x8022
ADD_GROUP pid=1 uid=0 auid=0 ses=1 subj=x msg='op=add-group id=33 exe="/usr/sbin/groupadd" hostname=h addr=? terminal=pts/0 res=success'
ADD_USER pid=1 uid=0 auid=0 ses=1 subj=x msg='op=add-user id=33 exe="/usr/sbin/useradd" hostname=h addr=? terminal=pts/0 res=success'
USER_CMD pid=1 uid=0 auid=0 ses=1 subj=x msg='cwd="/" cmd=6C73202D6C exe="/usr/bin/sudo" terminal=pts/0 res=success'
CONFIG_CHANGE auid=0 ses=1 op=add_rule key="x" list=7 res=1
CWD cwd="/root"
CWD cwd=2F617F0162
LANDLOCK_DOMAIN domain=1bdfb2ecd status=allocated mode=enforcing pid=475 uid=0 exe="/usr/bin/x" comm="x"
USER_LOGIN pid=1 uid=0 auid=0 ses=1 subj=x msg='op=login exe=fade res=success'
USER_LOGIN pid=1 uid=0 auid=0 ses=1 subj=x msg='acct="not closed'
USER_LOGIN pid=1 uid=0 auid=0 ses=1 subj=x msg='pid=1 uid=0 auid=0 ses=1 msg='op=login res=success''
TRUSTED_APP pid=1 uid=0 auid=0 ses=1 subj=x msg='op=PAM:x exe="/usr/bin/x" hostname=? addr=? terminal=x res=success'
CONFIG_CHANGE auid=0 ses=1 subj=x op=add_rule key=011D7F list=4 res=1
SYSCALL arch=c000003e syscall=54 success=yes exit=0 a0=4 a1=0 a2=40 a3=0 items=0
SECCOMP auid=0 uid=0 gid=0 ses=1 subj=x pid=1 comm="x" exe="/x" sig=9 arch=c000003e syscall=39 compat=0 ip=0x7f code=0x0
"""

_ARGUMENTS: Final = (
    *range(12),
    *(
        0x11,
        0x20,
        0x22,
        0x29,
        0x40,
        0x64,
        0x80,
        0x100,
        0x107,
        0x1A4,
        0x200,
        0x402,
        0x406,
        0x409,
        0x1000,
        0x2000,
    ),
    *(
        0x4000,
        0x4201,
        0x4206,
        0x8000,
        0x10000,
        0x20000,
        0x80241,
        0x80801,
        0x101042,
        0x410041,
        0x2000000,
        0x8000000,
    ),
    *(0x1200011, 0x40000000, 0x7C020000, 0x80000000, 0xC0ED0001, 0xFFFFFF9C, 0xFFFFFFFFFFFFFF9C, 0x100000000),
)


def lines() -> Iterator[str]:
    """Yield the lines of a log; each is an event of its own."""
    bodies = [line.partition(" ") for line in _RECORDS.splitlines()]
    for serial, (record_type, _, body) in enumerate((*bodies, *_calls()), start=1):
        yield f"type={record_type} msg=audit(1772366400.{serial % 1000:03d}:{serial}): {body}"


def _calls() -> Iterator[tuple[str, str, str]]:
    """Every call of which either of us could name an argument, with the same value in all four places."""
    known = Arguments(NoNames())
    for arch in ("c000003e", "40000003", "c00000b7", "40000028"):
        for number, name in enumerate(BY_ARCH[arch]):
            if name == "-":
                continue
            # One value for calls without a meaning to us: auparse may have one.
            values = _ARGUMENTS if known.of(arch, number).arguments else _ARGUMENTS[1:40:13]
            for value in values:
                words = " ".join(f"a{place}={value:x}" for place in range(4))
                yield "SYSCALL", " ", f"arch={arch} syscall={number} success=yes exit=0 {words} items=0"
