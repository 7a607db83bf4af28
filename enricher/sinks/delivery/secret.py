# SPDX-License-Identifier: Apache-2.0
"""Secrets stand in files of their own, never in a table: where such a file is, and what is in it.

Owns the reading. Never says a byte of a secret, in no error.
"""

from __future__ import annotations

import os
import re
from typing import Final

from enricher.errors import ConfigInvalid

MOST_SECRET: Final = 64 << 10
"""Bytes of a file with a secret, at most."""
PRINTABLE: Final = re.compile(r"[\x20-\x7e]+")
_OTHERS: Final = 0o007


def secret_path(name: str, key: str = "credential_file") -> str:
    """Return the file; a name alone is one of systemd's credentials (systemd.exec(5), LoadCredential=).

    ``key`` is the option that names it. Raises ConfigInvalid.
    """
    if not name or "/" in name:
        return name
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigInvalid(
            f"{key}: {name}: systemd gave no credentials",
            f"LoadCredential={name}:/path in a drop-in of the unit, or a path with a slash",
        )
    return f"{directory}/{name}"


def read_secret(path: str, key: str = "credential_file") -> tuple[str, str]:
    """Return the secret, one line of printable ASCII, and advice on its file. Raises ConfigInvalid."""
    raw, advice = read_file(path, key)
    text = raw.decode("ascii", "replace").strip()
    if not PRINTABLE.fullmatch(text):
        raise ConfigInvalid(f"{key}: {path}: it has to hold one line of printable ASCII")
    return text, advice


def read_file(path: str, key: str) -> tuple[bytes, str]:
    """Return what is in the file, which is not large, and advice on it. Raises ConfigInvalid."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - Path has no way to read so many bytes and no more
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(MOST_SECRET + 1)
    except OSError as error:
        raise ConfigInvalid(f"{key}: {path}: {error.strerror}") from None
    if len(raw) > MOST_SECRET:
        raise ConfigInvalid(f"{key}: {path}: it is too large for a secret")
    return raw, f"{path} can be read by everyone" if mode & _OTHERS else ""
