# SPDX-License-Identifier: Apache-2.0
"""What the kernel offers: BTF, the functions to attach to, kprobes, and what may forbid it all.

Owns these rows. Decides by asking, never by a version; the hook is chosen by the start-up's own rules.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.errors import EnricherError, NoHook
from enricher.runtime.doctor.rows import Group, Host, Row, State, reason_of, single
from enricher.runtime.loaders import pick
from enricher.sources.bpf import bccfacts, bccload, bccprobes, features
from enricher.sources.bpf.features import Answer, Found, KernelTypes
from enricher.sources.bpf.hook import CAVEATS, Hook, candidates
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import object_path

if TYPE_CHECKING:
    from collections.abc import Iterator

_TESTED: Final = ("x86_64",)
_ENDINGS: Final = ("audit_log_exit",)
_ENDING_TRACEPOINT: Final = "sched_process_exit"
_URING_ENDING: Final = "__audit_uring_exit"
_LOST: Final = "audit_log_lost"
_PARANOID: Final = (
    2  # above it a kernel with Debian's or Ubuntu's patch asks CAP_SYS_ADMIN for any perf event
)


def _kernel(host: Host) -> Row:
    here = os.uname()
    tested = "" if here.machine in _TESTED else ", a machine on which this is not tested"
    release = host.read(host.proc / "sys/kernel/osrelease").strip()
    return Row("kernel", State.OK, f"Linux {release} on {here.machine}{tested}")


def _real_time(host: Host) -> Row:
    # The kernel says so in its version string; older patches had a file as well.
    said = host.read(host.proc / "sys/kernel/version").replace("PREEMPT RT", "PREEMPT_RT").split()
    flag = host.sys / "kernel/realtime"
    if "PREEMPT_RT" in said or (flag.exists() and host.number(flag)):
        return Row(
            "preempt-rt",
            State.WARN,
            "a PREEMPT_RT kernel: softirqs are not noticed there",
            "a record that a softirq wrote can be taken for one of the task that it interrupted",
        )
    return Row("preempt-rt", State.OK, "not a PREEMPT_RT kernel")


def _btf_and_hooks(host: Host) -> Iterator[Row]:
    present = features.has_btf()
    with KernelTypes(library()) as types:
        readable = types.has_function(Hook.PLAIN.value).answer is not Answer.UNKNOWN
        bcc = present.no and bccload.is_installed()
        # bcc's programs are kprobes, for which a function need not be in any BTF.
        has = features.can_kprobe if bcc else types.has_function
        plain, queue = has(Hook.PLAIN.value), has(Hook.QUEUE.value)
        endings = [has(name) for name in _ENDINGS]
        if not bcc:
            endings.append(types.has_tracepoint(_ENDING_TRACEPOINT))
        uring, lost = has(_URING_ENDING), has(_LOST)
    yield _btf(present, readable=readable, bcc=bcc)
    hook, row = _hook(plain, features.can_kprobe(Hook.PART.value), queue)
    yield row
    yield _ending_hooks(endings, uring)
    yield _loss_causes(lost)
    if hook and (bcc or hook is Hook.PART):
        host.kprobe = hook.value
        row = _kprobes(host, features.try_kprobe(hook.value))
        host.kprobes = row.state
        yield row
    else:
        why = "the hook is not a kprobe" if hook else "no hook was found"
        yield Row("kprobes", State.OK, f"not needed: {why}")


def _btf(present: Found, *, readable: bool, bcc: bool) -> Row:
    if bcc:
        return Row(
            "btf",
            State.WARN,
            f"{present.reason}; bcc compiles the programs from the kernel's headers instead",
            "it costs more than BTF does: boot a kernel with CONFIG_DEBUG_INFO_BTF=y where you can",
        )
    if present.no:
        return Row(
            "btf",
            State.FAIL,
            present.reason,
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are; or install python3-bpfcc and the"
            " kernel's headers",
        )
    if readable:
        return Row("btf", State.OK, present.reason)
    if present.yes:
        return Row(
            "btf",
            State.FAIL,
            f"{present.reason}, but what is in it is no BTF that libbpf understands",
            "look whether something is mounted over it; newer BTF needs a newer libbpf; or run with --loader bcc",
        )
    return Row("btf", State.UNKNOWN, present.reason, "a mount or a security module hides it from us")


def _hook(plain: Found, part: Found, queue: Found) -> tuple[Hook | None, Row]:
    offers = "; ".join(found.reason for found in (plain, part, queue))
    try:
        first, *others = candidates(plain, part, queue)
    except NoHook as error:
        return None, Row("hook", State.FAIL, offers, error.hint)
    state, hint = State.OK, ""
    if first.hook is Hook.QUEUE:
        state, hint = State.WARN, f"a last resort: it {CAVEATS[first.hook]}; report the kernel's version"
    elif Answer.UNKNOWN in {plain.answer, part.answer}:
        tried = ", ".join(each.hook.value for each in others)
        state, hint = State.UNKNOWN, f"the self-test decides; next would be {tried or 'none'}"
    return first.hook, Row("hook", state, f"{first.hook.value} ({first.reason}); {offers}", hint)


def _ending_hooks(endings: list[Found], uring: Found) -> Row:
    missing = [found.reason for found in endings if found.no]
    if missing:
        return Row(
            "ending-hooks",
            State.FAIL,
            "; ".join(missing),
            "the end of an event could not be seen: the kernel needs CONFIG_AUDITSYSCALL",
        )
    unsure = [found.reason for found in endings if not found.yes]
    if unsure:
        return Row("ending-hooks", State.UNKNOWN, unsure[0])
    detail = ", ".join((*_ENDINGS, _ENDING_TRACEPOINT))
    if uring.yes:
        return Row("ending-hooks", State.OK, f"{detail}, {_URING_ENDING}")
    return Row(
        "ending-hooks", State.OK, f"{detail}; no {_URING_ENDING}: io_uring workers are not audited here"
    )


def _loss_causes(lost: Found) -> Row:
    """The kernel calls one function for whatever it loses; where GCC inlined it, only its sum can be had."""
    if lost.yes:
        return Row("loss-causes", State.OK, f"what the kernel loses is counted by cause: {lost.reason}")
    if lost.no:
        return Row(
            "loss-causes",
            State.WARN,
            f"what the kernel loses is not counted by cause: {lost.reason}",
            "the account says `not counted by this kernel`; auditctl -s has the sum of all causes",
        )
    return Row("loss-causes", State.UNKNOWN, lost.reason)


def _kprobes(host: Host, tried: Found) -> Row:
    """Only where the hook is a kprobe does it matter; CAP_SYS_ADMIN is there for that alone."""
    try:
        level = host.number(host.proc / "sys/kernel/perf_event_paranoid")
        paranoid = f"kernel.perf_event_paranoid is {level}"
    except (OSError, ValueError) as error:
        level, paranoid = _PARANOID, reason_of(error)
    if tried.no:
        return Row("kprobes", State.FAIL, tried.reason, "see the row `hook`")
    if not tried.yes:
        if "refused" not in tried.reason:
            return Row("kprobes", State.UNKNOWN, f"{tried.reason}; {paranoid}", "the self-test decides")
        hint = "ENODEV says that ftrace is switched off: see the row `ftrace`; else look at the kernel log"
        if tried.reason.endswith(("EACCES", "EPERM")):
            admin = ", or CAP_SYS_ADMIN, which a level above 2 asks for" if level > _PARANOID else ""
            hint = f"CAP_PERFMON is missing{admin}; or a security module or lockdown forbids it"
        return Row("kprobes", State.FAIL, f"{tried.reason}; {paranoid}", hint)
    try:
        enabled = host.number(host.sys / "kernel/debug/kprobes/enabled")
    except (OSError, ValueError) as error:
        return Row(
            "kprobes",
            State.OK,
            f"{tried.reason}; whether they are switched off is not known ({reason_of(error)}), the self-test tells",
        )
    if not enabled:
        return Row(
            "kprobes",
            State.WARN,
            f"{tried.reason}, but all kprobes are switched off: {host.kprobe} would show nothing",
            f"echo 1 > {host.sys / 'kernel/debug/kprobes/enabled'}; else the start-up falls back to another hook",
        )
    return Row("kprobes", State.OK, f"{tried.reason}; they are switched on")


def _loader(_host: Host) -> Row:
    """What `--loader auto` takes here, by the start-up's own rule, and whether that has what it needs."""
    said: list[str] = []
    chosen = pick("auto", said.append).name
    try:
        needs = _needs_of_bcc() if chosen == bccload.BccLoader.name else _needs_of_libbpf()
    except EnricherError as error:
        return Row("loader", State.FAIL, f"auto chooses {chosen}: {error.message}", error.hint)
    detail = "; ".join([f"auto chooses {chosen}: {needs}", *said])
    btf = features.has_btf()
    if chosen != bccload.BccLoader.name and btf.no:
        return Row("loader", State.FAIL, f"{detail}; {btf.reason}", "see the row `btf`")
    return Row("loader", State.OK, detail)


