# SPDX-License-Identifier: Apache-2.0
"""How a program connects to a Kafka cluster: addresses, TLS and SASL as librdkafka's configuration has them.

Owns the reading of the files. Never connects: who produces does, who collects, and who sets the topic up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enricher.errors import ConfigInvalid
from enricher.sinks.delivery.secret import read_secret, secret_path

if TYPE_CHECKING:
    from enricher.sinks.delivery.kafka import KafkaOptions


def read_connection(options: KafkaOptions) -> tuple[dict[str, Any], str]:
    """Return librdkafka's configuration, with what the files hold: they may be root's alone; and advice.

    Raises ConfigInvalid.
    """
    advice = ""
    found: dict[str, Any] = {
        "bootstrap.servers": options.address.replace(" ", ""),
        "client.id": "audit-enricher",
        "reconnect.backoff.max.ms": 5000,
        "logger": _silent(),
    }
    if options.tls:
        found["enable.ssl.certificate.verification"] = options.tls_verify
        found["ssl.endpoint.identification.algorithm"] = "https" if options.tls_verify else "none"
        for name, file in (
            ("ssl.ca.pem", options.tls_ca_file),
            ("ssl.certificate.pem", options.tls_cert_file),
            ("ssl.key.pem", options.tls_key_file or options.tls_cert_file),
        ):
            if file:
                found[name] = _pem(file)
    secure = "SSL" if options.tls else "PLAINTEXT"
    if options.username:
        path = secret_path(options.password_file, "password_file")
        password, advice = read_secret(path, "password_file")
        found |= {"sasl.mechanism": options.mechanism, "sasl.username": options.username}
        found |= {"sasl.password": password}
        secure = f"SASL_{secure}"
        if not options.tls and options.mechanism == "PLAIN":
            advice = f"{options.address}: the password is sent in clear; use tls"
    found["security.protocol"] = secure
    return found, advice


def _silent() -> logging.Logger:
    """Return a logger for librdkafka, which else writes to standard error."""
    logger = logging.getLogger("enricher.kafka")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def _pem(file: str) -> str:
    try:
        return Path(file).read_text(errors="replace")
    except OSError as error:
        raise ConfigInvalid(
            f"cannot use {file} for TLS: {error.strerror}", "PEM files that the service may read"
        ) from error
