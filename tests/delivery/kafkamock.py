# SPDX-License-Identifier: Apache-2.0
"""librdkafka's mock cluster in a process of its own, and a consumer in another that writes down what is in it.

Owns both. The cluster lives in its process's memory alone, so it is stopped and never killed; it forgets messages after
some megabytes, so they are read as they come. Run as ``python -m tests.delivery.kafkamock cluster ADDRESSES`` and
``... consume ADDRESSES OUTPUT``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path

from tests.delivery.events import Events
from tests.delivery.rsyslog import SECONDS, wait_for
from tests.lint.tree import ROOT

TOPIC = "audit-events"
BROKERS = 3


class KafkaMock:
    """Three brokers. ``address`` is known when it was started."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._output = directory / "taken"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def start(self) -> None:
        """Start the cluster, wait for its addresses, and read what comes."""
        addresses = self._directory / "addresses"
        self._run("cluster", str(addresses))
        wait_for(addresses.exists, "the mock cluster says its addresses")
        self.address = addresses.read_text()
        self._run("consume", self.address, str(self._output))

    def _run(self, *arguments: str) -> None:
        with (self._directory / f"{arguments[0]}.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.delivery.kafkamock", *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT))

    def pause(self) -> None:
        """Let all brokers do nothing."""
        self._processes[0].send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        self._processes[0].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End both."""
        for process in self._processes:
            process.kill()
            process.wait(SECONDS)

    def lines(self) -> list[tuple[str, str, int]]:
        """Return the uid, the key and the partition of each message, in the order of each partition."""
        if not self._output.exists():
            return []
        found = []
        for line in self._output.read_text().split("\n")[:-1]:
            uid, key, partition = line.split("\t")
            found.append((uid, key, int(partition)))
        return found

    def taken(self, events: Events) -> Counter[int]:
        """Return how often the topic has the event with each number."""
        return Counter(events.number(uid) for uid, _, _ in self.lines())

    def partitions(self) -> dict[str, set[int]]:
        """Return which partitions each key is in."""
        found: dict[str, set[int]] = defaultdict(set)
        for _, key, partition in self.lines():
            found[key].add(partition)
        return found


def _cluster(path: str) -> None:
    import confluent_kafka

    # It is what has the brokers; nothing is produced by it.
    holder = confluent_kafka.Producer({"test.mock.num.brokers": BROKERS, "bootstrap.servers": "mock"})
    brokers = holder.list_topics(timeout=30).brokers.values()
    new = Path(f"{path}.new")
    new.write_text(",".join(f"{each.host}:{each.port}" for each in brokers))
    new.rename(path)
    threading.Event().wait()


def _consume(address: str, path: str) -> None:
    import confluent_kafka

    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "tests",
            "enable.auto.commit": False,
            "allow.auto.create.topics": True,
        }
    )
    # All partitions by name: a group would have to come together first. Asking makes the topic.
    while not (partitions := consumer.list_topics(TOPIC, timeout=30).topics[TOPIC].partitions):
        pass
    first = confluent_kafka.OFFSET_BEGINNING
    consumer.assign([confluent_kafka.TopicPartition(TOPIC, number, first) for number in partitions])
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error():
            continue
        headers = dict(message.headers() or [])
        uid, key = headers["uid"], message.key()
        assert isinstance(uid, bytes)
        assert isinstance(key, bytes)
        assert b'"uid":"%b"' % uid in (message.value() or b"")
        os.write(out, b"%b\t%b\t%d\n" % (uid, key, message.partition() or 0))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if sys.argv[1] == "cluster":
            _cluster(sys.argv[2])
        else:
            _consume(sys.argv[2], sys.argv[3])
