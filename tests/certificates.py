# SPDX-License-Identifier: Apache-2.0
"""Certificates for one test: an authority, and what it signs, made by the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """A certificate and its key, as PEM files."""

    cert: str
    key: str


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(  # noqa: S603 - the arguments are the test's own
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


class Authority:
    """A certificate authority that lives in this directory; ``file`` is its certificate."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = directory / f"{name}-key.pem"
        self.file = str(directory / f"{name}.pem")
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self._key)
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        _openssl("req", "-x509", *new_key, *usage, "-out", self.file, "-days", "2", "-subj", f"/CN={name}")

    def sign(self, name: str, alternative: str) -> Pair:
        """Make a key and its certificate for these names, as ``DNS:localhost,IP:127.0.0.1``."""
        key, request, cert = (self._directory / f"{name}{end}" for end in ("-key.pem", ".csr", ".pem"))
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={alternative}\nextendedKeyUsage=serverAuth,clientAuth\n"
            "keyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\n"
        )
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)
        _openssl("req", *new_key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-CA", self.file, "-CAkey", self._key, "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *signer, "-days", "2", "-extfile", extensions, "-out", cert)
        return Pair(str(cert), str(key))
