# SPDX-License-Identifier: Apache-2.0
"""Kafka without a broker: the key of an event, files that cannot be read.

What it has in common with NATS is in test_delivery_clusters.py, what brokers do is in tests/delivery/test_kafka.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import ConfigInvalid
from enricher.sinks.delivery.kafka import KafkaOptions, KafkaSender, key_of
from enricher.sinks.delivery.message import ALL_TAKEN, Unreachable
from tests.certificates import Authority
from tests.unit.fake_receivers import messages

HOST = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "body, container",
    [
        (b'{"container":{"id":"abc","runtime":"docker"}}', "abc"),
        (b'{"class_uid":1007,"container":{"uid":"def"}}', "def"),
        (b'{"container":{"name":"x"}}', ""),
        (b'{"container":{"id":7}}', ""),
        (b'{"container":[]}', ""),
        (b'["container"]', ""),
        (b'{"container":', ""),
        (b'{"container":' + b"[" * 100_000, ""),
        (b'{"where":"host"}', ""),
        (b"", ""),
    ],
)
def test_the_key_is_the_host_and_the_container(body: bytes, container: str) -> None:
    assert key_of(HOST, body) == f"{HOST}/{container}".encode()


@given(st.binary(max_size=60))
def test_any_body_has_a_key(body: bytes) -> None:
    assert key_of(HOST, b'{"container"' + body).startswith(HOST.encode() + b"/")


def test_a_lone_surrogate_in_an_id_is_a_key() -> None:
    assert key_of(HOST, b'{"container":{"id":"\\ud800"}}') == f"{HOST}/?".encode()


def test_files_are_read_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"cannot use /nowhere/ca\.pem for TLS: No such file"):
        KafkaSender(KafkaOptions("127.0.0.1:1", tls=True, tls_ca_file="/nowhere/ca.pem"), HOST)
    authority = Authority(tmp_path)
    pair = authority.sign("client", "DNS:client.test")
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    options = KafkaOptions(
        "127.0.0.1:1",
        tls=True,
        tls_ca_file=authority.file,
        tls_cert_file=pair.cert,
        tls_key_file=pair.key,
        username="joe",
        password_file=str(password),
        ack_timeout=1.0,
    )
    sender = KafkaSender(options, HOST)
    for name in (authority.file, pair.cert, pair.key, str(password)):
        Path(name).unlink()
    # librdkafka takes what was read, and finds nobody.
    with pytest.raises(Unreachable) as raised:
        sender.send(messages(2))
    assert "s3cret" not in raised.value.message
    sender.close()


def test_a_key_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    sender = KafkaSender(KafkaOptions("127.0.0.1:1", tls=True, tls_ca_file=str(tmp_path / "ca.pem")), HOST)
    with pytest.raises(Unreachable, match=r"ssl\.ca\.pem"):
        sender.send(messages(1))
    sender.close()


def test_nothing_to_send_makes_nothing() -> None:
    sender = KafkaSender(KafkaOptions("127.0.0.1:1"), HOST)
    assert sender.send([]) == ALL_TAKEN
    assert sender._producer is None
