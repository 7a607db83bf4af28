# SPDX-License-Identifier: Apache-2.0
"""What destinations that are clusters have in common, NATS and Kafka: options that clash, and libraries of extras."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from enricher.errors import UsageError
from enricher.sinks.delivery import extras
from enricher.sinks.delivery.jetstream import NatsOptions, NatsSender
from enricher.sinks.delivery.kafka import KafkaOptions, KafkaSender

HOST = "0123456789abcdef0123456789abcdef"
ADDRESS = "127.0.0.1:1"

Make = Callable[..., object]


def nats(**options: object) -> NatsSender:
    return NatsSender(NatsOptions(**{"address": ADDRESS, **options}), HOST)  # type: ignore[arg-type]


def kafka(**options: object) -> KafkaSender:
    return KafkaSender(KafkaOptions(**{"address": ADDRESS, **options}), HOST)  # type: ignore[arg-type]


BOTH: list[tuple[dict[str, object], str]] = [
    ({"tls_ca_file": "/x"}, "tls: there are options of TLS without it"),
    ({"username": "joe"}, "username: there is no password_file"),
    ({"password_file": "/x"}, "password_file: there is no username"),
    ({"address": "a:1,,b:2"}, "is no address of a receiver"),
    ({"address": "a"}, "is no address of a receiver"),
]


@pytest.mark.parametrize(
    "make, more, why",
    [
        *((make, *row) for make in (nats, kafka) for row in BOTH),
        (nats, {"creds_file": "/x", "token_file": "/y"}, "token_file: there is creds_file too"),
        (kafka, {"tls": True, "tls_server_name": "x"}, "tls_server_name: Kafka has a name for each broker"),
    ],
)
def test_options_that_do_not_go_together(make: Make, more: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError) as raised:
        make(**more)
    assert why in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "make, module, hint",
    [
        (nats, "nats", "pip install 'audit-enricher[nats]'"),
        (
            kafka,
            "confluent_kafka",
            "apt install python3-confluent-kafka, or pip install 'audit-enricher[kafka]'",
        ),
    ],
)
def test_a_missing_library_is_said_with_what_to_install(
    make: Make, module: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extras, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(UsageError, match=f"the Python module {module} is missing") as raised:
        make()
    assert raised.value.hint == hint


def test_nothing_of_them_is_loaded_where_no_destination_needs_it() -> None:
    program = "import sys, enricher.runtime.sinktypes; print({'nats', 'asyncio', 'confluent_kafka'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "nats" not in done.stdout
    assert "kafka" not in done.stdout
