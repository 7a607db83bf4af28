# SPDX-License-Identifier: Apache-2.0
"""Real nats-servers on the loopback: one, or three that are a cluster, with a stream as the documentation makes it.

Owns the processes, their files, and the questions to the stream. Never touches a server of the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import nats
import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from tests.certificates import Pair
from tests.delivery.events import Events
from tests.delivery.rsyslog import SECONDS, free_port, listens, wait_for

T = TypeVar("T")

STREAM, SUBJECT = "AUDIT", "audit.events"
WINDOW = 3_600.0
"""Seconds in which the stream knows a uid again."""
_FETCH = 1_000


class _Node:
    def __init__(self, number: int, directory: Path) -> None:
        self.name = f"n{number}"
        self.port, self.route = free_port(), free_port()
        self.directory = directory / self.name
        self.directory.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None


class NatsServers:
    """``count`` servers; `more` is put into the configuration of each.

    `example` is a configuration instead of ours: where it listens and keeps its files is replaced there.
    """

    def __init__(  # noqa: PLR0913 - each is chosen by some test
        self,
        directory: Path,
        count: int = 1,
        *,
        more: str = "",
        tls: Pair | None = None,
        login: str = "",
        example: str = "",
    ) -> None:
        program = shutil.which("nats-server", path="/usr/sbin:/sbin:/usr/bin:/usr/local/bin")
        assert program is not None, "nats-server is not installed (see tests/delivery/packages.txt)"
        self._program = program
        self._nodes = [_Node(number, directory) for number in range(1, count + 1)]
        self._login = login
        if tls is not None:
            more += f'tls {{ cert_file: "{tls.cert}", key_file: "{tls.key}" }}\n'
        self._tls = tls is not None
        for node in self._nodes:
            self._configure(node, more)
            if example:
                (node.directory / "nats.conf").write_text(self._placed(example, node))

    def _configure(self, node: _Node, more: str) -> None:
        text = f'listen: "127.0.0.1:{node.port}"\nserver_name: "{node.name}"\n{more}'
        text += f'jetstream {{ store_dir: "{node.directory}", max_mem: 64M, max_file: 4G }}\n'
        if len(self._nodes) > 1:
            text += (
                f'cluster {{ name: "audit", listen: "127.0.0.1:{node.route}", routes: [{self._routes()}] }}\n'
            )
        (node.directory / "nats.conf").write_text(text)

    def _placed(self, example: str, node: _Node) -> str:
        for pattern, value in (
            (r"(?m)^server_name: .*$", f'server_name: "{node.name}"'),
            (r"(?m)^listen: .*$", f'listen: "127.0.0.1:{node.port}"'),
            (r"(?m)^  listen: .*$", f'  listen: "127.0.0.1:{node.route}"'),
            (r"routes: .*", f"routes: [{self._routes()}]"),
            (r"store_dir: .*", f'store_dir: "{node.directory}"'),
            (r"max_file: \S+", "max_file: 1GB"),
        ):
            example, count = re.subn(pattern, value, example)
            assert count == 1, pattern
        return example

    def _routes(self) -> str:
        return ", ".join(f'"nats://127.0.0.1:{each.route}"' for each in self._nodes)

    @property
    def address(self) -> str:
        """As a destination has it."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self._nodes)

    @property
    def names(self) -> list[str]:
        """What the servers are called."""
        return [node.name for node in self._nodes]

    def ports(self) -> dict[str, int]:
        """Return the port of each server by its name."""
        return {node.name: node.port for node in self._nodes}

    # -- the servers ---------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start these, or all that are not there."""
        for node in self._nodes:
            if node.process is None and (not names or node.name in names):
                with (node.directory / "log").open("ab") as log:
                    node.process = subprocess.Popen(
                        [self._program, "-c", str(node.directory / "nats.conf")], stdout=log, stderr=log
                    )
        for node in self._nodes:
            if node.process is not None:
                wait_for(lambda: self._listens(node), f"{node.name} listens")  # noqa: B023 - called at once

    @staticmethod
    def _listens(node: _Node) -> bool:
        assert node.process is not None
        assert node.process.poll() is None, (node.directory / "log").read_text()[-2000:]
        return listens(node.process.pid, "127.0.0.1", node.port)

    def kill(self, name: str) -> None:
        """Kill this one, as a crash would."""
        self._signal(name, signal.SIGKILL)
        node = self._node(name)
        assert node.process is not None
        node.process.wait(SECONDS)
        node.process = None

    def restart(self, name: str) -> None:
        """Stop this one in good order, and start it again."""
        node = self._node(name)
        self._signal(name, signal.SIGTERM)
        assert node.process is not None
        node.process.wait(SECONDS)
        node.process = None
        self.start(name)

    def pause(self, name: str) -> None:
        """Let this one do nothing, as a host that hangs."""
        self._signal(name, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """End the pause."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._node(name).process
        assert process is not None
        process.send_signal(number)

    def _node(self, name: str) -> _Node:
        return next(node for node in self._nodes if node.name == name)

    def stop(self) -> None:
        """End all of them, paused or not."""
        for node in self._nodes:
            process, node.process = node.process, None
            if process is not None:
                process.kill()
                process.wait(SECONDS)

    # -- the stream ----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[Client, JetStreamContext]]:
        async def ignored(_: Exception) -> None:
            """Say nothing: who asks tries again."""

        user = f"{self._login}@" if self._login else ""
        servers = [f"nats://{user}{each}" for each in self.address.split(",")]
        client = await nats.connect(
            servers, error_cb=ignored, connect_timeout=2, max_reconnect_attempts=1, reconnect_time_wait=0.1
        )
        try:
            yield client, client.jetstream(timeout=5)
        finally:
            await client.close()

    def ask(self, question: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        """Ask, and again while the cluster has no answer."""
        found: list[T] = []

        async def once() -> None:
            async with self._connected() as (_, stream):
                found.append(await question(stream))

        def answered() -> bool:
            with contextlib.suppress(nats.errors.Error, OSError):
                asyncio.run(once())
            return bool(found)

        wait_for(answered, "the cluster answers")
        return found[0]

    def make_stream(self, *, window: float = WINDOW, **more: object) -> None:
        """Make the stream, in as many copies as there are servers."""
        config = StreamConfig(
            name=STREAM,
            subjects=[f"{SUBJECT}.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            num_replicas=len(self._nodes),
            duplicate_window=window,
            **more,  # type: ignore[arg-type]
        )
        self.ask(lambda stream: stream.add_stream(config))

    def leader(self) -> str:
        """Return the name of the server that leads the stream."""
        if len(self._nodes) == 1:
            return self._nodes[0].name

        async def question(stream: JetStreamContext) -> str:
            info = await stream.stream_info(STREAM)
            if info.cluster is None or info.cluster.leader is None:
                raise nats.errors.Error
            return info.cluster.leader

        return self.ask(question)

    def count(self) -> int:
        """Return how many messages the stream has."""

        async def question(stream: JetStreamContext) -> int:
            return (await stream.stream_info(STREAM)).state.messages

        return self.ask(question)

    def messages(self) -> list[tuple[str, str, bytes]]:
        """Return the uid, the subject and the body of each message, in the stream's order."""

        async def question(stream: JetStreamContext) -> list[tuple[str, str, bytes]]:
            count = (await stream.stream_info(STREAM)).state.messages
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True, num_replicas=1)
            reader = await stream.pull_subscribe(f"{SUBJECT}.>", stream=STREAM, config=config)
            found: list[tuple[str, str, bytes]] = []
            while len(found) < count:
                for each in await reader.fetch(min(_FETCH, count - len(found)), timeout=5):
                    found.append(((each.headers or {})["Nats-Msg-Id"], each.subject, each.data))  # noqa: PERF401
            return found

        return self.ask(question)

    def taken(self, events: Events) -> Counter[int]:
        """Return how often the stream has the event with each number; header and body name the same event."""
        found: Counter[int] = Counter()
        for uid, _, body in self.messages():
            assert f'"uid":"{uid}"'.encode() in body
            found[events.number(uid)] += 1
        return found
