# SPDX-License-Identifier: Apache-2.0
"""Every setting, declared once.

From these rows derive the parsing of files (`files`), environment variables and options, `--help`, the
reference documentation, the manual pages, completion and the commented sample (tools/gen_docs.py). Owns names,
kinds, defaults and their words. Never reads anything.

A name is `section.key`: `[section]` and `key` in a file, AUDIT_ENRICHER_SECTION_KEY in the environment.
"""

from __future__ import annotations

from typing import Any, Final, Generic, NamedTuple, TypeVar

from enricher.config.kinds import Choice, Count, Duration, Flag, Kind, Name, Path, Size, Text, Words

T = TypeVar("T")

DIRECTORY: Final = "/etc/audit-enricher"
FILE: Final = f"{DIRECTORY}/audit-enricher.toml"

SECTIONS: Final = {
    "source": "where records and contexts come from",
    "metadata": "what runtimes know of containers: names, images, pods",
    "namespaces": "what is told of namespaces beside the events that rules ask for",
    "output": "the events that the service writes",
    "service": "how the service behaves",
    "journal": "what the service keeps for reading old audit logs: `replay --journal`",
    "control": "the control socket, for `status` and `follow`",
    "contid": "audit container identifiers that orchestrators set",
    "metrics": "figures of the service for Prometheus",
}


class Setting(NamedTuple, Generic[T]):
    """One row. `doc` is a sentence without its full stop: `--help` shows it as it is.

    `option` is the long option of the commands in `commands`, "" where it is set in files and environment only.
    With `live` a new value takes effect on a reload, without it after a restart.
    """

    name: str
    kind: Kind[T]
    default: T
    doc: str
    option: str = ""
    live: bool = False

    @property
    def section(self) -> str:
        """The table of a file it stands in."""
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        """Its key in that table."""
        return self.name.partition(".")[2]

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "AUDIT_ENRICHER_" + self.name.replace(".", "_").upper()


HOOK: Final = Setting(
    "source.hook",
    Choice("auto", "audit_log_end", "audit_log_end.part.0", "skb_queue_tail"),
    "auto",
    "the kernel function to attach to; auto chooses by what the kernel offers",
    "--hook",
)
LOADER: Final = Setting(
    "source.loader",
    Choice("auto", "libbpf", "bcc"),
    "auto",
    "how the programs are loaded: libbpf, or compiled on this host by bcc, which needs no BTF but the kernel's"
    " headers; auto is bcc where there is no BTF and bcc is installed, else libbpf",
    "--loader",
)
RING_MEMORY: Final = Setting(
    "source.ring_memory",
    Size(),
    32 << 20,
    "memory of all BPF rings together, at least 64K for each possible CPU",
    "--ring-memory",
)
RECEIVE_BUFFER: Final = Setting(
    "source.receive_buffer",
    Size(1 << 30),
    16 << 20,
    "memory for records that wait to be read; the kernel doubles it",
    "--receive-buffer",
)
METADATA: Final = Setting(
    "metadata.enabled",
    Flag(),
    default=True,
    doc="have names, images and pods of containers read from their runtimes' state files, by a process of its own",
)
LABELS: Final = Setting(
    "metadata.labels",
    Flag(),
    default=False,
    doc="labels too, at most 64 for each container; for plain runc and crun the annotations",
)
CHANGES: Final = Setting(
    "namespaces.changes",
    Choice("containers", "all", "none"),
    "containers",
    "which changes of namespaces are told as events of type NS_CHANGE though no rule asked for them: containers is"
    " those by tasks in a container, and entries into a container or the host",
    live=True,
)
LIVES: Final = Setting(
    "namespaces.lives",
    Flag(),
    default=False,
    doc="tell of each namespace that is made and freed, in events of type NS_INIT and NS_DEL",
    live=True,
)
OUTPUT_PATH: Final = Setting(
    "output.path",
    Path(),
    "/var/log/audit-enricher/events.json",
    "the file that events are written to",
    live=True,
)
OUTPUT_FORMAT: Final = Setting(
    "output.format",
    Choice("json", "text"),
    "json",
    "json: one event a line; text: the kernel's lines plus ours",
    live=True,
)
OUTPUT_RAW: Final = Setting(
    "output.raw", Flag(), default=False, doc="json: add each record's text as the kernel wrote it", live=True
)
OUTPUT_KEYS: Final = Setting(
    "output.keys",
    Words(),
    (),
    "only events with one of these audit keys, and those about losses and about the service; empty for all",
    live=True,
)
OUTPUT_TYPES: Final = Setting(
    "output.types",
    Words(),
    (),
    "only events with a record of one of these types, by name or number, and those about losses and about the"
    " service; empty for all",
    live=True,
)
OUTPUT_FILTER: Final = Setting(
    "output.filter",
    Text("EXPR"),
    "",
    'only events for which this holds, such as "where == container", and those about losses and about the service;'
    " empty for all. filters.md among the documents has the language",
    live=True,
)
OUTPUT_SKIP_SELF: Final = Setting(
    "output.skip_self",
    Flag(),
    default=False,
    doc="leave out events that this program itself caused",
    live=True,
)
ROTATE_SIZE: Final = Setting(
    "output.rotate_size", Size(), 64 << 20, "start a new file when this size is reached", live=True
)
ROTATE_KEEP: Final = Setting(
    "output.rotate_keep",
    Count(0),
    8,
    "how many older files to keep, as events.json.1 (the newest of them) and so on",
    live=True,
)
SEAL: Final = Setting(
    "output.seal",
    Flag(),
    default=False,
    doc="write seals between the events, by which the command verify shows that the file is as it was written",
    live=True,
)
SEAL_KEY: Final = Setting(
    "output.seal_key",
    Path(optional=True),
    "",
    "the file with the key of the seals, which the service replaces; empty: seals without a key",
    live=True,
)
WITHOUT_HOOK: Final = Setting(
    "service.without_hook",
    Choice("run", "refuse"),
    "run",
    "what to do on a kernel in which no hook can be used: run without namespaces, marked so on every event, or"
    " refuse to start",
)
DAEMON: Final = Setting(
    "service.daemon",
    Flag(),
    default=False,
    doc="be this host's audit daemon: records come through the slot that auditd has elsewhere, which the service takes"
    " only where it is free. operations.md among the documents says what that means",
)
JOURNAL: Final = Setting(
    "journal.enabled",
    Flag(),
    default=True,
    doc="keep the namespaces and the cgroup of every event in journal.sqlite in the state directory",
)
JOURNAL_SIZE: Final = Setting(
    "journal.max_size",
    Size(least=8 << 20),
    256 << 20,
    "the most that the journal takes on disk; the oldest events go first",
)
JOURNAL_AGE: Final = Setting(
    "journal.max_age",
    Duration(),
    30 * 86_400.0,
    "how long an event is kept in the journal",
)
SOCKET: Final = Setting(
    "control.socket",
    Path(107),  # sun_path, with a NUL behind it
    "/run/audit-enricher/control.sock",
    "the control socket",
)
GROUP: Final = Setting(
    "control.group",
    Name(),
    "audit-enricher",
    "the group that may use the control socket, beside root, and read the events' file",
)

