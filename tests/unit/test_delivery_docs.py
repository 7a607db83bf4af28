# SPDX-License-Identifier: Apache-2.0
"""The pages about destinations say what can be set, and the consumer on the page of the Unix socket works."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from enricher.config.options import Row, rows
from enricher.sinks.delivery.bulk import BulkOptions
from enricher.sinks.delivery.connection import ReceiverOptions
from enricher.sinks.delivery.file import FileOptions
from enricher.sinks.delivery.forward import ForwardOptions
from enricher.sinks.delivery.hec import HecOptions
from enricher.sinks.delivery.jetstream import NatsOptions
from enricher.sinks.delivery.kafka import KafkaOptions
from enricher.sinks.delivery.otlp import OtlpOptions
from enricher.sinks.delivery.relp import RelpOptions
from enricher.sinks.delivery.syslog import SyslogOptions
from enricher.sinks.delivery.unix import UnixOptions, UnixSender
from tests.unit.fake_receivers import messages, wait_for

PAGES = Path(__file__).parents[2] / "docs" / "sinks"
OPTIONS = {
    "file": FileOptions,
    "syslog": SyslogOptions,
    "relp": RelpOptions,
    "unix": UnixOptions,
    "elasticsearch": BulkOptions,
    "splunk-hec": HecOptions,
    "otlp": OtlpOptions,
    "forward": ForwardOptions,
    "nats": NatsOptions,
    "kafka": KafkaOptions,
}


def as_written(row: Row) -> str:
    """Return a default as TOML has it, in a table of a page."""
    return f"`{row.shown}`" if row.shown else "needed"


def block(page: str, language: str) -> str:
    (found,) = re.findall(
        rf"^```{language}\n(.*?)^```$", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return str(found)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_option_is_on_its_page_and_no_other(name: str) -> None:
    table = (PAGES / f"{name}.md").read_text().partition("\n## Options\n")[2]
    written = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", table, re.MULTILINE)
    assert written == [(row.key, as_written(row), row.doc) for row in rows(OPTIONS[name])]


def test_the_page_of_the_unix_socket_sets_what_there_is() -> None:
    (given,) = tomllib.loads(block("unix.md", "toml"))["sinks"].values()
    assert given.pop("type") == "unix"
    UnixOptions(**given)


def test_the_consumer_on_the_page_reads_what_is_sent(tmp_path: Path) -> None:
    path = str(tmp_path / "events.sock")
    documented = UnixOptions().path
    program = block("unix.md", "python")
    assert documented in program
    sender = UnixSender(UnixOptions(path, drain=20.0))
    with subprocess.Popen(
        [sys.executable, "-c", program.replace(documented, path)], stdout=subprocess.PIPE
    ) as consumer:
        wait_for(lambda: sender.connected == 1)
        sender.send(messages(3))
        sender.close()
        output = consumer.communicate(timeout=20)[0]
    assert output == b'{"a":1}\n' * 3
    assert sender.unsure() == 0


@pytest.mark.parametrize("options", [RelpOptions, SyslogOptions])
def test_what_is_said_of_an_address_and_of_tls_is_said_once(options: type) -> None:
    shared = rows(ReceiverOptions)
    assert [row.key for row in shared if row.key.startswith("tls_")]
    first = rows(options)[: len(shared)]
    assert [(row.key, row.default, row.doc) for row in first] == [
        (row.key, row.default, row.doc) for row in shared
    ]
    assert not {row.key for row in shared} & set(options.__annotations__)