def _needs_of_libbpf() -> str:
    version = (library().libbpf_version_string() or b"").decode("ascii", "replace")
    bcc = "installed" if _has_bcc() else "not installed"
    return f"libbpf {version}, object {object_path().name}; bcc for Python is {bcc}"


def _needs_of_bcc() -> str:
    """It compiles: our sources, and the kernel's headers. libbpf makes its maps. And what is not told then."""
    lib = library()
    bccload.source_directory()
    trees = bccfacts.header_trees()
    absent = bccprobes.choose(bccfacts.facts(lib, trees).macros).absent
    untold = "; ".join(f"{name} ({why})" for name, why in absent.items() if why)
    where = f"in {trees[0]}" if trees else "out of the kernel's own archive"
    return f"kernel headers {where}; it has no {untold}"


def _has_bcc() -> bool:
    """Whether the distribution's bcc is there, without importing 160 MB; PyPI's `bcc` is something else."""
    spec = importlib.util.find_spec("bcc")
    places = spec.submodule_search_locations if spec else None
    return any((Path(place) / "libbcc.py").exists() for place in places or ())


def _lockdown(host: Host) -> Row:
    path = host.sys / "kernel/security/lockdown"
    try:
        said = host.read(path)
    except FileNotFoundError:
        if (host.sys / "kernel/security/lsm").exists():
            return Row("lockdown", State.OK, "this kernel has no lockdown")
        return Row(
            "lockdown",
            State.UNKNOWN,
            f"{path} does not exist: securityfs is not mounted, or no security module is built in",
            f"mount -t securityfs none {host.sys / 'kernel/security'}",
        )
    chosen = said.partition("[")[2].partition("]")[0]
    if chosen == "confidentiality":
        return Row(
            "lockdown",
            State.FAIL,
            "confidentiality: no BPF program may read kernel memory",
            "boot with lockdown=integrity, which is enough for Secure Boot",
        )
    if chosen in {"none", "integrity"}:
        return Row("lockdown", State.OK, f"{chosen}: BPF programs may read kernel memory")
    return Row("lockdown", State.UNKNOWN, f"{path} says {said[:80]!r}")


