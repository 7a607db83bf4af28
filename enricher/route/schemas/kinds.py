# SPDX-License-Identifier: Apache-2.0
"""What an event is called in each schema: its category, type, class and activity, by system call and record type.

Owns the tables of choice. Never looks at what else an event says, but for the few words that turn one kind into
another. A call or type that is not here is `CALL` or `OTHER`: told as such, with all it says.

The values are those that ECS 9.4 (event.category, event.type with the category's expected types) and OCSF 1.8
(activity_id of the class) allow; the tests hold the tables against both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from enricher.enrich.shape import Fields, NativeEvent


class Severity(NamedTuple):
    """One level in each schema that has some: OCSF severity_id, OTLP SeverityNumber and text, CEF 0 to 10."""

    ocsf: int
    ocsf_name: str
    otlp: int
    otlp_name: str
    cef: int


INFO: Final = Severity(1, "Informational", 9, "INFO", 2)
LOW: Final = Severity(2, "Low", 11, "INFO3", 4)
MEDIUM: Final = Severity(3, "Medium", 13, "WARN", 6)


class Kind(NamedTuple):
    """One kind of event. ``activity`` is OCSF's number in the class; 99 has the event's own word as its name."""

    name: str
    category: tuple[str, ...]
    types: tuple[str, ...]
    class_uid: int
    activity: int
    severity: Severity = INFO


PROCESS, FILE, EXTENSION, KERNEL, LOG = 1007, 1001, 1002, 1003, 1008
NETWORK, AUTHENTICATION, ACCOUNT = 4001, 3002, 3001

KINDS: Final = (
    Kind("exec", ("process",), ("start",), PROCESS, 1),
    Kind("fork", ("process",), ("start",), PROCESS, 1),
    Kind("exit", ("process",), ("end",), PROCESS, 2),
    Kind("signal", ("process",), ("change",), PROCESS, 99),
    Kind("trace", ("process",), ("access",), PROCESS, 99),
    Kind("identity", ("process",), ("change",), PROCESS, 5),
    Kind("namespace", ("process",), ("change",), PROCESS, 99),
    Kind("command", ("process",), ("info",), PROCESS, 99),
    Kind("open", ("file",), ("access",), FILE, 14),
    Kind("look", ("file",), ("access",), FILE, 8),
    Kind("write", ("file",), ("change",), FILE, 3),
    Kind("create", ("file",), ("creation",), FILE, 1),
    Kind("delete", ("file",), ("deletion",), FILE, 4),
    Kind("rename", ("file",), ("change",), FILE, 5),
    Kind("attributes", ("file",), ("change",), FILE, 6),
    Kind("permissions", ("file",), ("change",), FILE, 7),
    Kind("mount", ("file",), ("change",), FILE, 12),
    Kind("unmount", ("file",), ("change",), FILE, 13),
    Kind("connect", ("network",), ("connection", "start"), NETWORK, 1),
    Kind("accept", ("network",), ("connection", "start"), NETWORK, 1),
    Kind("listen", ("network",), ("info",), NETWORK, 7),
    Kind("send", ("network",), ("connection", "info"), NETWORK, 6),
    Kind("receive", ("network",), ("connection", "info"), NETWORK, 6),
    Kind("packet", ("network",), ("connection", "info"), NETWORK, 6),
    Kind("module-load", ("driver",), ("start",), EXTENSION, 1),
    Kind("module-unload", ("driver",), ("end",), EXTENSION, 2),
    Kind("login", ("authentication",), ("start",), AUTHENTICATION, 1),
    Kind("logout", ("authentication",), ("end",), AUTHENTICATION, 2),
    Kind("authenticate", ("authentication",), ("info",), AUTHENTICATION, 99),
    Kind("session-start", ("session",), ("start",), AUTHENTICATION, 1),
    Kind("session-end", ("session",), ("end",), AUTHENTICATION, 2),
    Kind("account-create", ("iam",), ("user", "creation"), ACCOUNT, 1),
    Kind("account-delete", ("iam",), ("user", "deletion"), ACCOUNT, 6),
    Kind("account-change", ("iam",), ("user", "change"), ACCOUNT, 99),
    Kind("account-lock", ("iam",), ("user", "change"), ACCOUNT, 9),
    Kind("account-unlock", ("iam",), ("user", "change"), ACCOUNT, 12),
    Kind("password", ("iam",), ("user", "change"), ACCOUNT, 3),
    Kind("group-create", ("iam",), ("group", "creation"), LOG, 99),
    Kind("group-delete", ("iam",), ("group", "deletion"), LOG, 99),
    Kind("group-change", ("iam",), ("group", "change"), LOG, 99),
    Kind("configuration", ("configuration",), ("change",), LOG, 99),
    Kind("daemon-start", ("process",), ("start",), LOG, 6),
    Kind("daemon-end", ("process",), ("end",), LOG, 7),
    Kind("daemon-rotate", ("process",), ("info",), LOG, 5),
    Kind("service-start", ("process",), ("start",), LOG, 99),
    Kind("service-end", ("process",), ("end",), LOG, 99),
    Kind("host-start", ("host",), ("start",), LOG, 99),
    Kind("host-end", ("host",), ("end",), LOG, 99),
    Kind("virtual", ("host",), ("change",), LOG, 99),
    Kind("software", ("package",), ("change",), LOG, 99),
    Kind("terminal", ("session",), ("info",), LOG, 99),
    Kind("integrity", ("file",), ("info",), LOG, 99),
    Kind("denial", ("intrusion_detection",), ("denied",), KERNEL, 99, LOW),
    Kind("anomaly", ("intrusion_detection",), ("info",), LOG, 99, MEDIUM),
    Kind("namespace-made", ("host",), ("change",), KERNEL, 1),
    Kind("namespace-freed", ("host",), ("change",), KERNEL, 3),
    Kind("container-id", ("configuration",), ("change",), LOG, 99),
    Kind("refused", ("intrusion_detection",), ("denied",), LOG, 99, LOW),
    Kind("loss", (), ("error",), LOG, 99, MEDIUM),
    Kind("notice", (), ("info",), LOG, 99),
    Kind("call", ("process",), ("info",), KERNEL, 4),
    Kind("other", (), ("info",), LOG, 99),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
CALL: Final = BY_NAME["call"]
OTHER: Final = BY_NAME["other"]

CALLS_OF: Final = {
    "exec": "execve execveat",
    "fork": "clone clone3 fork vfork",
    "exit": "exit exit_group",
    "signal": "kill tkill tgkill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo",
    "trace": "ptrace process_vm_readv process_vm_writev",
    "identity": "setuid setuid32 setreuid setreuid32 setresuid setresuid32 setfsuid setfsuid32 setgid setgid32"
    " setregid setregid32 setresgid setresgid32 setfsgid setfsgid32 setgroups setgroups32 capset",
    "namespace": "setns unshare",
    "open": "open openat openat2 open_by_handle_at",
    "look": "stat stat64 lstat lstat64 newfstatat fstatat64 statx access faccessat faccessat2 readlink readlinkat"
    " getxattr lgetxattr listxattr llistxattr statfs statfs64",
    "write": "truncate truncate64 ftruncate ftruncate64 fallocate",
    "create": "creat mkdir mkdirat mknod mknodat link linkat symlink symlinkat",
    "delete": "unlink unlinkat rmdir",
    "rename": "rename renameat renameat2",
    "attributes": "utime utimes utimensat utimensat_time64 futimesat file_setattr",
    "permissions": "chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown lchown32 fchownat setxattr"
    " lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat",
    "mount": "mount move_mount mount_setattr",
    "unmount": "umount umount2",
    "connect": "connect",
    "accept": "accept accept4",
    "listen": "bind",
    "send": "sendto sendmsg sendmmsg",
    "receive": "recvfrom recvmsg recvmmsg recvmmsg_time64",
    "module-load": "init_module finit_module",
    "module-unload": "delete_module",
}
TYPES_OF: Final = {
    "login": "LOGIN USER_LOGIN",
    "logout": "USER_LOGOUT",
    "authenticate": "USER_AUTH USER_ACCT CRED_ACQ CRED_DISP CRED_REFR CHUSER_ID CHGRP_ID GRP_AUTH DAC_CHECK",
    "session-start": "USER_START",
    "session-end": "USER_END",
    "account-create": "ADD_USER",
    "account-delete": "DEL_USER",
    "account-change": "USER_MGMT USER_ROLE_CHANGE ROLE_ASSIGN ROLE_REMOVE",
    "account-lock": "ACCT_LOCK",
    "account-unlock": "ACCT_UNLOCK",
    "password": "USER_CHAUTHTOK",
    "group-create": "ADD_GROUP",
    "group-delete": "DEL_GROUP",
    "group-change": "GRP_MGMT GRP_CHAUTHTOK",
    "command": "USER_CMD",
    "configuration": "CONFIG_CHANGE FEATURE_CHANGE USYS_CONFIG NETFILTER_CFG DAEMON_CONFIG DAEMON_RECONFIG"
    " MAC_POLICY_LOAD MAC_STATUS MAC_CONFIG_CHANGE USER_MAC_POLICY_LOAD USER_MAC_CONFIG_CHANGE USER_MAC_STATUS"
    " IPE_CONFIG_CHANGE IPE_POLICY_LOAD TIME_INJOFFSET TIME_ADJNTPVAL FS_RELABEL",
    "daemon-start": "DAEMON_START DAEMON_RESUME",
    "daemon-end": "DAEMON_END DAEMON_ABORT",
    "daemon-rotate": "DAEMON_ROTATE",
    "service-start": "SERVICE_START",
    "service-end": "SERVICE_STOP",
    "host-start": "SYSTEM_BOOT",
    "host-end": "SYSTEM_SHUTDOWN",
    "virtual": "VIRT_CONTROL VIRT_RESOURCE VIRT_MACHINE_ID VIRT_INTEGRITY_CHECK VIRT_CREATE VIRT_DESTROY"
    " VIRT_MIGRATE_IN VIRT_MIGRATE_OUT",
    "software": "SOFTWARE_UPDATE",
    "terminal": "TTY USER_TTY",
    "integrity": "INTEGRITY_DATA INTEGRITY_METADATA INTEGRITY_STATUS INTEGRITY_HASH INTEGRITY_PCR INTEGRITY_RULE"
    " INTEGRITY_EVM_XATTR INTEGRITY_POLICY_RULE INTEGRITY_USERSPACE",
    "denial": "AVC USER_AVC SELINUX_ERR USER_SELINUX_ERR SECCOMP APPARMOR_DENIED APPARMOR_KILL IPE_ACCESS"
    " LANDLOCK_ACCESS FANOTIFY",
    "anomaly": "ANOM_PROMISCUOUS ANOM_ABEND ANOM_LINK ANOM_CREAT ANOM_LOGIN_FAILURES ANOM_LOGIN_TIME"
    " ANOM_LOGIN_SESSIONS ANOM_LOGIN_ACCT ANOM_LOGIN_LOCATION ANOM_MAX_DAC ANOM_MAX_MAC ANOM_AMTU_FAIL"
    " ANOM_RBAC_FAIL ANOM_RBAC_INTEGRITY_FAIL ANOM_CRYPTO_FAIL ANOM_ACCESS_FS ANOM_EXEC ANOM_MK_EXEC ANOM_ADD_ACCT"
    " ANOM_DEL_ACCT ANOM_MOD_ACCT ANOM_ROOT_TRANS ANOM_LOGIN_SERVICE ANOM_LOGIN_ROOT ANOM_ORIGIN_FAILURES"
    " ANOM_SESSION RESP_ANOMALY RESP_ALERT RESP_KILL_PROC RESP_TERM_ACCESS RESP_ACCT_REMOTE RESP_ACCT_LOCK_TIMED"
    " RESP_ACCT_UNLOCK_TIMED RESP_ACCT_LOCK RESP_TERM_LOCK RESP_SEBOOL RESP_EXEC RESP_SINGLE RESP_HALT"
    " RESP_ORIGIN_BLOCK RESP_ORIGIN_BLOCK_TIMED RESP_ORIGIN_UNBLOCK_TIMED",
    "packet": "NETFILTER_PKT",
    "namespace": "NS_CHANGE",
    "namespace-made": "NS_INIT",
    "namespace-freed": "NS_DEL",
    "container-id": "CONTAINER_OP",
    "refused": "USER_REFUSED",
    "loss": "LOST",
    "notice": "NOTICE",
}
BY_CALL: Final = {call: BY_NAME[name] for name, calls in CALLS_OF.items() for call in calls.split()}
BY_TYPE: Final = {kind: BY_NAME[name] for name, types in TYPES_OF.items() for kind in types.split()}

_DENIAL: Final = BY_NAME["denial"]
_CREATE: Final = BY_NAME["create"]
_OPEN: Final = BY_NAME["open"]


def kind_of(native: NativeEvent, call: str) -> Kind:
    """Return the kind: what a record beside the system call says, else the call's, else the type's.

    `call` is the system call's name, "" without one.
    """
    created = False
    for record in native["records"]:
        found = BY_TYPE.get(record["type"])
        if found is not None and (found is not _DENIAL or _denied(record["fields"])):
            return found
        created = created or record["fields"].get("nametype") == "CREATE"
    if call:
        found = BY_CALL.get(call, CALL)
        return _CREATE if created and found is _OPEN else found
    if native["type"] == "SYSCALL":
        return CALL
    # With all records lost, or in an event of our own, the type is all there is.
    return OTHER if native["records"] else BY_TYPE.get(native["type"], OTHER)


def _denied(fields: Fields) -> bool:
    """Whether such a record tells of something that was refused, and not of what was let through or only noted."""
    words, state = fields.get("words"), fields.get("apparmor")
    if isinstance(state, str):
        return state in ("DENIED", "KILLED")
    if isinstance(words, list) and "granted" in words:
        return False
    if fields.get("RESP") == "allow":
        return False
    code = fields.get("CODE")
    return not (isinstance(code, str) and code.startswith(("log", "allow")))
