# SPDX-License-Identifier: Apache-2.0
"""Events of every shape that matters to a reader of audit text, to render and to let other tools read.

Owns lines written for this purpose: every value is invented, none was read from a system.
"""

from __future__ import annotations

from typing import Final

from enricher.enrich.surroundings import Surroundings
from enricher.enrich.users import USER
from enricher.facts import Extent, UserMap
from enricher.model import Context, ContextFlag, Event, Loss, Record
from tests.unit.sample_events import (
    BOX_INUMS,
    CWD,
    EXECVE,
    HOST,
    HOST_INUMS,
    PATHS,
    PROCTITLE,
    SYSCALL,
    USER_LOGIN,
    context,
)
from tests.unit.sample_facts import TIME, batch
from tests.unit.sample_facts import made as namespace_made

Records = tuple[tuple[int, bytes], ...]

_AVC: Final = (
    b'avc:  denied  { read } for  pid=4711 comm="ls" name="f" dev="vda1" ino=3 scontext=a:b:c:s0'
    b" tcontext=a:b:c:s0 tclass=file permissive=0"
)
_ARMOR: Final = (
    b'apparmor="DENIED" operation="open" profile="x" name="/f" pid=4711 comm="ls" requested_mask="r"'
    b' denied_mask="r" fsuid=0 ouid=0'
)
_LOGIN: Final = b"pid=4711 uid=0 old-auid=4294967295 auid=1000 tty=(none) old-ses=4294967295 ses=3 res=1"
_CONFIG: Final = b'auid=1000 ses=3 subj=unconfined op=add_rule key="exec" list=4 res=1'
_SECCOMP: Final = (
    b'auid=1000 uid=0 gid=0 ses=3 subj=unconfined pid=4711 comm="ls" exe="/usr/bin/ls" sig=31 arch=c000003e'
    b" syscall=59 compat=0 ip=0x7f0011223344 code=0x80000000"
)
_URING: Final = (
    b"uring_op=18 success=yes exit=0 items=1 ppid=4000 pid=4711 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0"
    b" sgid=0 fsgid=0 subj=unconfined key=(null)"
)
_FORGED: Final = b"type=SYSCALL msg=audit(1772366400.999:77): arch=c000003e syscall=59 success=yes exit=0"


def _user(said: bytes) -> bytes:
    return b"pid=4711 uid=0 auid=1000 ses=3 subj=unconfined msg='" + said + b"'"


_EXEC: Final = (
    *((1300, SYSCALL), (1309, EXECVE), (1307, CWD), (1302, PATHS[0]), (1302, PATHS[1])),
    *((1327, PROCTITLE), (1320, b"")),
)
_ENRICHED: Final = b'\x1dARCH=x86_64 SYSCALL=execve AUID="alice" UID="root"'