def _kptr_restrict(host: Host) -> Row:
    value = host.number(host.proc / "sys/kernel/kptr_restrict")
    return Row("kptr-restrict", State.OK, f"{value}; it does not matter, no address is read from /proc")


def _unprivileged(host: Host) -> Row:
    value = host.number(host.proc / "sys/kernel/unprivileged_bpf_disabled")
    return Row(
        "unprivileged-bpf", State.OK, f"kernel.unprivileged_bpf_disabled is {value}; ours has privilege"
    )


def _security_modules(host: Host) -> Row:
    modules = host.read(host.sys / "kernel/security/lsm").strip()
    more = ": one of its programs may refuse ours" if "bpf" in modules.split(",") else ""
    return Row("security-modules", State.OK, f"{modules}{'; bpf is one' + more if more else ''}")


def _jit(host: Host) -> Row:
    if host.number(host.proc / "sys/net/core/bpf_jit_enable"):
        return Row("bpf-jit", State.OK, "BPF programs are compiled")
    return Row(
        "bpf-jit",
        State.WARN,
        "net.core.bpf_jit_enable is 0: BPF programs are interpreted, or cannot be attached",
        "sysctl net.core.bpf_jit_enable=1",
    )


def _ftrace(_host: Host) -> Row:
    found = features.has_ftrace()
    if found.no:
        hint = "sysctl kernel.ftrace_enabled=1; where that fails, the host has to be booted"
        return Row("ftrace", State.FAIL, found.reason, hint)
    return Row("ftrace", State.OK if found.yes else State.UNKNOWN, found.reason)


GROUPS: Final = (
    single("kernel", _kernel),
    single("preempt-rt", _real_time),
    Group(("btf", "hook", "ending-hooks", "loss-causes", "kprobes"), _btf_and_hooks),
    single("loader", _loader),
    single("lockdown", _lockdown),
    single("kptr-restrict", _kptr_restrict),
    single("unprivileged-bpf", _unprivileged),
    single("security-modules", _security_modules),
    single("bpf-jit", _jit),
    single("ftrace", _ftrace),
)
