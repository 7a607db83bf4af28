# SPDX-License-Identifier: Apache-2.0
"""The container identifiers' socket: greets, takes one request, has the store do it, answers. See docs/contid.md.

Owns the clients, their bounds, and the order in which a peer is identified. Who may do what is decided in the kernel,
by the store; what came of it is told by `contid_log`. Never waits, and never raises for what a client does or leaves
undone.

The pipeline's loop drives it like the control socket: `fileno` is an epoll descriptor. What is bounded: clients (the
oldest goes for a new one), the bytes of a request, descriptors in a message, and for each user but root the attempts in
a second, so that nobody fills the log with refusals.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import select
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from enricher.enrich.contid import error_name
from enricher.errors import UsageError
from enricher.facts import CONTID_UNSET
from enricher.runtime import contid_peer, contid_request
from enricher.runtime.contid_log import Attempt, ContidLog
from enricher.runtime.contid_peer import NotKnown, Peer
from enricher.runtime.listening import listen_unix
from enricher.sources import cgroups
from enricher.sources.host import PROC

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from enricher.runtime.contid_peer import Message
    from enricher.runtime.contid_request import Request
    from enricher.sources.contid import ContidStore

CLIENTS_MAX: Final = 64
ATTEMPTS: Final = 20
"""A second and user, but for root; as many may come at once."""
USERS_MAX: Final = 1024
LIST_MAX: Final = 4096
"""Identifiers in the answer to `list`; ``cut`` says that there are more."""
_OFF: Final = "contid is off: there is no store in the kernel"
_HINTS: Final = {
    errno.EINVAL: "18446744073709551615 means unset, and an identifier cannot be taken away",
    errno.EPERM: "the caller needs CAP_AUDIT_CONTROL in the initial user namespace, or a grant",
    errno.EBUSY: "the target has children or threads already: set it before it makes any, or as an orchestrator",
    errno.EXDEV: "the target has to be a descendant of the caller, and not the caller itself",
    errno.EEXIST: "the target has an identifier that the caller may not nest in",
    errno.ENOTUNIQ: "the identifier is in use by another owner, or not yet free again",
    errno.ESRCH: "the target or the caller has ended",
    errno.EMLINK: "identifiers are nested as deeply as they can be",
    errno.ENOSPC: "the store is full",
    errno.EAGAIN: f"this user has made more than {ATTEMPTS} attempts in a second",
    errno.ENOSYS: "set contid.enabled, and see what the service said when it started",
}
_NO_TARGET: Final = "needs the pidfd of the target, sent with the request"


class _Client:
    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self.socket = connection
        self.peer = peer
        self.nonce = secrets.token_hex(16)
        self.received = bytearray()
        self.out = bytearray()
        self.answered = False
        self.target = -1  # a descriptor that came with the request

    def close(self) -> None:
        if self.target >= 0:
            os.close(self.target)
            self.target = -1
        self.peer.close()
        self.socket.close()


class ContidServer:
    """Listens at `path`. `store` None: every request is answered with ENOSYS, and told.

    ``now`` gives monotonic seconds. The counters: ``refused`` requests that were not well formed, ``unknown`` peers
    that could not be identified, ``crowded_out`` clients, ``limited`` attempts over the rate, ``unaccepted``
    connections.
    Raises UsageError where the socket cannot be made.
    """

    def __init__(
        self, path: str, group: str, store: ContidStore | None, log: ContidLog, now: Callable[[], float]
    ) -> None:
        self._store, self._log, self._now = store, log, now
        self._listener = listen_unix(path, group, "contid")
        self.advice = self._listener.advice
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._clients: dict[int, _Client] = {}
        self._rates: OrderedDict[int, tuple[float, float]] = (
            OrderedDict()
        )  # by user: what is left, since when
        self.refused = self.unknown = self.crowded_out = self.limited = 0
        self.ask_kernel = True  # for SO_PEERPIDFD; tests take the other way as well
        self.proc = PROC

    def fileno(self) -> int:
        """Return a descriptor that is readable (level-triggered) when `serve` has something to do."""
        return self._epoll.fileno()

    def serve(self) -> None:
        """Do everything that can be done now."""
        knocked = False
        for fd, ready in self._epoll.poll(0):
            if fd == self._listener.fileno():
                knocked = True
            elif (client := self._clients.get(fd)) is not None:
                if ready & select.EPOLLOUT:
                    self._flush(client)
                elif ready & select.EPOLLIN:
                    self._receive(client)
                elif ready & (select.EPOLLHUP | select.EPOLLERR):
                    self._drop(client)
        if knocked:
            self._accept()

    def counts(self) -> dict[str, int]:
        """Return every counter by its name, for the status."""
        names = ("refused", "unknown", "crowded_out", "limited")
        mine = {name: int(getattr(self, name)) for name in names}
        return {**mine, "unaccepted": self._listener.unaccepted, "dropped": self._log.dropped}

    def close(self) -> None:
        """Let all clients go and remove the socket. A second call does nothing."""
        if not self._epoll.closed:
            for client in list(self._clients.values()):
                self._drop(client)
            self._listener.close()
            self._epoll.close()

    def _accept(self) -> None:
        while (connection := self._listener.accept()) is not None:
            try:
                peer = Peer.of(connection, ask_kernel=self.ask_kernel)
            except (NotKnown, OSError):
                self.unknown += 1
                connection.close()
                continue
            if len(self._clients) >= CLIENTS_MAX:
                self.crowded_out += 1
                self._drop(next(iter(self._clients.values())))
            client = _Client(connection, peer)
            self._clients[connection.fileno()] = client
            self._epoll.register(connection, select.EPOLLIN)
            self._send(client, {"contid": 1, "nonce": client.nonce})

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is not None:
            client.close()

    def _send(self, client: _Client, said: dict[str, object]) -> None:
        client.out += json.dumps(said, separators=(",", ":")).encode() + b"\n"
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        """Send what the socket takes. With an answer on its way nothing more is read."""
        try:
            del client.out[: client.socket.send(client.out)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if client.out:
            self._epoll.modify(client.socket, select.EPOLLOUT)
        elif client.answered:
            self._drop(client)
        else:
            self._epoll.modify(client.socket, select.EPOLLIN)

    def _receive(self, client: _Client) -> None:
        try:
            message = contid_peer.receive(
                client.socket, contid_request.REQUEST_MAX + 1 - len(client.received)
            )
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        bad = _keep_target(client, message)
        if not message.data:
            self._drop(client)
            return
        client.received += message.data
        try:
            request = _request_of(client, message, bad)
        except UsageError as error:
            self.refused += 1
            self._finish(client, _failed(errno.EPROTO, error.message, error.hint))
        except NotKnown as error:
            self.unknown += 1
            self._finish(client, _failed(errno.EPERM, str(error)))
        else:
            if request is not None:
                self._finish(client, self._done(client, request))

    def _finish(self, client: _Client, said: dict[str, object]) -> None:
        client.answered = True
        self._send(client, said)

    def _done(self, client: _Client, request: Request) -> dict[str, object]:
        if not self._may(client.peer.uid):
            self.limited += 1
            return _failed(errno.EAGAIN, "too many attempts")
        if request.op == "list":
            return self._list(client.peer)
        try:
            opid = self._number(client.target)
        except OSError as error:
            self.refused += 1
            return _failed(error.errno or errno.EIO, f"{request.op}: {error.strerror}")
        try:
            if request.op == "get":
                chain = self._kept().get(client.target)
                return {"ok": True, "contid": [str(contid) for contid in chain]}
            if request.contid == contid_request.AUTO:
                request = request._replace(contid=self._free())
            self._act(client, request, opid)
        except OSError as error:
            return self._answered(client.peer, request, opid, error)
        return self._answered(client.peer, request, opid, None)

    def _act(self, client: _Client, request: Request, opid: int) -> None:
        """Have it done. Raises OSError, and EPERM where it cannot be told for whom."""
        store, peer = self._kept(), client.peer
        caller = peer.pidfd
        try:
            peer.judged(self.proc)
            if request.as_parent:
                caller, _ = peer.parent(self.proc)
        except NotKnown as error:
            raise PermissionError(errno.EPERM, str(error)) from error
        try:
            if request.op == "set":
                store.set(
                    caller=caller,
                    target=client.target,
                    contid=request.contid,
                    orchestrator=request.orchestrator,
                    bind_cgroup=self._cgroup_of(opid, client.target) if request.bind_cgroup else 0,
                )
            else:
                store.grant(caller=caller, target=client.target, allow=request.op == "grant")
        finally:
            if caller != peer.pidfd:
                os.close(caller)

    def _answered(self, peer: Peer, request: Request, opid: int, error: OSError | None) -> dict[str, object]:
        number = 0 if error is None else error.errno or errno.EIO
        if request.op != "get":
            contid = CONTID_UNSET if request.contid == contid_request.AUTO else request.contid
            attempt = Attempt(
                request.op, opid, contid, number, peer.pid, peer.uid, request.orchestrator, request.engine
            )
            self._log.attempt(attempt._replace(caller_contid=self._chain_of(peer)))
        if error is not None:
            return _failed(number, error.strerror or error_name(number))
        return {"ok": True, "contid": str(request.contid)} if request.op == "set" else {"ok": True}

    def _chain_of(self, peer: Peer) -> tuple[int, ...] | None:
        """Return what the peer's own process has, None where it is gone or nobody can say it."""
        if self._store is None:
            return None
        try:
            return self._store.get(peer.pidfd)
        except OSError:
            return None

    def _number(self, target: int) -> int:
        """Return the number of the target's process, 0 where it is gone or nobody can say it."""
        if target < 0:
            raise OSError(errno.EBADF, _NO_TARGET)
        try:
            return self._store.number(target) if self._store is not None else 0
        except OSError as error:
            if error.errno == errno.EBADF:
                raise OSError(errno.EBADF, _NO_TARGET) from error
            raise

    def _kept(self) -> ContidStore:
        if self._store is None:
            raise OSError(errno.ENOSYS, _OFF)
        return self._store

    def _free(self) -> int:
        """Return a number that nobody uses: random and below 2^63, which every reader of numbers takes."""
        used = {entry.contid for entry in self._kept().entries()}
        while (contid := secrets.randbelow(2**63 - 1) + 1) in used:
            pass
        return contid

    def _list(self, peer: Peer) -> dict[str, object]:
        if peer.uid not in (0, os.geteuid()):
            return _failed(errno.EPERM, "root alone may see all identifiers")
        try:
            found = sorted(self._kept().entries(), key=lambda entry: entry.contid)
        except OSError as error:
            return _failed(error.errno or errno.EIO, error.strerror or "")
        shown = [
            {
                "contid": str(entry.contid),
                "chain": [str(contid) for contid in entry.chain or (entry.contid,)],
                "owner": {"pid": entry.owner[0], "start": str(entry.owner[1])},
                "tasks": entry.tasks,
                **({"cgroup": str(entry.cgroup)} if entry.cgroup else {}),
            }
            for entry in found[:LIST_MAX]
        ]
        return {"ok": True, "ids": shown, "cut": len(found) > LIST_MAX}

    def _cgroup_of(self, pid: int, pidfd: int) -> int:
        """Return the id of the cgroup that a process is in. Raises OSError."""
        watched = cgroups.hierarchy(self.proc)
        wanted = "" if watched.name == "v2" else watched.name
        lines = (self.proc / str(pid) / "cgroup").read_text("utf-8", "surrogateescape").splitlines()
        for line in lines:
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if wanted in controllers.split(",") and watched.root is not None and ".." not in path.split("/"):
                found = os.lstat(f"{watched.root}{path}").st_ino
                if contid_peer.gone(pidfd):
                    raise ProcessLookupError(errno.ESRCH, "the target has ended")
                return found
        raise FileNotFoundError(errno.ENOENT, "the target's cgroup cannot be told")

    def _may(self, uid: int) -> bool:
        """Take one attempt of this user's; whether there was one left."""
        if uid == 0:
            return True
        now = self._now()
        left, since = self._rates.get(uid, (float(ATTEMPTS), now))
        left = min(float(ATTEMPTS), left + (now - since) * ATTEMPTS)
        self._rates[uid] = (max(0.0, left - 1), now)
        self._rates.move_to_end(uid)
        with contextlib.suppress(KeyError):
            if len(self._rates) > USERS_MAX:
                self._rates.popitem(last=False)
        return left >= 1


