# SPDX-License-Identifier: Apache-2.0
"""Many kinds of records, of names and of system calls, from a real kernel: all joined, all read.

The workload is tests/suites/guest/variety; here is what each of its acts must make. Which kernel has what
is the kernel's own word: its symbols. The run's capture is kept for the tests that come after.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from enricher.correlate.join import BEFORE_START
from enricher.sources.audit.types import NAMES, is_user
from tests.suites.corpus import VARIED, keep
from tests.suites.guest.variety.acts import HOSTILE
from tests.suites.live import Account, Json, Live
from tests.suites.rules import Rules
from tests.suites.staging import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.vm.guest import Guest

pytestmark = pytest.mark.only_on(*VARIED)

ENOUGH, MANY_CALLS = 45, 120
AUID = 4242
_PROVOKE = ("python3", f"{SHARE}/guest/provoke.py")

ACTS: dict[str, str] = {
    "login": "LOGIN",
    "execve": "SYSCALL EXECVE CWD PATH PROCTITLE EOE",
    "names": "SYSCALL CWD PATH PROCTITLE EOE",
    "fd_pair": "SYSCALL FD_PAIR",
    "ipc": "SYSCALL IPC IPC_SET_PERM",
    "message_queue": "SYSCALL MQ_OPEN MQ_SENDRECV MQ_NOTIFY MQ_GETSETATTR",
    "signals": "SYSCALL OBJ_PID",
    "capabilities": "SYSCALL CAPSET BPRM_FCAPS",
    "mmaps": "SYSCALL MMAP",
    "openat2": "SYSCALL OPENAT2",
    "seccomp": "SECCOMP",
    "bpf": "SYSCALL BPF",
    "uring": "URINGOP",
    "abend": "ANOM_ABEND",
    "links": "ANOM_LINK ANOM_CREAT",
    "configuration": "CONFIG_CHANGE",
    "features": "FEATURE_CHANGE",
    "terminal": "TTY USER_TTY",
    "user_messages": "USER_AUTH USER_ACCT USER_MGMT CRED_ACQ CRED_DISP CRED_REFR USER_START USER_END USER_AVC"
    " USER_CHAUTHTOK USER_ERR USYS_CONFIG USER_LOGIN USER_LOGOUT ADD_USER DEL_USER ADD_GROUP DEL_GROUP"
    " USER_CMD CHUSER_ID SYSTEM_BOOT SYSTEM_SHUTDOWN SYSTEM_RUNLEVEL SERVICE_START SERVICE_STOP"
    " SOFTWARE_UPDATE ANOM_LOGIN_FAILURES RESP_ACCT_LOCK ROLE_ASSIGN CRYPTO_KEY_USER VIRT_CONTROL",
    "user_hostile": "USER USER_LOGIN",
    "listener": "EVENT_LISTENER",
    "fanotify": "SYSCALL FANOTIFY",
    "ia32": "SYSCALL SOCKETCALL",
    "sockets": "SYSCALL SOCKADDR",
    "netfilter_tables": "NETFILTER_CFG",
    "netfilter_packets": "NETFILTER_CFG NETFILTER_PKT",
    "promiscuous": "ANOM_PROMISCUOUS",
    "ipsec": "MAC_IPSEC_EVENT",
    "netlabel": "MAC_MAP_ADD MAC_MAP_DEL MAC_CIPSOV4_ADD MAC_CIPSOV4_DEL MAC_CALIPSO_ADD MAC_CALIPSO_DEL"
    " MAC_UNLBL_ALLOW MAC_UNLBL_STCADD MAC_UNLBL_STCDEL",
    "modules": "SYSCALL KERN_MODULE",
    "clock": "SYSCALL TIME_INJOFFSET TIME_ADJNTPVAL",
    "apparmor": "AVC",
    "landlock": "LANDLOCK_ACCESS LANDLOCK_DOMAIN",
    "integrity": "INTEGRITY_POLICY_RULE INTEGRITY_EVM_XATTR MAC_STATUS",
    "device_mapper": "DM_CTRL DM_EVENT",
    "files": "SYSCALL PATH CWD",
    "attributes": "SYSCALL PATH",
    "names_of_files": "SYSCALL PATH",
    "mounts": "SYSCALL PATH",
    "namespaces": "SYSCALL",
    "processes": "SYSCALL",
    "system": "SYSCALL",
    "sockets_of_all_families": "SYSCALL",
}
"""The types of records that an act must make, among others. Some kernels make an IPE_POLICY_LOAD of a policy that they
refuse; which ones no symbol tells.
"""

MADE_BY = {
    "OPENAT2": "__audit_openat2_how",
    "URINGOP": "__audit_uring_exit",
    "FANOTIFY": "__audit_fanotify",
    "LANDLOCK_ACCESS": "landlock_log_denial",
    "LANDLOCK_DOMAIN": "landlock_log_denial",
    "INTEGRITY_POLICY_RULE": "ima_parse_add_rule",
    "INTEGRITY_EVM_XATTR": "evm_write_xattrs",
    "MAC_STATUS": "ipe_audit_enforce",
    "DM_CTRL": "dm_audit_log_ti",
    "DM_EVENT": "dm_audit_log_bio",
}
"""The kernel's function behind a type that not every kernel makes: without it the type is not asked for."""

