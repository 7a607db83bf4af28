# SPDX-License-Identifier: Apache-2.0
"""What this process may do and where it stands: capabilities, namespaces, cgroups, locked memory.

Owns these rows and the table of what each capability is for. Never tries a thing out to see whether it
may: the start-up in the self-test does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.runtime.doctor.rows import Group, Host, Row, State, single
from enricher.sources.audit.netlink import CAP_AUDIT_CONTROL, CAP_AUDIT_READ, CAP_AUDIT_WRITE
from enricher.sources.audit.socket import RECEIVE_BUFFER
from enricher.sources.bpf.features import KernelTypes
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import DEFAULT_BUDGET
from enricher.sources.cgroups import hierarchy
from enricher.sources.host import effective_capabilities, standing

if TYPE_CHECKING:
    from collections.abc import Iterator

_DAC_OVERRIDE: Final = 1
_NET_ADMIN: Final = 12
_SYS_PTRACE: Final = 19
_SYS_ADMIN: Final = 21
_SYS_RESOURCE: Final = 24
_PERFMON: Final = 38
_BPF: Final = 39
_KERNEL_SIDE: Final = 4 << 20  # the programs and the maps besides the rings, generously


class Capability(NamedTuple):
    """What is needed for what; `state` is the row's where none of `numbers` is held."""

    name: str
    numbers: tuple[int, ...]
    purpose: str
    state: State


CAPABILITIES: Final = (
    Capability("cap-audit-read", (CAP_AUDIT_READ,), "the audit multicast group", State.FAIL),
    Capability("cap-bpf", (_BPF, _SYS_ADMIN), "loading the programs", State.FAIL),
    Capability("cap-perfmon", (_PERFMON, _SYS_ADMIN), "attaching the programs", State.FAIL),
    Capability("cap-audit-write", (CAP_AUDIT_WRITE,), "the self-test's record", State.FAIL),
    Capability("cap-audit-control", (CAP_AUDIT_CONTROL,), "asking for audit's state and rules", State.WARN),
    Capability("cap-net-admin", (_NET_ADMIN,), "a receive buffer above net.core.rmem_max", State.WARN),
    Capability(
        "cap-sys-ptrace", (_SYS_PTRACE,), "telling the initial namespaces and other listeners", State.WARN
    ),
    Capability("cap-dac-override", (_DAC_OVERRIDE,), "probes on modules that are loaded later", State.WARN),
    Capability(
        "cap-sys-admin", (_SYS_ADMIN,), "a kprobe where kernel.perf_event_paranoid is above 2", State.FAIL
    ),
)


def _capabilities(host: Host) -> Iterator[Row]:
    held = effective_capabilities(host.proc)
    for each in CAPABILITIES:
        named = each.name.upper().replace("-", "_")
        if held is None:
            reason = f"no CapEff in {host.proc / 'self/status'}; needed for {each.purpose}"
            yield Row(each.name, State.UNKNOWN, reason)
        elif held >> each.numbers[0] & 1:
            yield Row(each.name, State.OK, f"held, for {each.purpose}")
        elif any(held >> number & 1 for number in each.numbers):
            yield Row(each.name, State.OK, f"CAP_SYS_ADMIN stands for it, for {each.purpose}")
        elif why := _spared(host, each.numbers[0]):
            yield Row(each.name, State.OK, f"not held and not needed: {why}")
        else:
            hint = f"run as root, or give the service AmbientCapabilities={named}"
            yield Row(each.name, each.state, f"not held; needed for {each.purpose}", hint)


def _spared(host: Host, number: int) -> str:
    """Why a capability that is missing is not missed here; "" where it is, or where that cannot be told."""
    try:
        if number == _NET_ADMIN:
            most = host.number(host.proc / "sys/net/core/rmem_max")
            return f"net.core.rmem_max is {most}" if most >= RECEIVE_BUFFER else ""
        if number == _SYS_ADMIN:
            if not host.kprobe:
                return "the hook is not a kprobe"
            if host.kprobes in {State.OK, State.WARN}:
                return "the kernel accepted a kprobe without it"
            level = host.number(host.proc / "sys/kernel/perf_event_paranoid")
            return f"kernel.perf_event_paranoid is {level}" if level <= 2 else ""  # noqa: PLR2004 - its own scale
    except (OSError, ValueError):
        pass
    return ""


