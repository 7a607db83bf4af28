# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: makes an OCI bundle for runc or crun out of the busybox tree.

Usage: bundle.py DIRECTORY CGROUPSPATH SHARE YARD COMMAND...
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main(directory: Path, cgroups_path: str, share: str, yard: str, command: list[str]) -> None:
    """Let runc write its own sample and change what has to be."""
    directory.mkdir(parents=True)
    subprocess.run(["runc", "spec", "--bundle", str(directory)], check=True)
    path = directory / "config.json"
    spec = json.loads(path.read_text())
    spec["root"] = {"path": "/srv/busybox", "readonly": True}
    spec["process"] |= {"terminal": False, "args": command, "env": ["PATH=/bin"]}
    for held in spec["process"]["capabilities"].values():
        held.append("CAP_SYS_ADMIN")  # so that a process can make namespaces inside
    spec["linux"]["cgroupsPath"] = cgroups_path
    for source, target, mode in ((share, "/w", "ro"), (yard, "/yard", "rw")):
        mount = {"destination": target, "source": source, "type": "bind", "options": ["rbind", mode]}
        spec["mounts"].append(mount)
    path.write_text(json.dumps(spec))


main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
