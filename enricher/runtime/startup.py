# SPDX-License-Identifier: Apache-2.0
"""Brings the sources up: checks, socket, programs, self-test; and takes them down in order.

Owns the order of these steps and what is said about them. Never processes an event: what the
self-test read is handed on to the pipeline.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from enricher.errors import KernelUnsupported, MissingCapability, NoBtf, SelfTestFailed, WrongNamespace
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
    """Load the candidates in turn until one is proved to see every record."""
    earlier: list[Record] = []  # read during a try that failed: they are handed on all the same
    failures: list[str] = []
    for candidate in tries:
        nonce = new_nonce()
        try:
            loaded = loader.load(candidate.hook, nonce, budget, uring=uring)
        except KernelUnsupported:
            raise
        except MissingCapability:
            raise
        except Exception as error:
            failures.append(f"{candidate.hook.value}: {error}")
            if candidate is tries[-1] and len(failures) == len(tries):
                raise
            continue
        try:
            trial = send_and_wait(nonce, b"start", control, socket, loaded, os.getpid())
        except BaseException:
            loaded.close()
            raise
        trial = trial._replace(records=earlier + trial.records)
        if trial.proof is Proof.PROVED:
            if CAVEATS[candidate.hook]:
                note(f"hook {candidate.hook.value}: {CAVEATS[candidate.hook]}")
            return candidate, loaded, trial
        if trial.proof is Proof.SILENT:
            note(
                "the self-test's record came back on neither side: a rule drops USER_AVC records, so that the"
                " hook sees every record is not proved"
            )
            return candidate, loaded, trial
        loaded.close()
        earlier = trial.records
        if trial.proof is Proof.NOT_DELIVERED:
            raise WrongNamespace(
                "the kernel wrote the self-test's record, but it did not reach this socket",
                "audit records are sent to the initial network namespace only: run there",
            )
        failures.append(f"{candidate.hook.value}: the self-test's record passed it by")
    raise SelfTestFailed(
        "no hook sees every audit record: " + "; ".join(failures),
        "report this with the kernel's version: GCC may have split audit_log_end in a new way",
    )


def stop(started: Started) -> None:
    """Detach the programs and leave the multicast group."""
    started.loaded.close()
    started.socket.close()
    started.control.close()
