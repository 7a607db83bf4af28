# SPDX-License-Identifier: Apache-2.0
"""The program inside the guest: runs commands for the host over a virtio-serial port. Standard library only.

Owns the wire format, which the host side imports from here. A frame is the magic, the lengths of a JSON header and
of a raw payload (big endian, 4 bytes each), the header, the payload. Frames of many requests interleave; `id` in the
header tells them apart, and the host chooses it.

To the guest: exec, stdin, signal, resize, put, get, ping. To the host: hello, stdout, stderr, exit, data, done,
error, pong.
Never interprets output, never retries, never outlives the connection's framing: a bad frame ends the agent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PORT_NAME = "org.audit-enricher.agent"
CHUNK = 1 << 16
_MAGIC = b"AEvm"
_HEAD = struct.Struct("!4sII")
# A process that daemonised keeps its parent's pipes open: not waited for after so many looks without anything in them.
# Looks and no clock: a machine that stood still for a second has shown nothing.
_LINGER_LOOKS = 20
_LOOK = 0.05

Value = str | int | list[str] | list[int] | dict[str, str] | None
Header = dict[str, Value]


class FrameError(Exception):
    """The stream does not carry frames (any more)."""


def encode(header: Header, payload: bytes = b"") -> bytes:
    """Return one frame."""
    raw = json.dumps(header, separators=(",", ":")).encode()
    return _HEAD.pack(_MAGIC, len(raw), len(payload)) + raw + payload


def read_frame(read_exact: Callable[[int], bytes]) -> tuple[Header, bytes]:
    """Read one frame through a function that returns exactly as many bytes as asked for."""
    magic, header_size, payload_size = _HEAD.unpack(read_exact(_HEAD.size))
    if magic != _MAGIC:
        message = f"bad magic {magic!r}"
        raise FrameError(message)
    header: Header = json.loads(read_exact(header_size))
    return header, read_exact(payload_size) if payload_size else b""


def number(header: Header, key: str, default: int = 0) -> int:
    """Return an integer of a header."""
    value = header.get(key)
    return value if isinstance(value, int) else default


def text(header: Header, key: str, default: str = "") -> str:
    """Return a string of a header."""
    value = header.get(key)
    return value if isinstance(value, str) else default


class Port:
    """The virtio-serial port: whole frames in, whole frames out."""

    def __init__(self, path: str) -> None:
        """Open the port; the host is connected before the guest boots."""
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._buffer = bytearray()

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Write one frame; blocks while the host does not read."""
        frame = memoryview(encode(header, payload))
        with self._lock:
            while frame:
                frame = frame[os.write(self._fd, frame) :]

    def receive(self) -> tuple[Header, bytes]:
        """Read one frame."""
        return read_frame(self._exactly)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = os.read(self._fd, CHUNK)
            if data:
                self._buffer += data
            else:
                # Nobody is connected on the host's side.
                time.sleep(0.05)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class Command:
    """One running command and the threads that carry its streams."""

    def __init__(self, port: Port, header: Header, done: Callable[[], object]) -> None:
        """Start the command; OSError when that fails."""
        self._port = port
        self._id = number(header, "id")
        self._done = done
        self._input: queue.SimpleQueue[bytes | None] | None = None
        self._moves = 0
        self._sending: set[int] = set()
        argv, size = header.get("argv"), header.get("pty")
        extra = header.get("env")
        if not (isinstance(argv, list) and argv):
            raise FileNotFoundError(2, "empty argv")
        words = [str(word) for word in argv]
        env = {**os.environ, **(extra if isinstance(extra, dict) else {})}
        cwd = text(header, "cwd") or None
        self._pty = -1
        if isinstance(size, list):
            self._start_on_pty(words, env, cwd, [int(part) for part in size])
        else:
            stdin = subprocess.PIPE if header.get("stdin") else subprocess.DEVNULL
            self._process = subprocess.Popen(  # noqa: S603 - running what the host asks for is the purpose
                words,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        self._readers: list[threading.Thread] = []

    def begin(self) -> None:
        """Let the streams flow; apart from the constructor so that the command is registered before it can end."""
        for name, fd in self._outputs():
            self._readers.append(self._thread(self._carry_out, name, fd))
        target = self._pty if self._pty >= 0 else self._stdin_fd()
        if target >= 0:
            self._input = queue.SimpleQueue()
            self._thread(self._carry_in, self._input, target)
        self._thread(self._wait)

    def _start_on_pty(self, argv: list[str], env: dict[str, str], cwd: str | None, size: list[int]) -> None:
        master, slave = os.openpty()
        self._pty = master
        self.resize(size[0], size[1])
        # setsid --ctty makes the terminal the controlling one and then is replaced by the command.
        self._process = subprocess.Popen(  # noqa: S603
            ["/usr/bin/setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd
        )
        os.close(slave)

    def _outputs(self) -> list[tuple[str, int]]:
        if self._pty >= 0:
            return [("stdout", self._pty)]
        pairs = (("stdout", self._process.stdout), ("stderr", self._process.stderr))
        return [(name, stream.fileno()) for name, stream in pairs if stream is not None]

    def _stdin_fd(self) -> int:
        return self._process.stdin.fileno() if self._process.stdin is not None else -1

    @staticmethod
    def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        return thread

    def feed(self, data: bytes, *, eof: bool) -> None:
        """Queue input; never blocks, the command's appetite is its own thread's affair."""
        if self._input is not None:
            if data:
                self._input.put(data)
            if eof:
                self._input.put(None)

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        if self._pty >= 0:
            fcntl.ioctl(self._pty, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def kill(self, number_: int, *, group: bool) -> None:
        """Send a signal to the command's process group, or to the command alone."""
        # A reaped pid may belong to someone else by now; the group's id stays taken while a member lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self._process.pid, number_)
            elif self._process.returncode is None:
                os.kill(self._process.pid, number_)

    def _carry_out(self, name: str, fd: int) -> None:
        while True:
            try:
                data = os.read(fd, CHUNK)
            except OSError:
                # EIO is how a pty says that its last user has gone.
                return
            if not data:
                return
            self._sending.add(fd)
            self._port.send({"op": name, "id": self._id}, data)
            self._moves += 1
            self._sending.discard(fd)

    def _carry_in(self, source: queue.SimpleQueue[bytes | None], fd: int) -> None:
        with contextlib.suppress(OSError):
            while (data := source.get()) is not None:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _wait(self) -> None:
        status = self._process.wait()
        for reader in self._readers:
            quiet = 0
            while reader.is_alive() and quiet < _LINGER_LOOKS:
                before = self._moves
                reader.join(_LOOK)
                quiet = 0 if self._sending or self._moves != before else quiet + 1
        self._port.send({"op": "exit", "id": self._id, "status": status})
        self._done()


class Agent:
    """Takes the host's requests one by one; nothing here waits for a command."""

    def __init__(self, port: Port) -> None:
        """Serve one port."""
        self._port = port
        self._commands: dict[int, Command] = {}
        self._parts: dict[int, int] = {}

    def run(self) -> None:
        """Say hello and serve until the guest goes down."""
        self._port.send({"op": "hello", "version": os.uname().release, "uptime": _uptime()})
        while True:
            header, payload = self._port.receive()
            handler = getattr(self, "on_" + text(header, "op"), None)
            try:
                if handler is None:
                    raise FrameError(text(header, "op"))
                handler(header, payload)
            except OSError as error:
                self._fail(header, error)

    def _fail(self, header: Header, error: OSError) -> None:
        reply: Header = {
            "op": "error",
            "id": number(header, "id"),
            "errno": error.errno or 0,
            "message": error.strerror or str(error),
            "path": os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "",
        }
        self._port.send(reply)

    def on_ping(self, header: Header, _payload: bytes) -> None:
        """Prove that the guest still schedules processes."""
        self._port.send({"op": "pong", "id": number(header, "id")})

    def on_exec(self, header: Header, _payload: bytes) -> None:
        """Start a command."""
        key = number(header, "id")
        self._commands[key] = command = Command(self._port, header, lambda: self._commands.pop(key))
        command.begin()

    def on_stdin(self, header: Header, payload: bytes) -> None:
        """Pass input on; a command that has ended no longer wants it."""
        command = self._commands.get(number(header, "id"))
        if command is not None:
            command.feed(payload, eof=bool(header.get("eof")))

    def on_signal(self, header: Header, _payload: bytes) -> None:
        """Signal a command."""
        command = self._commands.get(number(header, "id"))
        if command is not None:
            command.kill(number(header, "signal", signal.SIGTERM), group=bool(header.get("group", True)))

    def on_resize(self, header: Header, _payload: bytes) -> None:
        """Follow the size of the host's terminal."""
        command = self._commands.get(number(header, "id"))
        if command is not None:
            command.resize(number(header, "rows", 24), number(header, "columns", 80))

    def on_put(self, header: Header, payload: bytes) -> None:
        """Take one part of a file; the last one moves it into place."""
        key, path = number(header, "id"), text(header, "path")
        part = f"{path}.part{key}"
        try:
            if key not in self._parts:
                os.makedirs(os.path.dirname(path) or "/", exist_ok=True)  # noqa: PTH103, PTH120 - pathlib costs start-up time
                self._parts[key] = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            view = memoryview(payload)
            while view:
                view = view[os.write(self._parts[key], view) :]
            if header.get("last"):
                fd = self._parts.pop(key)
                os.fchmod(fd, number(header, "mode", 0o644))
                os.close(fd)
                os.replace(part, path)  # noqa: PTH105
                self._port.send({"op": "done", "id": key})
        except OSError:
            if key in self._parts:
                os.close(self._parts.pop(key))
            raise

    def on_get(self, header: Header, _payload: bytes) -> None:
        """Send a file from a thread of its own; pseudo files without a size are read to their end."""
        fd = os.open(text(header, "path"), os.O_RDONLY | os.O_CLOEXEC)
        threading.Thread(target=self._send_file, args=(header, fd), daemon=True).start()

    def _send_file(self, header: Header, fd: int) -> None:
        key = number(header, "id")
        try:
            while data := os.read(fd, CHUNK):
                self._port.send({"op": "data", "id": key}, data)
            self._port.send({"op": "done", "id": key})
        except OSError as error:
            self._fail(header, error)
        finally:
            os.close(fd)


def _uptime() -> int:
    with open("/proc/uptime", encoding="ascii") as source:  # noqa: PTH123
        return int(float(source.read().split()[0]) * 1000)


def _find_port() -> str:
    """Return the port's device node; sysfs knows its name before udev has made a link."""
    base = "/sys/class/virtio-ports"
    for _ in range(200):
        with contextlib.suppress(OSError):
            for entry in os.listdir(base):  # noqa: PTH208
                with open(f"{base}/{entry}/name", encoding="utf-8") as source:  # noqa: PTH123
                    if source.read().strip() == PORT_NAME:
                        return f"/dev/{entry}"
        select.select([], [], [], 0.05)
    message = f"no virtio port named {PORT_NAME}"
    raise FrameError(message)


def main() -> None:
    """Serve the host; an uncaught error shows on the console, which the host watches."""
    try:
        Agent(Port(_find_port())).run()
    except BaseException as error:  # noqa: BLE001 - the last act: whatever it is must be seen
        with open("/dev/console", "w", encoding="utf-8") as console:  # noqa: PTH123
            console.write(f"vm agent ends: {error!r}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
