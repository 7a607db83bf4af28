# SPDX-License-Identifier: Apache-2.0
"""A booted machine: QEMU, the channel to its agent, and the watch that notices when it is gone.

Owns the machine-wide rule that no more guests run at a time than there are cores, at most two: an emulated guest takes
one core whatever it does.
Never builds anything; guest.py and image.py hand in a kernel and a root disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from tests.vm.agent import CHUNK, Header, text
from tests.vm.cache import LockFile, cache_dir, scratch, tell
from tests.vm.channel import Channel, Request
from tests.vm.disk import make_share
from tests.vm.errors import CommandFailed, GuestBusy, GuestLost, GuestTimeout
from tests.vm.gdbstub import GdbStub
from tests.vm.process import PATIENCE, GuestProcess
from tests.vm.qemu import FORWARD, Qemu, QemuOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tests.vm.kernels import Kernel

__all__ = ["BootOptions", "Completed", "Machine"]

BOOT_LIMIT = 180.0 * PATIENCE
_BOOT_ATTEMPTS = 3
_WATCHER_LIMIT = 30.0
# oops=panic: a kernel that oopsed under our programs has failed, whatever it answers afterwards.
_APPEND = (
    "console=ttyS0 quiet panic=-1 oops=panic audit=1 audit_backlog_limit=8192 mitigations=off nowatchdog "
    "random.trust_cpu=on 8250.nr_uarts=1 no_timer_check damon_stat.enabled=0 "
    "unknown_nmi_panic"
)
_PANIC = re.compile(rb"Kernel panic - not syncing|vm agent ends|^initramfs: ", re.MULTILINE)
_PING_EVERY = 5.0
_SILENCE_LIMIT = 90.0 * PATIENCE
_CONSOLE_LINES = 30
_POST_MORTEM_LINES = 60
_TRACE_LIMIT = 5.0
_SEATS = ("guest.lock", "guest-2.lock")[: os.cpu_count()]
_running = threading.Semaphore(len(_SEATS))


@dataclass(frozen=True)
class BootOptions:
    """How to boot; memory in MiB. icount implies one CPU and repeatable instruction counts.

    forward is a port that the guest has at `FORWARD`, and the port of our loopback that it is (see `join_network`).
    extra is a disk image that the guest finds, not mounted, as /dev/disk/by-id/virtio-extra.
    maxcpus is the number of possible CPUs, of which smp are online. Kernels from 6.9 on do not count a CPU that is
    merely hot-pluggable here, so all are present and the kernel's own maxcpus= leaves the rest asleep.
    """

    smp: int = 2
    memory: int = 2048
    extra_append: str = ""
    maxcpus: int | None = None
    icount: bool = False
    share: Path | None = None
    writable: bool = False
    extra: Path | None = None
    forward: tuple[int, int] | None = None


@dataclass(frozen=True)
class Completed:
    """The end of a command; returncode is negative for a signal, 127 for an absent program."""

    argv: list[str]
    returncode: int
    stdout: bytes
    stderr: bytes


class Machine:
    """A context manager: booted inside, gone without trace outside."""

    def __init__(self, kernel: Kernel, root: Path, options: BootOptions, *, name: str) -> None:
        """Prepare; nothing runs before the context is entered."""
        self.kernel = kernel
        self.boot_seconds = 0.0
        self.console: Path
        self._name = name
        self._root = root
        self._options = options
        self._stack = ExitStack()
        self._lost: str | None = None
        self._stopping = threading.Event()
        self._qemu: Qemu
        self._watcher: threading.Thread
        self._channel: Channel
        self._work: Path

    def __enter__(self) -> Self:
        """Boot and wait for the agent.

        A guest that is lost before its agent answers is booted again: nothing of ours runs in it yet, and
        emulated kernels die now and then while they patch their own code (seen on 7.2).
        """
        for attempt in range(1, _BOOT_ATTEMPTS + 1):
            try:
                self._boot()
            except GuestLost as error:
                self._stack.close()
                if attempt == _BOOT_ATTEMPTS:
                    raise
                tell(f"boot {attempt} of {_BOOT_ATTEMPTS} was lost: {str(error).splitlines()[0]}")
                self._watcher.join(_WATCHER_LIMIT)
                self._lost = None
                self._stopping = threading.Event()
            except BaseException:
                self._stack.close()
                raise
            else:
                return self
        raise AssertionError("unreachable: the last attempt returns or raises")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the machine; its disk was a snapshot."""
        self._stack.close()

    @property
    def version(self) -> str:
        """What uname -r says in the guest."""
        return text(self._channel.hello or {}, "version")

    @property
    def qemu_pid(self) -> int:
        """QEMU's process id."""
        return self._qemu.pid

    def run(  # noqa: PLR0913 - the shape of subprocess.run
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        input: bytes | None = None,  # noqa: A002 - as in subprocess
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        check: bool = False,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> Completed:
        """Run a command to its end. A stream given for stdout or stderr gets the data instead of the result.

        Raises GuestTimeout (the command is killed, what it wrote is attached), GuestLost, and with check=True
        CommandFailed.
        """
        kept = {"stdout": bytearray(), "stderr": bytearray()}
        sinks = {
            "stdout": kept["stdout"].extend if stdout is None else _flushing(stdout),
            "stderr": kept["stderr"].extend if stderr is None else _flushing(stderr),
        }
        with self.popen(argv, env=env, cwd=cwd, stdin=input is not None) as process:
            if input is not None:
                process.write(input)
                process.close_stdin()
            try:
                status = process.pump(sinks, timeout)
            except GuestTimeout as error:
                out, err = bytes(kept["stdout"]), bytes(kept["stderr"])
                tail = (out + err)[-1500:].decode(errors="replace")
                message = f"{error}\n{tail}"
                raise GuestTimeout(message, out, err) from None
        done = Completed(list(argv), status, bytes(kept["stdout"]), bytes(kept["stderr"]))
        if check and status:
            raise CommandFailed(done.argv, status, done.stdout, done.stderr)
        return done

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bool = False,
        pty: tuple[int, int] | None = None,
    ) -> GuestProcess:
        """Start a command. env is added to the agent's; pty is the size (rows, columns) of a terminal to give it."""
        header: Header = {
            "env": dict(env or {}),
            "cwd": cwd,
            "stdin": stdin,
            "pty": list(pty) if pty else None,
        }
        return GuestProcess(self._channel, list(argv), header)

    def put(self, path: str, data: bytes, mode: int = 0o644, *, timeout: float = 120.0) -> None:
        """Write a file in the guest; it appears complete or not at all. OSError as the guest saw it."""
        parts = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)] or [b""]
        first: Header = {"op": "put", "path": path, "mode": mode, "last": len(parts) == 1}
        request = self._channel.open(first, parts[0])
        for index, part in enumerate(parts[1:], start=2):
            self._channel.send(request, {**first, "last": index == len(parts)}, part)
        self._finish(request, f"put {path}", timeout)

    def get(self, path: str, *, timeout: float = 120.0) -> bytes:
        """Read a file of the guest; OSError as the guest saw it."""
        request = self._channel.open({"op": "get", "path": path})
        self._finish(request, f"get {path}", timeout)
        return bytes(request.streams["data"])

    def wait_up(self, timeout: float = 120.0) -> str:
        """Wait until systemd has no start-up jobs left; return its state (running, or degraded: a unit failed)."""
        done = self.run(["systemctl", "is-system-running", "--wait"], timeout=timeout)
        return done.stdout.decode().strip()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Stand still in the block, as a virtual machine does that its host suspends: no CPU runs, no clock goes on."""
        self._qemu.ask("stop")
        try:
            yield
        finally:
            self._qemu.ask("cont")

    @contextlib.contextmanager
    def memory(self) -> Iterator[GdbStub]:
        """The guest's memory, by the virtual addresses of its kernel; it stands still in the block."""
        path = self._work / "gdb.sock"
        self._qemu.ask(f"gdbserver unix:{path},server=on,wait=off")
        try:
            with GdbStub(path) as stub:
                yield stub
        finally:
            self._qemu.ask("gdbserver none")

    def join_network(self) -> None:
        """Bring up the network of a guest that was booted with `forward`."""
        # The only card there is; what it is called depends on the kernel and udev.
        script = (
            "modprobe virtio_net && udevadm settle && card=$(ls /sys/class/net | grep -vx lo | head -n 1) &&"
            f' ip address add {FORWARD.rpartition(".")[0]}.15/24 dev "$card" && ip link set "$card" up'
        )
        self.run(["sh", "-c", script], check=True)

    def power_off(self, timeout: float = 60.0) -> None:
        """Shut down in order (only of use with a writable disk) and wait for QEMU's end."""
        timeout *= PATIENCE
        self._stopping.set()
        with contextlib.suppress(GuestLost, GuestTimeout):
            self.run(["systemctl", "poweroff", "--no-block"])
        try:
            self._qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            message = f"the guest did not power off in {timeout:.0f} s{self._console_tail()}"
            raise GuestTimeout(message) from None

    def _finish(self, request: Request, what: str, timeout: float) -> None:
        timeout *= PATIENCE
        try:
            with request.changed:
                if not request.wait_for(lambda: request.finished, timeout):
                    message = f"{what} took more than {timeout:.0f} s"
                    raise GuestTimeout(message)
        finally:
            self._channel.close(request)
        if request.error is not None:
            raise request.error

    def _boot(self) -> None:
        if not _running.acquire(blocking=False):
            message = "this process already runs as many guests as there is room for"
            raise GuestBusy(message)
        self._stack.callback(_running.release)
        lock = LockFile(*_SEATS)
        lock.acquire("guest")
        self._stack.callback(lock.release)
        self.console = cache_dir() / "logs" / f"console-{self._name}-{lock.seat + 1}.log"
        work = self._work = self._stack.enter_context(scratch("guest"))
        self.console.parent.mkdir(exist_ok=True)
        if self.console.exists():
            self.console.replace(self.console.with_suffix(".log.1"))
        started = time.monotonic()
        self._qemu = Qemu(self._qemu_options(work), lock_fd=lock.fd, workdir=work)
        self._stack.callback(self._qemu.kill)
        self._stack.callback(self._stopping.set)
        self._channel = Channel(self._qemu.agent, self._on_broken)
        self._watcher = threading.Thread(target=self._watch, name="vm-watch", daemon=True)
        self._watcher.start()
        if not self._channel.wait_hello(BOOT_LIMIT):
            message = f"no agent after {BOOT_LIMIT:.0f} s of booting{self._console_tail()}"
            raise GuestTimeout(message)
        self.boot_seconds = time.monotonic() - started

    def _qemu_options(self, work: Path) -> QemuOptions:
        options, kernel = self._options, self.kernel
        append = f"{_APPEND} vm.share={int(options.share is not None)} {options.extra_append}"
        smp = 1 if options.icount else options.smp
        if options.maxcpus is not None:
            append = f"{append} maxcpus={smp}"
            smp = options.maxcpus
        share = None
        if options.share is not None:
            share = work / "share.ext4"
            make_share(options.share, share)
        return QemuOptions(
            kernel.vmlinuz,
            kernel.initrd,
            append.strip(),
            self._root,
            kernel.modules,
            share,
            self.console,
            smp,
            options.memory,
            options.icount,
            options.writable,
            options.extra,
            options.forward,
        )

    def _on_broken(self, reason: str) -> None:
        """Give QEMU a moment to be seen dead: that reason says more than the end of a stream."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._qemu.wait(2)
        self._declare_lost(self._why_lost() or f"the agent's port broke: {reason}")

    def _watch(self) -> None:
        """Look for the three ways to lose a guest; runs in a thread of its own until the end."""
        pinged = time.monotonic()
        while not self._stopping.wait(0.25):
            reason = self._why_lost()
            if reason:
                self._declare_lost(reason)
                return
            now = time.monotonic()
            if self._channel.hello is not None and now - pinged > _PING_EVERY:
                pinged = now
                self._channel.ping()

    def _why_lost(self) -> str | None:
        status = self._qemu.status
        panic = _PANIC.search(self._console_bytes())
        if panic is not None:
            return f"the console says {panic[0].decode()!r}"
        if status is not None:
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            return f"QEMU ended {how} {self._qemu.said()[-2000:]}".strip()
        silence = time.monotonic() - self._channel.last_heard
        if self._channel.hello is not None and silence > _SILENCE_LIMIT:
            return f"the agent has been silent for {silence:.0f} s"
        return None

    def _declare_lost(self, reason: str) -> None:
        message = f"{self.kernel.slot} ({self.kernel.version}): guest lost: {reason}"
        if not self._stopping.is_set():
            # A panicking kernel prints its reason first and the trace after it.
            time.sleep(0.3)
            message += self._console_tail()
            if self._qemu.status is None:
                message += self._post_mortem()
        self._channel.lose(message)

    def _post_mortem(self) -> str:
        """Return where the CPUs of a guest that went silent are: their registers, and the trace of an NMI."""
        registers = self._qemu.ask("info registers -a")
        where = [line for line in registers.splitlines() if line.startswith(("CPU#", "RIP=", "RSP="))]
        before = len(self._console_bytes())
        self._qemu.ask("nmi")
        deadline = time.monotonic() + _TRACE_LIMIT
        while time.monotonic() < deadline and self._qemu.status is None:
            time.sleep(0.1)
        trace = self._console_bytes()[before:].decode(errors="replace").splitlines()[:_POST_MORTEM_LINES]
        return "\n".join(["", "--- where its CPUs are ---", *where, "--- after an NMI ---", *trace])

    def _console_bytes(self) -> bytes:
        try:
            return self.console.read_bytes()
        except OSError:
            return b""

    def _console_tail(self) -> str:
        lines = self._console_bytes().decode(errors="replace").splitlines()[-_CONSOLE_LINES:]
        return (
            "\n--- last lines of the console ---\n" + "\n".join(lines)
            if lines
            else "\n(the console is empty)"
        )


def _flushing(stream: IO[bytes]) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write
