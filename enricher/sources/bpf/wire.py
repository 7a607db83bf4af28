# SPDX-License-Identifier: Apache-2.0
"""Decodes the messages of ``bpf/include/events.h``.

Owns the table of what user space believes the layout to be, from which both the decoder and the
check against the object's BTF derive (``layout.py``), so that the two cannot drift apart. Never
touches a map or a ring.
"""

from __future__ import annotations

import struct
from typing import Final

from enricher.messages import Context, Level, Tally
from enricher.model import KINDS, CgroupChange, CgroupOp
from enricher.sources.bpf import fixed
from enricher.sources.contid import DEPTH_MAX, UNSET

EVENT_VERSION: Final = 1
EVENT_CONTEXT: Final = 1
EVENT_TALLY: Final = 2
EVENT_CGROUP: Final = 3
EVENT_WALK: Final = 4

LEVELS_INLINE: Final = 4
LEVELS_MAX: Final = 33
TALLY_RUNS: Final = 32
CGROUP_PATH: Final = 1024
WALK_DEPTH: Final = 16
WALK_NAME: Final = 128

Fields = tuple[tuple[str, str], ...]

HEADER: Fields = (("header.type", "H"), ("header.version", "H"), ("header.size", "I"), ("header.time", "Q"))
STAMP: Fields = (("stamp.sec", "Q"), ("stamp.ms", "I"), ("stamp.serial", "I"))

CONTEXT_FIELDS: Final[Fields] = (
    *HEADER,
    *STAMP,
    ("record_type", "H"),
    ("flags", "H"),
    ("missing", "I"),
    ("pid", "I"),
    ("tid", "I"),
    ("ppid", "I"),
    ("auid", "I"),
    ("ses", "I"),
    ("levels", "I"),
    ("start", "Q"),
    ("cgroup_id", "Q"),
    ("comm", "16s"),
    ("inum", f"{len(KINDS)}I"),
    ("unique", f"{len(KINDS)}Q"),
)
LEVEL_FIELDS: Final[Fields] = (("ns", "I"), ("pid", "I"))
TALLY_FIELDS: Final[Fields] = (*HEADER, *STAMP, ("records", "I"), ("flags", "H"), ("runs", "H"))
RUN_FIELDS: Final[Fields] = (("type", "H"), ("count", "H"))

CGROUP_FIELDS: Final[Fields] = (*HEADER, ("id", "Q"), ("op", "H"), ("size", "H"), ("pad", "I"))
WALK_FIELDS: Final[Fields] = (*HEADER, ("id", "Q"), ("depth", "H"), ("whole", "H"), ("pad", "I"))

CONTID_FIELDS: Final[Fields] = (("depth", "I"), ("pad", "I"), ("chain", f"{DEPTH_MAX}Q"))

COUNTERS: Final = (
    "records",
    "contexts",
    "standalone",
    "tallies",
    "orphans",
    "drop_context",
    "drop_tally",
    "fail_ring",
    "fail_buffer",
    "fail_text",
    "fail_stamp",
    "fail_type",
    "fail_track",
    "fail_list",
    "fail_nsproxy",
    "fail_namespace",
    "fail_pids",
    "queue_other",
    "fail_queue_unknown",
    "counted",
    "uncounted",
    "lost_rate_limit",
    "lost_backlog",
    "lost_memory",
    "lost_queue",
    "lost_other",
    "cgroups",
    "drop_cgroup",
    "fail_cgroup",
    "facts",
    "drop_fact",
    "drop_namespace",
    "drop_users",
    "limited_change",
    "limited_refused",
    "fail_acts",
    "fail_users",
    "fail_packet",
)
"""Names of ``struct counters`` in order; each is a u64."""
COUNTERS_SIZE: Final = 40 * 8


def packed(fields: Fields) -> struct.Struct:
    """What unpacks these fields."""
    # "=": native byte order, no padding of struct's own. The C side has explicit padding only.
    return struct.Struct("=" + "".join(code for _, code in fields))


def _without(fields: Fields, names: frozenset[str]) -> struct.Struct:
    """What unpacks these fields but for those of these names."""
    codes = [f"{struct.calcsize('=' + code)}x" if name in names else code for name, code in fields]
    return struct.Struct("=" + "".join(codes))


