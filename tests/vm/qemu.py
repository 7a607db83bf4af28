# SPDX-License-Identifier: Apache-2.0
"""QEMU: its command line, whether KVM truly works, and a process that never outlives its owner.

Never reads the guest's streams; see channel.py.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.vm.agent import PORT_NAME
from tests.vm.cache import cache_dir, scratch, tell
from tests.vm.emulator import ensure_emulator

__all__ = ["FORWARD", "Qemu", "QemuOptions", "usable_accelerator"]

FORWARD = "10.0.2.100"
"""Where a guest finds what is forwarded to it; itself it is 10.0.2.15."""
_PROBE_END = b"Kernel panic - not syncing: VFS"
_PROBE_LIMIT = 15.0
_PROMPT = b"(qemu) "
_MONITOR_LIMIT = 5.0
# One thread for all CPUs of a guest. With one for each, a CPU may still run an instruction that the kernel has
# patched meanwhile, as it does where programs are attached and detached: a breakpoint that nobody expects any
# more panics the guest. This costs a fifth of the time, and a second guest beside it costs nothing.
_THREADS = "single"


@dataclass(frozen=True)
class QemuOptions:
    """What to boot. Paths must exist; memory in MiB."""

    vmlinuz: Path
    initrd: Path
    append: str
    root: Path
    modules: Path
    share: Path | None
    console: Path
    smp: int
    memory: int
    icount: bool
    writable: bool
    extra: Path | None = None
    forward: tuple[int, int] | None = None


def usable_accelerator(vmlinuz: Path) -> str:
    """Return kvm or tcg. Opening /dev/kvm proves nothing, so this kernel has to run; cached per host boot."""
    chosen = os.environ.get("AUDIT_ENRICHER_ACCEL")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memo = cache_dir() / f"accelerator-{boot}"
    if memo.exists():
        return memo.read_text().strip()
    answer = "kvm" if _kvm_runs(vmlinuz) else "tcg"
    for old in cache_dir().glob("accelerator-*"):
        old.unlink(missing_ok=True)
    memo.write_text(answer + "\n")
    tell(f"accelerator: {answer}")
    return answer


def _kvm_runs(vmlinuz: Path) -> bool:
    """Whether a kernel comes as far as to miss its root disk, in a time that software emulation would do with.

    A smaller probe is not enough: there are hosts whose KVM runs a boot sector and then takes minutes for what
    comes before a kernel's first line.
    """
    with scratch("kvm") as work:
        console = work / "console"
        argv = [*ensure_emulator().argv, "-accel", "kvm", "-cpu", "host", "-m", "512", "-display", "none"]
        argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-serial", f"file:{console}"]
        argv += ["-kernel", str(vmlinuz), "-append", "console=ttyS0 panic=-1"]
        try:
            subprocess.run(  # noqa: S603 - our own words
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_LIMIT,
                check=False,
                cwd=work,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return console.exists() and _PROBE_END in console.read_bytes()


def _arguments(options: QemuOptions, agent_fd: int, monitor_fd: int) -> list[str]:
    accelerator = "tcg" if options.icount else usable_accelerator(options.vmlinuz)
    if accelerator == "kvm":
        machine = ["-accel", "kvm", "-cpu", "host"]
    elif options.icount:
        machine = ["-accel", "tcg,thread=single", "-cpu", "max", "-icount", "shift=0,sleep=off"]
    else:
        machine = ["-accel", f"tcg,thread={os.environ.get('AUDIT_ENRICHER_TCG', _THREADS)}", "-cpu", "max"]
    snapshot = "off" if options.writable else "on"
    argv = [
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=readline"),
        *machine,
        *("-smp", str(options.smp), "-m", str(options.memory)),
        *("-kernel", str(options.vmlinuz), "-initrd", str(options.initrd), "-append", options.append),
        *("-serial", f"file:{options.console}"),
        *("-drive", f"if=none,id=root,format=raw,cache=unsafe,snapshot={snapshot},file={options.root}"),
        *("-device", "virtio-blk-pci,drive=root,serial=root"),
        *("-drive", f"if=none,id=modules,format=raw,readonly=on,file={options.modules}"),
        *("-device", "virtio-blk-pci,drive=modules,serial=modules"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,fd={agent_fd}"),
        *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
    ]
    if options.share is not None:
        argv += ["-drive", f"if=none,id=share,format=raw,readonly=on,file={options.share}"]
        argv += ["-device", "virtio-blk-pci,drive=share,serial=share"]
    if options.extra is not None:
        argv += ["-drive", f"if=none,id=extra,format=raw,readonly=on,file={options.extra}"]
        argv += ["-device", "virtio-blk-pci,drive=extra,serial=extra"]
    if options.forward is not None:
        # A network of its own, which leads nowhere but to this one port of our loopback. A command for each
        # connection: without it all of them would share one.
        port, ours = options.forward
        way = f"guestfwd=tcp:{FORWARD}:{port}-cmd:busybox nc 127.0.0.1 {ours}"
        argv += ["-netdev", f"user,id=net,restrict=on,ipv6=off,{way}"]
        argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
    return argv


class Qemu:
    """One QEMU process."""

    def __init__(self, options: QemuOptions, *, lock_fd: int, workdir: Path) -> None:
        """Start it. The lock's descriptor is inherited, so the lock stays held exactly as long as QEMU lives."""
        emulator = ensure_emulator()
        self.agent, theirs = socket.socketpair()
        self._monitor, monitor = socket.socketpair()
        self._messages = workdir / "qemu.log"
        with theirs, monitor, self._messages.open("wb") as log:
            # setpriv becomes QEMU (same pid) and has the kernel kill it with its parent, even on SIGKILL.
            argv = ["setpriv", "--pdeathsig", "KILL", "--", *emulator.argv]
            argv += _arguments(options, theirs.fileno(), monitor.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - our own words
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(), monitor.fileno(), lock_fd),
                # The snapshot's temporary file goes where the cache already has room for disks.
                env={**os.environ, "TMPDIR": str(workdir)},
            )

    @property
    def pid(self) -> int:
        """The process id, for tests that kill it."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """None while it runs, then its exit status (negative: signal)."""
        return self._process.poll()

    def said(self) -> str:
        """Return what QEMU itself printed."""
        try:
            return self._messages.read_text(errors="replace").strip()
        except OSError:
            return ""

    def ask(self, command: str) -> str:
        """Return what QEMU's monitor answers to one command; what has come when it stays silent for a while."""
        answer = b""
        with contextlib.suppress(OSError):
            self._monitor.settimeout(_MONITOR_LIMIT)
            self._monitor.sendall(command.encode() + b"\n")
            # Its prompt comes before the first command too, and it echoes what was typed.
            while not answer.endswith(_PROMPT) or command.encode() not in answer:
                data = self._monitor.recv(65536)
                if not data:
                    break
                answer += data
        return answer.decode(errors="replace").replace("\r", "")

    def wait(self, timeout: float) -> int:
        """Wait until it ends by itself."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """End it and reap it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.agent.close()
        self._monitor.close()
