# SPDX-License-Identifier: Apache-2.0
"""Which way the programs get into the kernel, and what only one of the ways has to prove.

Owns the choice between libbpf and bcc (docs/adr/0007-bcc-loader.md) and the hooks that bcc can try. Never loads.
What is for bcc is imported where it is wanted: nearly every start goes without.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from enricher.runtime.selftest import USER_AVC, Proof, Trial
from enricher.sources.bpf import features
from enricher.sources.bpf.hook import Candidate, Hook, candidates
from enricher.sources.bpf.loader import LibbpfLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeGuard

    from enricher.sources.bpf.bccload import BccObject
    from enricher.sources.bpf.loader import Loaded, Loader


def pick(
    name: str,
    note: Callable[[str], None],
    *,
    verbose: bool = False,
    contid: Mapping[str, int] | None = None,
) -> Loader:
    """The loader of that name. "auto" is libbpf, and bcc where only bcc can work and is installed.

    `contid` are the maps of container identifiers.
    """
    btf = features.has_btf()
    if name == "libbpf" or (name == "auto" and not btf.no):
        return LibbpfLoader(verbose=verbose, contid=contid)
    from enricher.sources.bpf import bccload  # noqa: PLC0415 - see above

    if name == "auto":
        if not bccload.is_installed():
            return LibbpfLoader(verbose=verbose, contid=contid)
        note(f"{btf.reason}: the programs are compiled here with bcc, from the kernel's headers")
    return bccload.BccLoader(verbose=verbose, contid=contid)


def bcc_candidates(forced: Hook | None) -> tuple[list[Candidate], bool]:
    """As `startup.kernel_candidates`, of a kernel that need not have BTF: a kprobe does. Raises NoHook."""
    uring = features.can_kprobe("__audit_uring_exit").yes
    if forced is not None:
        return [Candidate(forced, "asked for on the command line")], uring
    return candidates(
        *(features.can_kprobe(hook.value) for hook in (Hook.PLAIN, Hook.PART, Hook.QUEUE))
    ), uring


def unusable(loaded: Loaded, trial: Trial) -> str:
    """Why programs that bcc compiled cannot be used after this self-test; "" where they can.

    libbpf's are relocated by the running kernel's own BTF, headers may be another kernel's.
    """
    if not _is_bccs(loaded):
        return ""
    from enricher.sources.bpf import bccproof  # noqa: PLC0415 - see above

    own = [each for each in trial.contexts if each.pid == os.getpid() and each.record_type == USER_AVC]
    if trial.proof is Proof.SILENT or not own:
        return "what bcc compiled is checked by the self-test's record, and a rule drops USER_AVC records"
    wrong = bccproof.differences(own[-1])
    if wrong:
        return "the kernel's headers are not those of the running kernel: " + "; ".join(wrong)
    return ""


def caveats(loaded: Loaded) -> list[str]:
    """What an operator should know of what was loaded, one line each."""
    return loaded.caveats() if _is_bccs(loaded) else []


def _is_bccs(loaded: Loaded) -> TypeGuard[BccObject]:
    module = sys.modules.get("enricher.sources.bpf.bccload")
    return module is not None and isinstance(loaded, module.BccObject)
