# SPDX-License-Identifier: Apache-2.0
"""Probes on functions of modules that may be loaded long after us, unloaded, and loaded again.

Owns the probes and the kernel's list of them. A probe that names a module is armed by the kernel itself when the module
is loaded, before any of its code runs, so that nobody has to look for modules, nothing is missed, and no capability is
kept for it. Such a probe can be made through tracefs alone, which needs the right to write there (CAP_DAC_OVERRIDE for
whoever is not root). Without it there are probes on the modules that are loaded at the start, and `reason` says so.

The list is the host's: at the end our probes are taken off it, but for those that another of us uses. What one left
that was killed is used again. A probe that nobody uses is not armed.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from enricher.sources.bpf import perfevent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enricher.sources.bpf.libbpf import Libbpf

TRACEFS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
GROUP: Final = "audit_enricher"

_XT: Final = ("xt_AUDIT:audit_tg", "xt_AUDIT:audit_tg_ebt")
_NFT: Final = ("nft_log:nft_log_eval",)
_TABLES: Final = (
    "ip_tables:ipt_unregister_table_exit",
    "ip6_tables:ip6t_unregister_table_exit",
    "arp_tables:arpt_unregister_table",
    "ebtables:ebt_unregister_table",
)


class Probe(NamedTuple):
    """One program of the object and what it is called for: ``MODULE:function``, its entry or its exit."""

    program: str
    functions: tuple[str, ...]
    exit: bool = False


PROBES: Final = (
    # What takes a note away comes before what makes one.
    Probe("about_over", (*_XT, *_NFT, *_TABLES), exit=True),
    Probe("packet_by_target", _XT),
    Probe("packet_by_expression", _NFT),
    Probe("table_gone", _TABLES),
)


class ModuleProbes:
    """The probes of one loaded object, from `attach` to `close`. ``reason`` is "" where all are there for good."""

    def __init__(self, lib: Libbpf, tracefs: Iterable[Path] = TRACEFS) -> None:
        self._lib = lib
        self._tracefs = tuple(tracefs)
        self._links: list[int] = []
        self._list = -1
        self._listed: list[str] = []
        self.reason = ""

    def attach(self, program: Callable[[str], int]) -> None:
        """Attach all that can be had; `program` gives libbpf's program of a name. Never raises for a probe."""
        try:
            self._through_tracefs(program)
        except OSError as error:
            self.close()
            present = self._now(program)
            where = f"{error.filename}: " if error.filename else ""
            self.reason = (
                f"only for modules that were loaded at the start ({', '.join(present) or 'none'}):"
                f" {where}{error.strerror}"
            )

    def _through_tracefs(self, program: Callable[[str], int]) -> None:
        root = next((path for path in self._tracefs if (path / "kprobe_events").exists()), self._tracefs[0])
        self._list = os.open(root / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        for probe in PROBES:
            name = f"{GROUP}/{probe.program}"
            for function in probe.functions:
                try:
                    self._write(f"{'r' if probe.exit else 'p'}:{name} {function}")
                except OSError as error:
                    if error.errno == errno.ENOENT:  # the module is loaded and has no such function
                        continue
                    if error.errno != errno.EEXIST:
                        error.filename = str(root / "kprobe_events")
                        raise
                if name not in self._listed:
                    self._listed.append(name)
            if name in self._listed:
                # Missing where another of us, at its end, has just taken it away.
                identity = int((root / "events" / name / "id").read_text())
                self._attach_event(program(probe.program), identity)

    def _write(self, line: str) -> None:
        os.write(self._list, f"{line}\n".encode())

    def _attach_event(self, program: int, identity: int) -> None:
        """One event on one CPU: what is attached to it is called on every CPU."""
        fd = perfevent.open_disabled(perfevent.TRACEPOINT, identity)
        link = self._lib.bpf_program__attach_perf_event(program, fd)
        if not link:
            number = ctypes.get_errno()
            os.close(fd)
            raise OSError(number, f"a program cannot be attached: {os.strerror(number)}")
        self._links.append(link)  # which has the descriptor now

    def _now(self, program: Callable[[str], int]) -> list[str]:
        """Attach to what there is now; returns the functions."""
        found = []
        for probe in PROBES:
            for function in probe.functions:
                symbol = function.partition(":")[2].encode()
                link = self._lib.bpf_program__attach_kprobe(program(probe.program), probe.exit, symbol)
                if link:
                    self._links.append(link)
                    if not probe.exit:
                        found.append(function)
        self._lib.take_log()
        return found

    def close(self) -> None:
        """Detach, and take our probes off the kernel's list; the kernel keeps those that another of us uses."""
        while self._links:
            self._lib.bpf_link__destroy(self._links.pop())
        while self._listed:
            try:
                self._write(f"-:{self._listed.pop()}")
            except OSError:
                continue
        if self._list >= 0:
            os.close(self._list)
            self._list = -1