UNREADABLE = {"user_hostile"}
"""Acts whose records may be outside the grammar."""

_STATE = """
auditctl -l; auditctl -s | grep -E "^(enabled|failure|rate_limit|backlog_limit|loginuid_immutable) "
ls -A /var/tmp /dev/mqueue; ipcs; ip -o link; dmsetup ls; losetup -a; hostname; cat /proc/swaps
cat /sys/kernel/security/apparmor/profiles /proc/sys/kernel/printk; cat /sys/kernel/security/ipe/enforce 2>/dev/null
true
"""
"""What the workload has its hands on, in words that do not change by themselves."""


class Run(NamedTuple):
    """One finished run: its events, in order, each beside the act in which it was made."""

    said: str
    account: Account
    results: dict[str, str | None]
    events: list[tuple[str, Json]]
    symbols: set[str]
    capture: bytes
    states: tuple[str, str]

    def fields(self, act: str, kind: str) -> list[Json]:
        """The fields of an act's records of one type."""
        return [
            record["fields"]
            for name, event in self.events
            if name == act
            for record in event["records"]
            if record["type"] == kind
        ]

    def types(self, act: str | None = None) -> set[str]:
        """The types of the kernel's records, of one act or of all."""
        return {
            record["type"]
            for name, event in self.events
            if act in (None, name)
            for record in event["records"]
        }


def wide_rules() -> Iterator[tuple[str, ...]]:
    """Rules as hardening guides have them, and more, for the workload's login uid alone."""
    calls = {
        "exec": "execve,execveat",
        "files": "open,openat,openat2,creat,truncate,ftruncate,name_to_handle_at,open_by_handle_at,fallocate",
        "look": "access,faccessat,faccessat2,stat,lstat,newfstatat,statx,readlink,readlinkat,lseek,flock,fcntl",
        "perm": "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat",
        "xattr": "setxattr,lsetxattr,getxattr,removexattr,fsetxattr,fremovexattr,lremovexattr",
        "time-of-file": "utime,utimes,utimensat,futimesat",
        "delete": "unlink,unlinkat,rename,renameat,renameat2,rmdir",
        "make": "link,linkat,symlink,symlinkat,mkdir,mkdirat,mknod,mknodat,chdir,fchdir",
        "mounts": "mount,umount2,pivot_root,chroot,open_tree,fsopen,move_mount,mount_setattr,swapon,swapoff",
        "namespaces": "unshare,setns,clone,clone3,sethostname,setdomainname",
        "process": "kill,tkill,tgkill,rt_sigqueueinfo,ptrace,process_vm_readv,kcmp,pidfd_open"
        ",pidfd_send_signal,prctl,personality,seccomp",
        "limits": "setrlimit,prlimit64,setpriority,sched_setscheduler,sched_setaffinity,setpgid",
        "identity": "setuid,setgid,setreuid,setregid,setresuid,setresgid,setfsuid,setfsgid,setgroups,capset",
        "memory": "mmap,mprotect,mremap,mlock,memfd_create,userfaultfd",
        "sockets": "socket,socketpair,bind,connect,accept,accept4,listen,sendto,sendmsg,recvfrom,shutdown"
        ",setsockopt,getsockopt,pipe,pipe2",
        "ipc": "shmget,shmctl,semget,semctl,msgget,msgctl,mq_open,mq_unlink,mq_timedsend,mq_timedreceive"
        ",mq_notify,mq_getsetattr",
        "modules": "init_module,finit_module,delete_module,kexec_load,kexec_file_load",
        "clock": "adjtimex,clock_adjtime,settimeofday,clock_settime",
        "keys": "add_key,request_key,keyctl",
        "system": "bpf,perf_event_open,io_uring_setup,io_uring_enter,fanotify_init,fanotify_mark,syslog,acct"
        ",reboot,iopl,ioperm,quotactl,landlock_restrict_self",
    }
    everything = "socketcall,open,bind,socket,execve,exit"
    for key, names in calls.items():
        arguments = (word for name in names.split(",") for word in ("-S", name))
        yield (
            "-a",
            "always,exit",
            "-F",
            "arch=b64",
            *arguments,
            "-F",
            f"auid={AUID}",
            "-k",
            f"variety-{key}",
        )
    yield ("-a", "always,exit", "-F", "arch=b32", "-S", everything, "-F", f"auid={AUID}", "-k", "variety-32")