WITH_CONTEXT: Final[dict[str, Records]] = {
    "exec": _EXEC,
    "without EOE": _EXEC[:-1],
    "without PROCTITLE": (*_EXEC[:-2], _EXEC[-1]),
    "without both": _EXEC[:-2],
    "AVC and SYSCALL": ((1400, _AVC), *_EXEC),
    "AVC alone": ((1400, _AVC),),
    "two AVC": ((1400, _AVC), (1400, _ARMOR)),
    "AppArmor and SYSCALL": ((1400, _ARMOR), (1300, SYSCALL), (1327, PROCTITLE), (1320, b"")),
    "AVC and SYSCALL without EOE": ((1400, _AVC), (1300, SYSCALL), (1327, PROCTITLE)),
    "LOGIN alone": ((1006, _LOGIN),),
    "LOGIN and SYSCALL": ((1006, _LOGIN), (1300, SYSCALL), (1327, PROCTITLE), (1320, b"")),
    "CONFIG_CHANGE alone": ((1305, _CONFIG),),
    "CONFIG_CHANGE and SYSCALL": ((1305, _CONFIG), (1300, SYSCALL), (1327, PROCTITLE), (1320, b"")),
    "SOCKADDR": (
        (1300, SYSCALL),
        (1306, b"saddr=02000050C00002070000000000000000"),
        (1327, PROCTITLE),
        (1320, b""),
    ),
    "OBJ_PID": (
        (1300, SYSCALL),
        (1318, b'opid=9 oauid=-1 ouid=0 oses=-1 ocomm="sh"'),
        (1327, PROCTITLE),
        (1320, b""),
    ),
    "BPF alone": ((1334, b"prog-id=11 op=UNLOAD"),),
    "BPF and SYSCALL": ((1334, b"prog-id=11 op=LOAD"), (1300, SYSCALL), (1327, PROCTITLE), (1320, b"")),
    "NETFILTER_CFG and SYSCALL": (
        (1325, b'table=nat:1 family=2 entries=5 op=nft_register_gen pid=4711 subj=unconfined comm="nft"'),
        (1300, SYSCALL),
        (1327, PROCTITLE),
        (1320, b""),
    ),
    "TTY": ((1319, b'tty pid=4711 uid=0 auid=1000 ses=3 major=4 minor=1 comm="sh" data=6C730D'),),
    "KERNEL": ((2000, b"state=initialized audit_enabled=0 res=1"),),
    "only SYSCALL": ((1300, SYSCALL),),
    "SYSCALL and EOE": ((1300, SYSCALL), (1320, b"")),
    "SECCOMP": ((1326, _SECCOMP),),
    "io_uring's worker": ((1336, _URING), (1307, CWD), (1302, PATHS[0]), (1327, PROCTITLE), (1320, b"")),
    "NETFILTER_PKT": ((1324, b"mark=0x0 saddr=192.0.2.1 daddr=192.0.2.2 proto=6"),),
    "DM_EVENT": ((1339, b"module=verity op=corruption dev=254:0 sector=8 res=0"),),
    "no name for it yet": ((1345, b"pid=4711 x=y"),),
    "no name outside": ((1999, b"pid=4711 x=y"),),
    "USER": ((1005, _user(b"said by hand")),),
    "USER_LOGIN": ((1112, USER_LOGIN),),
    "USER_CMD": ((1123, _user(b'cwd="/root" cmd=6C73202D6C terminal=pts/0 res=success')),),
    "USER_AVC": (
        (1107, _user(b"avc:  denied  { send } for scontext=a tcontext=b tclass=dbus permissive=0")),
    ),
    "commas": ((1112, _user(b'op=a,b reason="x, y" acct=28756E6B6E6F776E29 res=failed')),),
    "a long message": ((1112, _user(b"op=x " + b"y" * 8000)),),
    "a long message with control characters": ((1112, _user(b"op=x\n" + b"type=z " * 1100)),),
    "MAC_STATUS": ((1404, b"enforcing=1 old_enforcing=0 auid=1000 ses=3"),),
    "LANDLOCK_ACCESS": ((1423, b'domain=1a2b3c4d5 blockers=fs.read_file path="/f" dev="vda1" ino=3'),),
    "ANOM_PROMISCUOUS": (
        (1700, b"dev=eth0 prom=256 old_prom=0 auid=1000 uid=0 gid=0 ses=3"),
        (1300, SYSCALL),
        (1327, PROCTITLE),
        (1320, b""),
    ),
    "ANOM_ABEND": ((1701, b'auid=1000 uid=0 gid=0 ses=3 pid=4711 comm="ls" exe="/usr/bin/ls" sig=11 res=1'),),
    "INTEGRITY_RULE": ((1805, b'file="/f" hash="sha256:00" ppid=1 pid=4711 auid=1000'),),
    "CRYPTO_KEY_USER": ((2404, _user(b"op=destroy kind=session fp=? res=success")),),
    "VIRT_CONTROL": ((2500, _user(b"op=start res=success")),),
    "names in hex": (
        (1300, SYSCALL.replace(b'comm="ls"', b"comm=6C730A22").replace(b'"exec"', b"0174010A")),
        (1309, b'argc=3 a0="sh" a1=2D63FF0A a2=""'),
        (1307, b"cwd=2F610A747970653D"),
        (1302, PATHS[0].replace(b'"/usr/bin/ls"', b"2F612062FF")),
        (1327, b"proctitle=" + b"6C730A" * 40),
        (1320, b""),
    ),
    "a long argument": (
        (1300, SYSCALL),
        (1309, b'argc=2 a0="cat" a1_len=6 a1[0]=616263'),
        (1309, b" a1[1]=646566"),
        (1327, PROCTITLE),
        (1320, b""),
    ),
    "a forged line": ((1112, _user(b"op=login\n" + _FORGED)),),
    "forged after a carriage return": ((1112, _user(b"op=login\r" + _FORGED + b"\r\n")),),
    "a forged record of ours": (
        (1005, _user(b'x\ntype=UNKNOWN[1390] msg=audit(1772366400.999:77): pid="1"')),
    ),
    "forged without a newline": ((1005, _user(b"x' " + _FORGED + b" msg='")),),
    "controls": ((1112, _user(b"op=a\x00b\x1b[2Jc\x7fd\x1de\tf res=success")),),
    "C1 controls": ((1112, _user("op=a\x9b2Jb\x85c é res=success".encode() + b"\x9d\xff")),),
    "no words": ((1112, b""),),
    "quotes": ((1112, _user(b'op="a\' b" c=\' d="')),),
    "a device's name": ((1700, b"dev=a\x01\x1db prom=256 old_prom=0 auid=1000 uid=0 gid=0 ses=3"),),
}
"""Records by what is to be seen in them; each is an event with a context."""

CUT: Final[dict[str, Records]] = {
    "in hex": ((1300, SYSCALL), (1309, b'argc=2 a0="ls" a1=2D6C6'), (1327, PROCTITLE), (1320, b"")),
    "in quotes": ((1300, SYSCALL), (1307, b'cwd="/ro'), (1327, PROCTITLE), (1320, b"")),
    "in a message": ((1112, _user(b'op=login acct="ro')[:-1]),),
    "in a long message": ((1112, _user(b"op=x " + b"y" * 17000)[:16400]),),
    "before a value": ((1300, SYSCALL), (1302, PATHS[0][:60]), (1327, PROCTITLE), (1320, b"")),
}
"""Events with a record whose end is missing: the second one, or the only one."""