_CONTEXT = packed(CONTEXT_FIELDS)
_NUMBERS = CONTEXT_FIELDS[-2:]
_unpack_numbers = packed(_NUMBERS).unpack
_TALLY = packed(TALLY_FIELDS)
_CGROUP = packed(CGROUP_FIELDS)
_WALK = packed(WALK_FIELDS)
_LEVEL = packed(LEVEL_FIELDS)
_unpack_stamp = packed(STAMP).unpack_from
_STAMP_SIZE = packed(STAMP).size
_CONTEXT_SIZE = _CONTEXT.size
_LEVEL_SIZE = _LEVEL.size
_KEYS: Final = 8192
"""Sets of namespaces whose numbers are remembered. Beyond, all are forgotten."""
_STAMPS: Final = 64
"""Stamps that are remembered: a count comes soon after the context of its event. Beyond, all are forgotten."""
_RUNS: Final = 1024
"""Runs of record types that are remembered: events of one kind have the same. Beyond, all are forgotten."""
_known_runs: dict[bytes, tuple[tuple[int, int], ...]] = {}
_COMMS: Final = 1024
"""Names of tasks that are remembered, without what stands behind them. Beyond, all are forgotten."""
_known_comms: dict[bytes, bytes] = {}
_known_numbers: dict[bytes, tuple[bytes, tuple[int, ...], tuple[int, ...]]] = {}
_known_stamps: dict[bytes, bytes] = {}
_SIZE = struct.Struct("=I")
_CONTID = packed(CONTID_FIELDS)
_RUN = packed(RUN_FIELDS)
_runs_in = _RUN.iter_unpack
_TALLY_SIZE = _TALLY.size
_RUN_SIZE = _RUN.size

_MOST_LEVELS, _MOST_RUNS = LEVELS_MAX, TALLY_RUNS
_AT_STAMP = packed(HEADER).size
_AT_NUMBERS = _CONTEXT_SIZE - packed(_NUMBERS).size
_AT_COMM = _AT_NUMBERS - packed(CONTEXT_FIELDS[-3:-2]).size
_STAMP_NAMES = {name for name, _ in STAMP}
_unpack_context = _without(
    CONTEXT_FIELDS[:-3], frozenset({"header.type", "header.version", "missing", *_STAMP_NAMES})
).unpack_from
_unpack_level = _LEVEL.unpack_from
_unpack_tally = _without(
    TALLY_FIELDS, frozenset({"header.type", "header.version", "header.size", *_STAMP_NAMES})
).unpack_from

SIZES: Final = {
    "context_event": _CONTEXT.size + 8 * LEVELS_INLINE,
    "context_deep_event": _CONTEXT.size + 8 * LEVELS_MAX,
    "context_contid_event": _CONTEXT.size + 8 * LEVELS_INLINE + _CONTID.size,
    "context_deep_contid_event": _CONTEXT.size + 8 * LEVELS_MAX + _CONTID.size,
    "contid_tail": _CONTID.size,
    "pid_level": 8,
    "tally_event": _TALLY.size + 4 * TALLY_RUNS,
    "tally_run": 4,
    "cgroup_event": _CGROUP.size + CGROUP_PATH,
    "walk_event": _WALK.size + WALK_DEPTH * WALK_NAME,
    "counters": COUNTERS_SIZE,
}

CONTEXT_SIZES: Final = tuple(size for name, size in SIZES.items() if name.startswith("context_"))
_WITH_CONTID: Final = frozenset({SIZES["context_contid_event"], SIZES["context_deep_contid_event"]})

_N = len(KINDS)


def _stamp_of(raw: bytes) -> bytes:
    """The stamp as records have it."""
    stamp = _known_stamps.get(raw)
    if stamp is None:
        if len(_known_stamps) >= _STAMPS:
            _known_stamps.clear()
        stamp = _known_stamps[raw] = fixed.stamp(_unpack_stamp, raw, 0)
    return stamp


def _numbers_of(key: bytes) -> tuple[bytes, tuple[int, ...], tuple[int, ...]]:
    """A context's key, its inums and its unique ids. Few sets of them are in use at a time.

    The key is the one that came first: who looks for it finds it by what it is, and its hash is known.
    """
    known = _known_numbers.get(key)
    if known is None:
        if len(_known_numbers) >= _KEYS:
            _known_numbers.clear()
        numbers = _unpack_numbers(key)
        known = _known_numbers[key] = key, numbers[:_N], numbers[_N:]
    return known


def _comm_of(raw: bytes) -> bytes:
    """A task's name, which ends where the first NUL is."""
    comm = _known_comms.get(raw)
    if comm is None:
        if len(_known_comms) >= _COMMS:
            _known_comms.clear()
        comm = _known_comms[raw] = raw.split(b"\0", 1)[0]
    return comm


def _runs_of(raw: bytes) -> tuple[tuple[int, int], ...]:
    """The runs in a tally's end."""
    runs = _known_runs.get(raw)
    if runs is None:
        if len(_known_runs) >= _RUNS:
            _known_runs.clear()
        runs = _known_runs[raw] = tuple(_runs_in(raw))
    return runs