def _keep_target(client: _Client, message: Message) -> bool:
    """Keep the one descriptor that may come, and close all others; whether there were any."""
    fds = message.fds
    if len(fds) == 1 and client.target < 0:
        client.target = fds.pop()
    for fd in fds:
        os.close(fd)
    return bool(fds) or message.cut


def _request_of(client: _Client, message: Message, bad: bool) -> Request | None:  # noqa: FBT001 - of `_keep_target`
    """Return the request, None while it is not whole. Raises UsageError, NotKnown."""
    line, newline, rest = client.received.partition(b"\n")
    if bad:
        raise UsageError("more than one descriptor", contid_request.HINT)
    if not client.peer.sure and message.pid != client.peer.pid:
        raise NotKnown("the request was not sent by the process that connected")
    if rest or len(client.received) > contid_request.REQUEST_MAX:
        raise UsageError(f"more than one request, or more than {contid_request.REQUEST_MAX} bytes")
    if not newline:
        return None
    request = contid_request.read(bytes(line))
    if not secrets.compare_digest(request.nonce.encode("utf-8", "replace"), client.nonce.encode()):
        raise UsageError("another nonce than was sent", contid_request.HINT)
    client.peer.confirm(message)
    return request


def _failed(number: int, text: str, hint: str = "") -> dict[str, object]:
    return {
        "error": error_name(number),
        "errno": number,
        "text": text,
        "hint": hint or _HINTS.get(number, ""),
    }
