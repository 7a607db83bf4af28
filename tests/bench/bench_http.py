# SPDX-License-Identifier: Apache-2.0
"""What delivery over HTTP costs: microseconds per message and protocol, to a receiver that reads and says yes.

    python -m tests.bench.bench_http [messages]

The receiver is another process on the loopback, so what it does is not in the CPU time shown: that is the sender's
alone. Messages are native events of an exec with seven records, as in bench_views; OTLP's are logRecords with such
an event as their body. Batches of 100 and 1000, with gzip and without. Best of three runs.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection

from enricher import codec
from enricher.enrich.native import NativeBuilder
from enricher.route.views.native_json import render
from enricher.sinks.delivery.http_batches import HttpSender
from enricher.sinks.delivery.message import ALL_TAKEN, Message
from enricher.sources.names import HostNames
from tests.bench.bench_views import HOST, exec_event
from tests.delivery.protocols import PROTOCOLS

MESSAGES = 10_000
RUNS = 3
BATCHES = (100, 1000)
_LENGTH = b"content-length: "


def yes(protocol: str, batch: int) -> Callable[[bytes, int], bytes]:
    """Return what says yes to request number n of a protocol; a request is known by its first line."""
    items = json.dumps({"errors": False, "items": [{"create": {"status": 201}}] * batch}).encode()

    def answer(head: bytes, number: int) -> bytes:
        if protocol == "bulk":
            return items
        if protocol == "otlp":
            return b"{}"
        if b"/ack" in head[:40]:
            return b'{"acks":{"%d":true}}' % (number - 1)
        return b'{"text":"Success","code":0,"ackId":%d}' % number

    return answer


def receive(protocol: str, batch: int, told: Connection) -> None:
    """Serve one connection after the other until killed."""
    answer = yes(protocol, batch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        told.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, connection.makefile("rb") as file:
                number = 0
                while True:
                    head = b""
                    length = 0
                    while (line := file.readline()).strip():
                        head = head or line
                        if line.lower().startswith(_LENGTH):
                            length = int(line[len(_LENGTH) :])
                    if not head:
                        break
                    file.read(length)
                    body = answer(head, number)
                    number += 1
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                        % (len(body), body)
                    )


def bodies(count: int) -> list[Message]:
    builder = NativeBuilder(HOST, names=HostNames())
    made = []
    for number in range(count):
        native = builder.build(exec_event(number))
        made.append(Message(str(native["uid"]), 1772366400.0, "SYSCALL", render(native).rstrip(b"\n")))
    return made


def as_records(waiting: list[Message]) -> list[Message]:
    return [
        message._replace(
            body=codec.dumps(
                {
                    "timeUnixNano": "1772366400000000000",
                    "body": {"stringValue": message.body.decode()},
                    "attributes": [{"key": "log.record.uid", "value": {"stringValue": message.uid}}],
                }
            )
        )
        for message in waiting
    ]


def run(sender: HttpSender, waiting: list[Message], batch: int) -> tuple[float, float]:
    """Return microseconds of CPU and of the clock for each message."""
    batches = [waiting[start : start + batch] for start in range(0, len(waiting), batch)]
    sender.send(batches[0])  # imports, connects
    wall, cpu = time.perf_counter(), time.process_time()
    for messages in batches:
        receipt = sender.send(messages)
        if (dict(receipt.refused), list(receipt.again)) != (dict(ALL_TAKEN.refused), list(ALL_TAKEN.again)):
            raise RuntimeError(receipt)
    per = 1e6 / len(waiting)
    return (time.process_time() - cpu) * per, (time.perf_counter() - wall) * per


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    count -= count % max(BATCHES)
    native = bodies(count)
    size = sum(len(message.body) for message in native) // count
    print(
        f"{count} messages of {size} bytes, Python {sys.version.split()[0]}, urllib3 {version('urllib3')}; us/message"
    )
    print(f"{'':24} {'CPU':>8} {'clock':>8} {'messages/s':>12}")
    for protocol in PROTOCOLS:
        waiting = as_records(native) if protocol.name == "otlp" else native
        for batch in BATCHES:
            for compression in ("gzip", "none"):
                ours, theirs = multiprocessing.Pipe()
                child = multiprocessing.Process(
                    target=receive, args=(protocol.name, batch, theirs), daemon=True
                )
                child.start()
                url = f"http://127.0.0.1:{ours.recv()}"
                best = (float("inf"), float("inf"))
                for _ in range(RUNS):
                    sender = protocol.sender(url, batch=batch, compression=compression)
                    best = min(best, run(sender, waiting, batch))
                    sender.close()
                child.kill()
                child.join()
                name = f"{protocol.name} {batch} {compression}"
                print(f"{name:24} {best[0]:8.1f} {best[1]:8.1f} {1e6 / best[1]:12,.0f}")


if __name__ == "__main__":
    main()