def perform(guest: Guest, rules: Rules) -> Run:
    """Run the program over all acts and return what it wrote."""
    before = _state(guest)
    for rule in wide_rules():
        rules.add(*rule)
    found = guest.run(["grep", "-q", " __audit_uring_exit$", "/proc/kallsyms"])
    audits_uring = found.returncode == 0
    if audits_uring:
        guest.run([*_PROVOKE, "uring-rule", "add"], check=True)
    with Live(guest, "--raw", "--receive-buffer", "64M", capture=True) as live:
        done = guest.run(["python3", "-m", "variety"], cwd=f"{SHARE}/guest", timeout=240, check=True)
        account = live.stop()
        events = live.events()
    if audits_uring:
        guest.run([*_PROVOKE, "uring-rule", "delete"], check=True)
    patterns = [word for name in set(MADE_BY.values()) for word in ("-e", name)]
    symbols = guest.run(["grep", "-owhF", *patterns, "/proc/kallsyms"]).stdout.decode().split()
    rules.clear()
    return Run(
        live.said,
        account,
        json.loads(done.stdout),
        list(_by_act(events)),
        set(symbols),
        guest.get(live.capture),
        (before, _state(guest)),
    )


def _state(guest: Guest) -> str:
    return guest.run(["sh", "-c", _STATE], check=True).stdout.decode()


def _by_act(events: list[Json]) -> Iterator[tuple[str, Json]]:
    """Each event of the run in the kernel's order, and the act in which it was made; the marks not included."""
    kernels = [
        event
        for event in events
        if event["records"] and BEFORE_START not in event["enrichment"].get("reason", "")
    ]
    current = ""
    for event in sorted(kernels, key=lambda event: int(event["id"].rpartition(":")[2])):
        said = event["records"][0]["fields"].get("msg")
        if event["type"] == "USER" and isinstance(said, dict) and said.get("op") == "variety":
            current = str(said["act"])
        else:
            yield current, event


@pytest.fixture(scope="module")
def variety(guest: Guest) -> Run:
    rules = Rules(guest)
    rules.clear()
    try:
        return perform(guest, rules)
    finally:
        rules.clear()


def test_every_act_makes_its_records(variety: Run) -> None:
    assert variety.results.keys() == ACTS.keys()
    wrong = {}
    for act, names in ACTS.items():
        expected = {name for name in names.split() if MADE_BY.get(name, "") in variety.symbols | {""}}
        if variety.results[act] is not None and expected:
            wrong[act] = variety.results[act]
        elif missing := expected - variety.types(act):
            wrong[act] = f"missing: {', '.join(sorted(missing))}"
    assert not wrong, "\n".join(f"{act}: {what}" for act, what in wrong.items())