_NAMESPACES: Final = (
    (
        "user-namespace",
        "the kernel refuses audit messages from any other",
        "run on the host, without user-namespace remapping (no rootless container, no unshare -U)",
    ),
    (
        "pid-namespace",
        "pids in audit records would not be ours",
        "run on the host, or the container with --pid=host",
    ),
    (
        "net-namespace",
        "audit multicast never arrives in any other",
        "run on the host, or the container with --network=host",
    ),
)


def _namespaces(host: Host) -> Iterator[Row]:
    for (name, why, hint), initial in zip(_NAMESPACES, standing(host.proc), strict=True):
        if initial:
            yield Row(name, State.OK, "the initial one")
        elif initial is None:
            yield Row(
                name,
                State.UNKNOWN,
                f"could not be compared with the host's; {why}",
                "CAP_SYS_PTRACE lets us look at pid 1, which has to be the host's",
            )
        else:
            yield Row(name, State.FAIL, f"not the initial one: {why}", hint)


def _watched(host: Host) -> str:
    return hierarchy(host.proc).name


def _cgroup(host: Host) -> Row:
    # The kernel's own list for this process: mounts could hide a hierarchy, this does not.
    lines = host.read(host.proc / "self/cgroup").splitlines()
    unified = any(line.startswith("0::") for line in lines)
    older = sum(":" in line and not line.startswith("0:") for line in lines)
    hint = "boot with systemd.unified_cgroup_hierarchy=1, with which everything here is tested"
    if unified and not older:
        return Row("cgroup", State.OK, "v2")
    if unified:
        return Row(
            "cgroup",
            State.WARN,
            f"hybrid: v2 beside {older} v1 hierarchies; containers are told apart by the controller {_watched(host)}",
            hint,
        )
    if older:
        return Row(
            "cgroup",
            State.WARN,
            f"v1 only: containers are told apart by the controller {_watched(host)}",
            hint,
        )
    return Row("cgroup", State.UNKNOWN, f"{host.proc / 'self/cgroup'} names no hierarchy")


def _memlock(host: Host) -> Row:
    """Whether BPF memory counts as locked: the helper came with the change, and libbpf goes by it too."""
    with KernelTypes(library()) as types:
        charged = types.has_function("bpf_ktime_get_coarse_ns")
    if charged.yes:
        return Row("memlock", State.OK, "BPF memory does not count against the limit on locked memory here")
    lines = host.read(host.proc / "self/limits").splitlines()
    limit = next((line.split()[-3:] for line in lines if line.startswith("Max locked memory")), [])
    soft, hard = (limit[0], limit[1]) if limit else ("not readable", "")
    detail = f"BPF memory counts as locked memory here, the limit is {soft}"
    # libbpf lifts the limit by itself where it may.
    if "unlimited" in {soft, hard} or (effective_capabilities(host.proc) or 0) >> _SYS_RESOURCE & 1:
        return Row("memlock", State.OK, f"{detail}, and we may exceed it")
    if not charged.no:
        return Row("memlock", State.UNKNOWN, f"{charged.reason}: whether BPF memory counts is not known")
    if not soft.isdecimal():
        return Row("memlock", State.UNKNOWN, detail)
    if int(soft) < DEFAULT_BUDGET + _KERNEL_SIDE:
        return Row("memlock", State.FAIL, detail, "LimitMEMLOCK=infinity, or a smaller --ring-memory")
    return Row("memlock", State.OK, detail)


GROUPS: Final = (
    Group(tuple(each.name for each in CAPABILITIES), _capabilities),
    Group(tuple(name for name, _, _ in _NAMESPACES), _namespaces),
    single("cgroup", _cgroup),
    single("memlock", _memlock),
)
