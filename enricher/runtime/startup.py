# SPDX-License-Identifier: Apache-2.0
"""Brings the sources up: checks, socket, programs, self-test; and takes them down in order.

Owns the order of these steps and what is said about them. Never processes an event: what the
self-test read is handed on to the pipeline.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from enricher.errors import LoadFailed, MissingCapability, NoBtf, SelfTestFailed, WrongNamespace
from enricher.runtime.selftest import Proof, Trial, new_nonce, send_and_wait
from enricher.sources.audit.control import AuditControl, AuditStatus, RulesCount
from enricher.sources.audit.socket import AuditSocket
from enricher.sources.bpf import features
from enricher.sources.bpf.hook import CAVEATS, Candidate, Hook, candidates
from enricher.sources.bpf.libbpf import library
from enricher.sources.bpf.loader import DEFAULT_BUDGET, LibbpfLoader, Loaded, Loader
from enricher.sources.host import require_initial_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.model import Record


class Started(NamedTuple):
    """Everything that runs once start-up has succeeded."""

    socket: AuditSocket
    control: AuditControl
    loaded: Loaded
    loader: str
    candidate: Candidate
    trial: Trial
    status: AuditStatus | None
    rules: RulesCount | None


def kernel_candidates(forced: Hook | None) -> tuple[list[Candidate], bool]:
    """The hooks to try on this kernel, and whether it audits io_uring. Raises NoBtf, NoHook."""
    btf = features.has_btf()
    if btf.no:
        raise NoBtf(
            btf.reason, "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; the distributions' kernels have it"
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


def start(
    note: Callable[[str], None],
    *,
    forced: Hook | None = None,
    budget: int = DEFAULT_BUDGET,
    verbose: bool = False,
    loader: Loader | None = None,
) -> Started:
    """Check, join, load, prove. `note` is told what an operator should know, one line each.

    Raises the leaves of `errors` that say why it cannot work here.
    """
    for doubt in require_initial_namespaces():
        note(doubt)
    control = AuditControl()
    try:
        status, rules = _audit_state(control, note)
        tries, uring = kernel_candidates(forced)
        socket = AuditSocket()
        try:
            chosen = loader or LibbpfLoader(verbose=verbose)
            candidate, loaded, trial = _prove(chosen, tries, control, socket, budget, note, uring=uring)
        except BaseException:
            socket.close()
            raise
    except BaseException:
        control.close()
        raise
    if socket.buffer_limited:
        note(
            f"the receive buffer is {socket.receive_buffer // 1024} KiB only: without CAP_NET_ADMIN it is"
            " bounded by net.core.rmem_max, and bursts may overflow it"
        )
    return Started(socket, control, loaded, chosen.name, candidate, trial, status, rules)


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
            " a sample set is packaging/rules/audit-enricher-sample.rules (it is never loaded by itself)"
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
    socket: AuditSocket,
    budget: int,
    note: Callable[[str], None],
    *,
    uring: bool,
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
        try:
            trial = send_and_wait(nonce, b"start", control, socket, loaded, os.getpid())
            trial = trial._replace(records=earlier + trial.records)
            failure = _failure(hook, trial.proof, socket)
        except BaseException:
            loaded.close()
            raise
        if not failure:
            for line in [*failures, *_doubts(hook, trial.proof)]:
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


def _failure(hook: Hook, proof: Proof, socket: AuditSocket) -> str:
    """Why `hook` cannot be used after this outcome; "" where it can. Raises WrongNamespace."""
    if proof is Proof.NOT_DELIVERED:
        raise WrongNamespace(
            "the kernel wrote the self-test's record, but it did not reach this socket"
            f" (which dropped {socket.drops()} records)",
            "audit records are sent to the initial network namespace only: run there. If this is it, the host"
            " makes more records than can be read, or an auditd that does not read holds the kernel up",
        )
    if proof is Proof.HOOK_MISSED:
        return "the self-test's record passed it by"
    if proof is Proof.SILENT and hook is Hook.QUEUE:
        return "it finds the audit queue by the self-test's record, and a rule drops USER_AVC records"
    return ""


def _doubts(hook: Hook, proof: Proof) -> list[str]:
    """What an operator should know of the hook in use."""
    doubts = [f"hook {hook.value}: {CAVEATS[hook]}"] if CAVEATS[hook] else []
    if proof is Proof.SILENT:
        doubts.append(
            "the self-test's record came back on neither side: a rule drops USER_AVC records, so that the"
            " hook sees every record is not proved"
        )
    return doubts


def stop(started: Started) -> None:
    """Detach the programs and leave the multicast group."""
    started.loaded.close()
    started.socket.close()
    started.control.close()
