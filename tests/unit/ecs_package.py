# SPDX-License-Identifier: Apache-2.0
"""The published definitions of ECS: the package, fetched once and only where it is asked for, and its fields.

Owns `.cache/npm`. npm gets the package from where it is configured to; the checksum says that it is this one. Nothing
of it is run: its text is read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

NAME = "@elastic/ecs@9.4.0"
SHA256 = "1c7863cd70f9d52365570fa38a9c39f3d056511fefe4e36a51d2ad7f142ac071"
CACHE = Path(__file__).resolve().parents[2] / ".cache/npm"
_FILE = "elastic-ecs-9.4.0.tgz"
_FLAT = "package/build/commonjs/ecs_flat.js"


def archive() -> Path:
    """Return the package's archive. Fails where npm cannot get it, or what it gets is another."""
    path = CACHE / _FILE
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm")
        assert npm, "npm is not installed; Debian has it as the package npm"
        done = subprocess.run(
            [npm, "pack", NAME], cwd=CACHE, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        path.unlink()
    assert digest == SHA256, f"{NAME}: {digest}"
    return path


def fields() -> dict[str, str]:
    """Return every field of ECS with its type, as `ecs_fields` writes them."""
    return {name: kind for name, (kind, _) in _read().items()}


def words(name: str) -> dict[str, set[str]]:
    """Return the values that are allowed of a field, each with the event types that it expects."""
    block = _read()[name][1]
    found: dict[str, set[str]] = {}
    # Of each allowed value the expected types, if any, come before its name.
    expected = r"(?:expected_event_types: \[([^\]]*)\],\s+)?name: '(\w+)',\s+\}"
    for types, value in re.findall(expected, block):
        found[value] = set(re.findall(r"'(\w+)'", types))
    return found


def _read() -> dict[str, tuple[str, str]]:
    with tarfile.open(archive()) as tar:
        member = tar.extractfile(_FLAT)
        assert member is not None
        text = member.read().decode()
    found = {}
    for name, block in re.findall(
        r"^    '?([@\w.]+)'?: \{\n(.*?)\n    \},?$", text, re.MULTILINE | re.DOTALL
    ):
        [kind] = re.findall(r"^        type: '(\w+)'", block, re.MULTILINE)
        several = re.search(r"^        normalize: \['array'", block, re.MULTILINE)
        found[name] = (kind + "[]" if several else kind, block)
    return found