_USER_NS: Final = 4026532400
_ROOTLESS: Final = (Extent(0, 0, 1), Extent(1, 100000, 65536))

INSIDE: Final = (
    *(
        "exec",
        "without EOE",
        "without both",
        "AVC and SYSCALL",
        "AVC alone",
        "LOGIN alone",
        "SOCKADDR",
        "USER_LOGIN",
    ),
    *("io_uring's worker", "names in hex", "a forged line"),
)
"""Those that also come from somebody in a user namespace of his own: a line of ours tells who he is there."""


def surroundings() -> Surroundings:
    """What is known beside the events: the numbers of that user namespace."""
    around = Surroundings(HOST)
    told = UserMap(
        TIME - 1, _USER_NS, 1, 1000, 1000, (HOST_INUMS[USER],), (0, 0), _ROOTLESS, _ROOTLESS, whole=True
    )
    around.learn(batch(namespace_made("user", _USER_NS, 1_300), told))
    return around


class Maker:
    """Makes events with stamps that rise."""

    def __init__(self) -> None:
        self._serial = 5000

    def stamp(self) -> bytes:
        self._serial += 1
        return b"17723664%02d.%03d:%d" % (self._serial // 1000, self._serial % 1000, self._serial)

    def event(self, records: Records, of: Context | None) -> Event:
        made = Event(self.stamp(), 0.0)
        made.records = [Record(number, b"audit(%b): %b" % (made.stamp, body)) for number, body in records]
        made.context = of
        made.complete = True
        return made


def events() -> list[Event]:
    """All of them, in the order of their stamps; each a shape that a run writes."""
    maker = Maker()
    box = context(inums=BOX_INUMS, ids=(7, *(0,) * 9), levels=((4026531836, 4711), (4026532260, 7)))
    made = [maker.event(records, box) for records in WITH_CONTEXT.values()]
    for records in WITH_CONTEXT.values():
        made.append(maker.event(records, None))
        made[-1].complete, made[-1].reason = False, "no context: the ring was full"
    for records in CUT.values():
        made.append(maker.event(records, box))
        place = min(1, len(records) - 1)
        cut = made[-1].records[place]
        made[-1].records[place] = Record(cut.type, cut.text, truncated=True)
    made.append(maker.event(_EXEC, context(flags=ContextFlag.KTHREAD)))
    made.append(maker.event(_EXEC, context(pid=5)))
    made.append(maker.event((), box))
    made.append(maker.event(_EXEC, box))
    made[-1].self_caused = True
    rootless = context(inums=(*BOX_INUMS[:USER], _USER_NS, *BOX_INUMS[USER + 1 :]))
    made += [maker.event(WITH_CONTEXT[name], rootless) for name in INSIDE]
    made += _in_parts(maker, box)
    made += _from_log(maker)
    return made


def _in_parts(maker: Maker, of: Context) -> list[Event]:
    """One event whose last records came when it had been given out."""
    first = maker.event(_EXEC[:3], of)
    first.complete, first.reason = False, "records lost between kernel and reader"
    further = Event(first.stamp, 0.0)
    further.records = [Record(number, b"audit(%b): %b" % (first.stamp, body)) for number, body in _EXEC[3:]]
    further.context, further.part = of, 2
    further.complete, further.reason = False, "earlier records of this event were given out before"
    return [first, further]


def _from_log(maker: Maker) -> list[Event]:
    """As `process` makes them: nobody counted, and auditd may have appended names."""
    made = [
        maker.event(((1300, SYSCALL + _ENRICHED), (1327, PROCTITLE), (1320, b"")), None),
        maker.event(((1112, USER_LOGIN + b'\x1dUID="root" AUID="alice"'),), None),
        maker.event(((1112, _user(b"op=x" + _ENRICHED) + b'\x1dUID="root"'),), None),
        maker.event(_EXEC, None),
    ]
    for event in made:
        event.complete, event.reason = None, "from a log"
    made[-1].node = b"web2"
    return made


def losses() -> list[Event]:
    """Events of our own."""
    told = (
        Loss("netlink", "netlink", 12, "records", 9001, 9004, ((1300, 5), (1999, 7))),
        Loss("ring", "ring", 3, "messages", None, None, ()),
    )
    made = []
    for number, loss in enumerate(told, start=1):
        event = Event(b"1772366409.%03d:0" % number, 0.0)
        event.loss, event.own_id, event.complete = loss, f"1a2b3c4d/{number}", True
        made.append(event)
    return made


def malformed() -> list[Event]:
    """Records that the kernel, or who wrote the log, did not begin as such."""
    made = []
    for number, record in enumerate(
        ((0, b"no record: " + _FORGED), (1300, b'arch=c000003e comm="\n' + _FORGED))
    ):
        event = Event(b"1772366409.50%d:0" % number, 0.0)
        event.records = [Record(*record)]
        event.malformed = True
        event.reason = "the record does not start with audit(SEC.MS:SERIAL)"
        made.append(event)
    return made