def size_of(data: bytes, at: int) -> int:
    """The size that the message which starts at byte `at` says it has."""
    size: int = _SIZE.unpack_from(data, at + 4)[0]
    return size


def decode_chain(data: bytes, end: int) -> tuple[int, ...]:
    """The chain that a message which ends before byte `end` of `data` has there."""
    depth, _, *numbers = _CONTID.unpack_from(data, end - _CONTID.size)
    # Inverted, so that 0 is none (bpf/include/contid.h).
    return tuple([UNSET ^ number for number in numbers[:depth]])


def decode_context(data: bytes, at: int) -> Context:
    """The context message that starts at byte `at` of `data`, which has to hold all of it.

    The message's own size tells only whether a chain is behind it: object and decoder were compared when the object
    was loaded. Raises struct.error where `data` ends before the message does: a bug, not bad input.
    """
    raw, size = data, len(data)
    end = at + _CONTEXT_SIZE
    if at < 0 or size < end:
        raise struct.error("the message is shorter than a context")
    whole, time, number, flags, pid, tid, ppid, auid, ses, depth, start, cgroup = fixed.context(
        _unpack_context, raw, at
    )
    behind = end + _LEVEL_SIZE * min(depth, _MOST_LEVELS)
    if size < behind:
        raise struct.error("the message ends before its levels do")
    # Without a call of __init__, as in `logformat`.
    made = Context.__new__(Context)
    made.stamp = _stamp_of(raw[at + _AT_STAMP : at + _AT_STAMP + _STAMP_SIZE])
    made.time = time
    made.record_type, made.flags = number, flags
    made.pid, made.tid, made.ppid = pid, tid, ppid
    made.auid, made.ses = auid, ses
    made.start, made.cgroup_id = start, cgroup
    made.comm = _comm_of(raw[at + _AT_COMM : at + _AT_NUMBERS])
    made.key, made.inums, made.ids = _numbers_of(raw[at + _AT_NUMBERS : end])
    levels = []
    while end < behind:
        level = Level.__new__(Level)
        level.ns, level.pid = fixed.level(_unpack_level, raw, end)
        levels.append(level)
        end += _LEVEL_SIZE
    made.levels = tuple(levels)
    made.contid = decode_chain(data, at + whole) if whole in _WITH_CONTID else ()
    return made


def decode_tally(data: bytes, at: int) -> Tally:
    """The tally message that starts at byte `at` of `data`; errors as for `decode_context`."""
    raw, size = data, len(data)
    end = at + _TALLY_SIZE
    if at < 0 or size < end:
        raise struct.error("the message is shorter than a tally")
    time, records, flags, runs = fixed.tally(_unpack_tally, raw, at)
    behind = end + _RUN_SIZE * min(runs, _MOST_RUNS)
    if size < behind:
        raise struct.error("the message ends before its runs do")
    made = Tally.__new__(Tally)
    made.stamp = _stamp_of(raw[at + _AT_STAMP : at + _AT_STAMP + _STAMP_SIZE])
    made.time, made.total, made.flags = time, records, flags
    made.runs = _runs_of(raw[end:behind])
    return made


def decode_cgroup(data: bytes, at: int) -> CgroupChange:
    """The message about a cgroup that starts at byte `at` of `data`; errors as for `decode_context`."""
    _, _, _, time, ident, op, size, _ = _CGROUP.unpack_from(data, at)
    path = bytes(data[at + _CGROUP.size : at + _CGROUP.size + size])
    # The kernel's own buffer is as long: what fills it may have gone on.
    return CgroupChange(ident, op, path if size < CGROUP_PATH - 1 else b"", time)


def encode_cgroup(change: CgroupChange) -> bytes:
    """The message as the kernel side would have sent it, as long as it has to be."""
    path = change.path[: CGROUP_PATH - 1]
    head = (
        EVENT_CGROUP,
        EVENT_VERSION,
        _CGROUP.size + len(path),
        change.time,
        change.id,
        change.op,
        len(path),
        0,
    )
    return _CGROUP.pack(*head) + path


def decode_walk(data: bytes, at: int) -> CgroupChange:
    """The walk from a cgroup to the root that starts at byte `at` of `data`; errors as for `decode_context`."""
    _, _, _, time, ident, depth, whole, _ = _WALK.unpack_from(data, at)
    names = []
    for place in range(min(depth, WALK_DEPTH)):
        begin = at + _WALK.size + place * WALK_NAME
        name, ended, _ = bytes(data[begin : begin + WALK_NAME]).partition(b"\0")
        whole = whole and ended and len(name) < WALK_NAME - 1
        names.append(name)
    path = b"/" + b"/".join(reversed(names)) if whole else b""
    return CgroupChange(ident, CgroupOp.FOUND, path, time)