def test_there_is_variety(guest: Guest, variety: Run, record_property: Callable[[str, object], None]) -> None:
    types = variety.types()
    calls = {
        record["fields"]["SYSCALL"]
        for _, event in variety.events
        for record in event["records"]
        if record["type"] == "SYSCALL" and "SYSCALL" in record["fields"]
    }
    kernels = {name for number, name in NAMES.items() if not is_user(number)} & types
    record_property("release", guest.version)
    record_property(
        "types", f"{len(types)}, of them {len(kernels)} the kernel's own; {len(calls)} system calls"
    )
    assert len(kernels) >= ENOUGH, sorted(types)
    assert len(calls) >= MANY_CALLS, sorted(calls)


def test_every_record_is_accounted_for(variety: Run) -> None:
    account = variety.account
    assert account.unmatched == 0, variety.said
    assert account.finished == account.delivered == account.joined
    assert account.malformed == 0
    assert account.balanced, variety.said
    assert account.incomplete == 0, [
        event["enrichment"] for _, event in variety.events if not event["enrichment"]["complete"]
    ]


def test_every_record_is_read(variety: Run) -> None:
    unread = [
        (act, record["type"], record["raw"])
        for act, event in variety.events
        for record in event["records"]
        if record.get("undecoded") and act not in UNREADABLE
    ]
    assert not unread, unread[:10]


def test_hostile_names_come_out_whole(variety: Run) -> None:
    """Every byte of an argument, of a file's name and of a comm is there, whatever the bytes are."""
    (arguments,) = [
        exact(fields, "ARGV")
        for fields in variety.fields("execve", "EXECVE")
        if len(fields.get("ARGV", ())) == len(HOSTILE) + 1
    ]
    assert arguments[1:] == list(HOSTILE)
    paths = {name for fields in variety.fields("names", "PATH") for name in exact(fields, "name")}
    assert set(HOSTILE) - paths == set()
    comms = {name for fields in variety.fields("names", "SYSCALL") for name in exact(fields, "comm")}
    assert {name[:15] for name in HOSTILE} - comms == set()
    keys = {
        key for fields in variety.fields("configuration", "CONFIG_CHANGE") for key in exact(fields, "key")
    }
    assert set(HOSTILE) - keys == set()


def exact(fields: Json, name: str) -> list[bytes]:
    """A field's values as the bytes that they were."""
    shown, in_hex = fields.get(name, []), fields.get(name + "_hex")
    if not isinstance(shown, list):
        shown, in_hex = [shown], [in_hex]
    pairs = zip(shown, in_hex or [None] * len(shown), strict=True)
    return [bytes.fromhex(digits) if digits else str(text).encode() for text, digits in pairs]


def test_long_command_lines_come_out_whole(variety: Run) -> None:
    """Those that take several EXECVE records: many arguments, and one that is long."""
    found = [exact(fields, "ARGV") for fields in variety.fields("execve", "EXECVE")]
    for arguments in (
        [b"%d" % number for number in range(3000)],
        [b"%04x" % number for number in range(600)],
        [b"long " + b"x" * 20000, b"short"],
        [b"long and not UTF-8 \xff" + b"y" * 20000],
        [b"", b"", b"empty before"],
    ):
        assert [b"truth-leaf", *arguments] in found


def test_nothing_is_left_behind(variety: Run) -> None:
    before, after = variety.states
    assert after == before


def test_nobody_is_made_up(variety: Run) -> None:
    """Names and messages that say `pid=1 uid=0 auid=0` do not become the subject's facts."""
    # The machine's own are among them: those of kernel threads have no subject, and systemd's is pid 1.
    theirs = [
        (act, event)
        for act, event in variety.events
        if event["enrichment"].get("subject") is not False
        and event.get("subject", {}).get("comm") != "systemd"
    ]
    subjects = Counter(
        (event["type"], event["subject"].get("pid"), event["subject"].get("auid"))
        for act, event in theirs
        if act in ("names", "execve", "user_hostile") and event["subject"].get("pid") in (0, 1)
    )
    assert not subjects
    hostile = [event for act, event in theirs if act == "user_hostile"]
    assert hostile
    assert all(event["subject"]["auid"] == AUID for event in hostile)


def test_it_is_kept(kernel: str, variety: Run) -> None:
    keep(f"variety-{kernel}", variety.capture)
