# SPDX-License-Identifier: Apache-2.0
"""In a guest: the programs of both loaders at once over the same acts, what each tells compared one by one.

Prints one JSON object: by kind of message how many were told by both, and those that only one told. The first line of
standard input is not read before both are attached. Owns neither rules nor what has to hold: the suite does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from enricher.sources.bpf import features
from enricher.sources.bpf.bccload import BccLoader
from enricher.sources.bpf.contidstore import KernelStore
from enricher.sources.bpf.hook import Hook
from enricher.sources.bpf.loader import LibbpfLoader

if TYPE_CHECKING:
    from enricher.sources.bpf.loader import Loaded

KINDS = ("mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time")
COMPARED = ("Context", "Tally", "Link", "Change", "Target", "NamespaceLife", "Refused")
"""Members and maps of users are told once, so that whoever is first has had some of them."""
MEMBERS = {
    "Context": "record_type flags pid tid ppid auid ses start cgroup_id comm stamp inums ids levels contid".split(),
    "Tally": "stamp flags total runs".split(),
    "Level": ["ns", "pid"],
}
"""Of those that are no tuples, what is compared."""
CONTID = 5
_SETTLE = 3.0  # seconds for the last deferred frees
_SHOWN = 12


def plain(value: Any) -> Any:  # noqa: ANN401 - any message
    """The same from both loaders: without the moment, and of a link only whether there is one."""
    fields = getattr(value, "_fields", None) or MEMBERS.get(type(value).__name__)
    if fields is None:
        return [plain(each) for each in value] if isinstance(value, list | tuple) else repr(value)
    told = {name: plain(getattr(value, name)) for name in fields if name not in {"time", "link", "key"}}
    if "link" in fields:
        told["linked"] = bool(value.link)
    return told


class Told:
    """All that one loader's programs have told."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.every: Counter[tuple[str, str]] = Counter()

    def take(self, *, keep: bool) -> None:
        contexts, tallies = self.loaded.drain()
        messages = [*contexts, *tallies, *self.loaded.facts]
        self.loaded.facts.clear()
        if keep:
            self.every.update((type(each).__name__, json.dumps(plain(each))) for each in messages)


def acts(workload: str, store: KernelStore | None) -> None:
    """Namespaces of every kind by two calls, a way back, signals, a pidfd, refused messages; some of it identified."""
    child = subprocess.Popen(
        [
            "sh",
            "-c",
            "read go; for n in 1 2 3; do unshare --uts --net true; done; sh -c 'kill -USR2 $PPID'; true",
        ],
        stdin=subprocess.PIPE,
    )
    if store is not None:
        own, target = os.pidfd_open(os.getpid()), os.pidfd_open(child.pid)
        store.set(caller=own, target=target, contid=CONTID)
    for kind in KINDS:
        for call in ("unshare", "clone3"):
            subprocess.run([f"{workload}/nsmake", call, kind, "--", "true"], check=False)
    subprocess.run(["nsenter", "-t", "1", "-u", "-n", "true"], check=False)
    for number in range(3):
        say = [f"{workload}/auditsay", "1112", f"said-{number}"]
        # It prints the errno that it is refused with, where the result is to be.
        subprocess.run(["unshare", "--user", "--map-root-user", *say], check=False, stdout=subprocess.DEVNULL)
    sleeper = subprocess.Popen(["sleep", "60"])
    os.close(os.pidfd_open(sleeper.pid))
    os.kill(sleeper.pid, 10)
    sleeper.wait()
    assert child.stdin
    with suppress(BrokenPipeError):
        child.stdin.write(b"go\n")
        child.stdin.close()
    child.wait()
    time.sleep(_SETTLE)


def main(workload: str) -> None:
    btf = not features.has_btf().no
    store = KernelStore(home=None) if btf else None
    shared = store.shared if store is not None else None
    uring = features.can_kprobe("__audit_uring_exit").yes
    began = time.monotonic()
    nonce = b"0123456789abcdef"
    loaders = [BccLoader(verbose=True, contid=shared)]
    if btf:
        loaders.append(LibbpfLoader(verbose=True, contid=shared))  # type: ignore[arg-type]
    both = [Told(loader.load(Hook.PLAIN, nonce, 16 << 20, uring=uring)) for loader in loaders]
    took = round(time.monotonic() - began, 1)
    for each in both:
        each.take(keep=False)
    acts(workload, store)
    for each in both:
        each.take(keep=True)
    bcc, libbpf = both[0].every, both[-1].every
    out: dict[str, Any] = {"took": took, "families": both[0].loaded.families}
    for kind in COMPARED:
        mine, theirs = (Counter({k: n for k, n in who.items() if k[0] == kind}) for who in (bcc, libbpf))
        out[kind] = {
            "both": sum((mine & theirs).values()),
            "bcc": [text for _, text in (mine - theirs).elements()][:_SHOWN],
            "libbpf": [text for _, text in (theirs - mine).elements()][:_SHOWN],
        }
    out["all"] = dict(Counter(kind for kind, _ in bcc.elements()))
    out["identified"] = sum(
        n for (kind, text), n in bcc.items() if kind == "Context" and f'["{CONTID}"]' in text
    )
    counters = both[0].loaded.counters()
    out["counters"] = {
        name: n for name, n in counters.items() if n and name.startswith(("drop_", "fail_", "limited"))
    }
    print(json.dumps(out, indent=1))
    for each in both:
        each.loaded.close()
    if store is not None:
        store.close()


main(*sys.argv[1:])