CONTID: Final = Setting(
    "contid.enabled",
    Flag(),
    default=False,
    doc="keep audit container identifiers in the kernel, and listen for who sets them. The unit needs a drop-in for it:"
    " contid.md among the documents",
)
CONTID_SOCKET: Final = Setting(
    "contid.socket",
    Path(107),
    "/run/audit-enricher/contid.sock",
    "the socket through which container identifiers are set",
)
CONTID_GROUP: Final = Setting(
    "contid.group",
    Name(),
    "root",
    "the group that may use that socket, beside root. What they may do there the kernel decides",
)
METRICS_SOCKET: Final = Setting(
    "metrics.socket",
    Path(107, optional=True),
    "",
    "a Unix socket that answers GET /metrics, such as /run/audit-enricher/metrics.sock; the group of the control socket"
    " may use it",
)
METRICS_PORT: Final = Setting(
    "metrics.port",
    Count(0, 65535),
    0,
    "a TCP port on 127.0.0.1 and ::1 that answers GET /metrics, to any user of the host; 0 for none. The unit lets the"
    " service use no TCP: metrics.md among the documents has the drop-in",
)

SETTINGS: Final[tuple[Setting[Any], ...]] = (
    HOOK,
    LOADER,
    RING_MEMORY,
    RECEIVE_BUFFER,
    METADATA,
    LABELS,
    CHANGES,
    LIVES,
    OUTPUT_PATH,
    OUTPUT_FORMAT,
    OUTPUT_RAW,
    OUTPUT_KEYS,
    OUTPUT_TYPES,
    OUTPUT_FILTER,
    OUTPUT_SKIP_SELF,
    ROTATE_SIZE,
    ROTATE_KEEP,
    SEAL,
    SEAL_KEY,
    WITHOUT_HOOK,
    DAEMON,
    JOURNAL,
    JOURNAL_SIZE,
    JOURNAL_AGE,
    SOCKET,
    GROUP,
    CONTID,
    CONTID_SOCKET,
    CONTID_GROUP,
    METRICS_SOCKET,
    METRICS_PORT,
)
"""In the order of the documentation."""

BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
