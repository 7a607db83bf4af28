# SPDX-License-Identifier: Apache-2.0
"""Brings the sources up: checks, socket, programs, self-test; and takes them down in order.

Owns the order of these steps and what is said about them. Never processes an event: what the
self-test read is handed on to the pipeline.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.correlate.ledger import serial_of
from enricher.errors import (
    LoadFailed,
    MissingCapability,
    NoBtf,
    NoHook,
    NotProved,
    SelfTestFailed,
    WrongNamespace,
)
from enricher.runtime.loaders import bcc_candidates, caveats, pick, unusable
from enricher.runtime.selftest import Proof, Trial, new_nonce, send_and_wait
from enricher.sources.audit.control import AuditControl, AuditStatus, RulesCount
from enricher.sources.audit.socket import RECEIVE_BUFFER, AuditSocket
from enricher.sources.bpf import features
from enricher.sources.bpf.blind import Blind
from enricher.sources.bpf.families import families
from enricher.sources.bpf.hook import CAVEATS, Candidate, Hook, candidates
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import DEFAULT_BUDGET, Loaded, Loader
from enricher.sources.cgroups import hierarchy, scan
from enricher.sources.host import require_initial_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.model import Context, Record, Tally
    from enricher.sources.audit.source import Source


_NONCE_TRIES: Final = 5


class Started(NamedTuple):
    """Everything that runs once start-up has succeeded. Without a kernel side there is no `candidate`."""

    socket: Source
    control: AuditControl
    loaded: Loaded
    loader: str
    candidate: Candidate | None
    trial: Trial
    status: AuditStatus | None
    rules: RulesCount | None

    @property
    def hook(self) -> Hook | None:
        """The hook in use."""
        return self.candidate.hook if self.candidate else None

    @property
    def hook_name(self) -> str:
        """Its name, "" without one."""
        return self.candidate.hook.value if self.candidate else ""


def kernel_candidates(forced: Hook | None) -> tuple[list[Candidate], bool]:
    """The hooks to try on this kernel, and whether it audits io_uring. Raises NoBtf, NoHook."""
    btf = features.has_btf()
    if btf.no:
        raise NoBtf(
            btf.reason,
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are; or install bcc for Python"
            " (Debian and Ubuntu: python3-bpfcc) and the kernel's headers, see --loader bcc",
        )
    with features.KernelTypes(library()) as types:
        uring = types.has_function("__audit_uring_exit").yes
        if forced is not None:
            return [Candidate(forced, "asked for on the command line")], uring
        found = candidates(
            types.has_function(Hook.PLAIN.value),
            features.can_kprobe(Hook.PART.value),
            types.has_function(Hook.QUEUE.value),
        )
    return found, uring


def start(  # noqa: PLR0913 - the settings of one start
    note: Callable[[str], None],
    *,
    forced: Hook | None = None,
    budget: int = DEFAULT_BUDGET,
    receive_buffer: int = RECEIVE_BUFFER,
    tap: bool = False,
    verbose: bool = False,
    loader: Loader | None = None,
    source: Source | None = None,
) -> Started:
    """Check, join, load, prove. `note` is told what an operator should know, one line each.

    `budget` is the bytes of all rings, `receive_buffer` those of the socket; with `tap` the rings' messages
    are kept undecoded as well, for a capture. `source` brings the records, if it is not to be the multicast
    socket; it stays open where the start fails. Raises the leaves of `errors` that say why it cannot work here.
    """
    for doubt in require_initial_namespaces():
        note(doubt)
    ftrace = features.has_ftrace()
    if ftrace.no:
        # Attaching would succeed, and detaching would harm the host.
        raise NoHook(
            ftrace.reason, "sysctl kernel.ftrace_enabled=1; where that fails, the host has to be booted"
        )
    control = AuditControl()
    try:
        status, rules = _audit_state(control, note)
        chosen = loader or pick("auto", note, verbose=verbose)
        find = bcc_candidates if chosen.name == "bcc" else kernel_candidates
        tries, uring = find(forced)
        socket = source or AuditSocket(receive_buffer)
        try:
            candidate, loaded, trial = _prove(
                chosen, tries, control, socket, budget, note, uring=uring, tap=tap
            )
        except BaseException:
            if source is None:
                socket.close()
            raise
    except BaseException:
        control.close()
        raise
    _judge_buffer(socket, note)
    return Started(socket, control, loaded, chosen.name, candidate, trial, status, rules)


def start_blind(
    note: Callable[[str], None], *, receive_buffer: int = RECEIVE_BUFFER, source: Source | None = None
) -> Started:
    """As `start`, without programs: for a kernel on which `start` says that none can be used.

    The self-test's record marks the beginning all the same; its `proof` is never PROVED.
    """
    for doubt in require_initial_namespaces():
        note(doubt)
    control = AuditControl()
    try:
        status, rules = _audit_state(control, note)
        socket = source or AuditSocket(receive_buffer)
        try:
            loaded = Blind()
            trial = _try(new_nonce(), control, socket, loaded)
        except BaseException:
            if source is None:
                socket.close()
            raise
    except BaseException:
        control.close()
        raise
    _judge_buffer(socket, note)
    if trial.serial is None:
        note("the self-test's record did not come back: where this run begins is not known by serial")
    return Started(socket, control, loaded, "none", None, trial, status, rules)


def _judge_buffer(socket: Source, note: Callable[[str], None]) -> None:
    if socket.buffer_limited:
        note(
            f"the receive buffer is {socket.receive_buffer // 1024} KiB only: without CAP_NET_ADMIN it is"
            " bounded by net.core.rmem_max, and bursts may overflow it"
        )


def describe(started: Started) -> str:
    """Return the line that says what is running."""
    if started.candidate is None:
        return f"Linux {os.uname().release}, no hook"
    return (
        f"Linux {os.uname().release}, hook {started.candidate.hook.value} ({started.candidate.reason}),"
        f" self-test {started.trial.proof.value}, loader {started.loader},"
        f" {started.loaded.ring_count} rings of {started.loaded.ring_size >> 10} KiB"
    )


def _audit_state(
    control: AuditControl, note: Callable[[str], None]
) -> tuple[AuditStatus | None, RulesCount | None]:
    """Ask whether audit is on and has rules; where we may not ask, say so and go on."""
    try:
        status = control.status()
        rules = control.rules_count()
    except MissingCapability:
        note("whether audit is on cannot be asked without CAP_AUDIT_CONTROL")
        return None, None
    if not status.enabled:
        note(
            "audit is off: only a few records are written. Switch it on with `auditctl -e 1`, or boot with audit=1"
        )
    if not rules.recording:
        note(
            "no audit rule makes events: only logins, AVCs and the like appear. Load rules with auditctl;"
            " a sample set comes with this program: audit-enricher-sample.rules (it is never loaded by itself)"
        )
    if rules.task_never:
        note(
            "the rule `-a never,task` is loaded: tasks started since are not audited whatever other rules say"
        )
    return status, rules


def _prove(  # noqa: PLR0913 - the steps of one start, in the one place that knows all of them
    loader: Loader,
    tries: list[Candidate],
    control: AuditControl,
    socket: Source,
    budget: int,
    note: Callable[[str], None],
    *,
    uring: bool,
    tap: bool,
) -> tuple[Candidate, Loaded, Trial]:
    """Load the candidates in turn until one is proved to see every record.

    Raises the first LoadFailed where no candidate could be attached, SelfTestFailed where none sees all.
    """
    earlier: list[Record] = []  # read during a try that failed: they are handed on all the same
    failures: list[str] = []
    refusals: list[LoadFailed] = []
    for candidate in tries:
        hook = candidate.hook
        nonce = new_nonce()
        try:
            loaded = loader.load(hook, nonce, budget, uring=uring)
        except LoadFailed as error:
            # This hook cannot be had; what stops the others as well is another error.
            refusals.append(error)
            failures.append(f"hook {hook.value}: {error.message}")
            continue
        loaded.tap = [] if tap else None
        # They are watched from the loading on: what comes and goes while we look is told of.
        loaded.found(scan(hierarchy()))
        try:
            contexts, tallies = loaded.look_at_all()
            trial = _try(nonce, control, socket, loaded)
            trial = trial._replace(
                records=earlier + trial.records,
                contexts=contexts + trial.contexts,
                tallies=tallies + trial.tallies,
            )
            failure = _failure(hook, trial.proof, _dropped(socket, loaded), socket.unheard) or unusable(
                loaded, trial
            )
        except BaseException:
            loaded.close()
            raise
        if not failure:
            doubts = _doubts(hook, trial.proof, _dropped(socket, loaded))
            for line in [*failures, *doubts, *caveats(loaded), *_untold(loaded)]:
                note(line)
            return candidate, loaded, trial
        loaded.close()
        failures.append(f"hook {hook.value}: {failure}")
        earlier = trial.records
    if len(refusals) == len(tries):
        raise refusals[0]
    raise SelfTestFailed(
        "no hook sees every audit record: " + "; ".join(failures),
        "report this with the kernel's version: GCC may have split audit_log_end in a new way",
    )


def _try(nonce: bytes, control: AuditControl, socket: Source, loaded: Loaded) -> Trial:
    """Send the nonce; again, a few times, where it went missing while the kernel was dropping records."""
    records: list[Record] = []
    contexts: list[Context] = []
    tallies: list[Tally] = []
    for left in reversed(range(_NONCE_TRIES)):
        trial = send_and_wait(nonce, b"start", control, socket, loaded, os.getpid(), socket.patience)
        if trial.proof is Proof.HOOK_MISSED and trial.serial in {serial_of(each.stamp) for each in contexts}:
            # The record of an earlier try, later than that waited for: its context came in time.
            trial = trial._replace(proof=Proof.PROVED)
        records += trial.records
        contexts += trial.contexts
        tallies += trial.tallies
        missing = trial.proof in {Proof.NOT_DELIVERED, Proof.SILENT}
        if not left or not missing or not _dropped(socket, loaded):
            return trial._replace(records=records, contexts=contexts, tallies=tallies)
    raise AssertionError


def _dropped(socket: Source, loaded: Loaded) -> str:
    """What was dropped since the start, in words; "" for nothing, or where whoever brings records has gone."""
    if socket.ended:
        return ""
    counters = loaded.counters()
    drops = {
        "the receive buffer was full": socket.drops(),
        "over the rate limit": counters["lost_rate_limit"],
        "over the backlog limit": counters["lost_backlog"],
    }
    if socket.way != "multicast":
        drops["more than the kernel keeps for its daemon"] = counters["lost_queue"]
    return ", ".join(f"{count} records {why}" for why, count in drops.items() if count)


def _failure(hook: Hook, proof: Proof, dropped: str, unheard: str) -> str:
    """Why `hook` cannot be used after this outcome; "" where it can.

    Raises SelfTestFailed or WrongNamespace where no hook could be.
    """
    if proof is Proof.NOT_DELIVERED and dropped:
        raise NotProved(
            f"the self-test's record was dropped {_NONCE_TRIES} times, and others with it: {dropped}",
            "raise the rate limit (`auditctl -r`), or --receive-buffer, or load fewer rules",
        )
    if proof is Proof.NOT_DELIVERED:
        raise WrongNamespace(
            "the kernel wrote the self-test's record, but it did not reach this program, which dropped nothing",
            unheard,
        )
    if proof is Proof.HOOK_MISSED:
        return "the self-test's record passed it by"
    if proof is Proof.SILENT and hook is Hook.QUEUE:
        return "it finds the audit queue by the self-test's record, and a rule drops USER_AVC records"
    return ""


def _doubts(hook: Hook, proof: Proof, dropped: str) -> list[str]:
    """What an operator should know of the hook in use."""
    doubts = [f"hook {hook.value}: {CAVEATS[hook]}"] if CAVEATS[hook] else []
    if proof is Proof.SILENT:
        why = "a rule drops USER_AVC records"
        if dropped:
            why += f", or it went the way of others ({dropped})"
        doubts.append(
            f"the self-test's record came back on neither side: {why}, so that the hook sees every record is"
            " not proved"
        )
    return doubts


def _untold(loaded: Loaded) -> list[str]:
    """What nobody knows here, one line for each reason."""
    names: dict[str, list[str]] = {}
    for family in families():
        if why := loaded.families.get(family.name):
            names.setdefault(why, []).append(family.facts)
    return [f"not told here: {'; '.join(facts)} ({why})" for why, facts in names.items()]


def stop(started: Started) -> None:
    """Detach the programs and leave the multicast group."""
    started.loaded.close()
    started.socket.close()
    started.control.close()
