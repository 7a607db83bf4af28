# SPDX-License-Identifier: Apache-2.0
"""A package's bill of materials as CycloneDX JSON: what it is made of and needs, under which licences.

Owns the list's form. What is needed is read from packaging/debian/control or the rpm's spec, what is bundled from
packaging/vendored.txt: here are only the licences, which none of them says. Never looks at the machine that builds,
and writes no time and no random number: the same sources make the same bytes.
"""

from __future__ import annotations

import json
import re
from typing import Final

LICENCE: Final = "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
PROGRAMS: Final = "GPL-2.0-only OR BSD-2-Clause"
BUNDLED: Final = {"orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)"}
NEEDED: Final = {
    "libbpf1": "LGPL-2.1-only OR BSD-2-Clause",
    "procps": "GPL-2.0-or-later AND LGPL-2.0-or-later AND LGPL-2.1-or-later",
    "python3": "PSF-2.0",
    "python3-msgpack": "Apache-2.0",
    "python3-urllib3": "MIT",
    "python3-pyroute2": "Apache-2.0 OR GPL-2.0-or-later",
    "python3-confluent-kafka": "Apache-2.0",
    "apparmor": "GPL-2.0-or-later",
    "auditd": "GPL-2.0-or-later",
    # As Fedora calls them.
    "audit": "GPL-2.0-or-later",
    "libbpf": "LGPL-2.1-only OR BSD-2-Clause",
    "python3-orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)",
}
"""Licences of the packages that ours name. One that is not here cannot be listed: `document` refuses it."""

_SCOPES: Final = {
    "Depends": "required",
    "Requires": "required",
    "Recommends": "optional",
    "Suggests": "optional",
}
_TAG: Final = re.compile(r"^(Requires|Recommends|Suggests):\s*([\w.-]+)(?:\s|$)", re.MULTILINE)
_PURL: Final = {
    "deb": ("pkg:deb/debian/{}", "pkg:deb/debian/{}@{}?arch=amd64"),
    "rpm": ("pkg:rpm/{}", "pkg:rpm/{}@{}?arch=noarch"),
}
"""Of each kind of package, the address of what it needs, and its own."""
_PIN: Final = re.compile(r"^([\w-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)
_NAME = "audit-enricher"


def needs(control: str) -> dict[str, str]:
    """Return the packages that audit-enricher names in debian/control, each with its scope."""
    section = control.partition(f"\nPackage: {_NAME}\n")[2].partition("\nPackage: ")[0]
    found: dict[str, str] = {}
    for field, scope in _SCOPES.items():
        body = re.search(rf"^{field}:((?:\n .*)+)", section, re.MULTILINE)
        for item in body[1].split(",") if body else ():
            name = item.strip().partition(" ")[0]
            if name and not name.startswith(("$", _NAME)):
                found.setdefault(name, scope)
    return found


def needs_of_spec(spec: str) -> dict[str, str]:
    """Return the packages that the rpm's spec names, with scopes. Left out: files, and what scriptlets need."""
    return {name: _SCOPES[tag] for tag, name in _TAG.findall(spec)}


def document(control: str, vendored: str, version: str, *, kind: str = "deb") -> bytes:
    """Return the bill of the package of this version; `control` is the spec where the kind is rpm.

    ValueError for what has no licence in the tables above.
    """
    needed = needs(control) if kind == "deb" else needs_of_spec(control)
    other, own = _PURL[kind]
    main = own.format(_NAME, version)
    parts: list[dict[str, object]] = [
        {
            "type": "library",
            "bom-ref": "bpf-programs",
            "name": f"{_NAME}-bpf-programs",
            "version": version.partition("-")[0],
            "scope": "required",
            "licenses": [{"expression": PROGRAMS}],
        }
    ]
    for name, pinned, digest in _PIN.findall(vendored):
        purl = f"pkg:pypi/{name}@{pinned}"
        parts.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": pinned,
                "scope": "optional",
                "licenses": [{"expression": _licence(BUNDLED, name)}],
                "purl": purl,
                "properties": [
                    {"name": f"{_NAME}:bundled", "value": "true"},
                    {"name": f"{_NAME}:wheel-sha256", "value": digest},
                ],
            }
        )
    for name, scope in sorted(needed.items()):
        purl = other.format(name)
        parts.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "scope": scope,
                "licenses": [{"expression": _licence(NEEDED, name)}],
                "purl": purl,
                "properties": [{"name": f"{_NAME}:bundled", "value": "false"}],
            }
        )
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": main,
                "name": _NAME,
                "version": version,
                "licenses": [{"expression": LICENCE}],
                "purl": main,
            }
        },
        "components": parts,
        "dependencies": [{"ref": main, "dependsOn": [part["bom-ref"] for part in parts]}],
    }
    return json.dumps(bill, indent=2).encode() + b"\n"


def _licence(known: dict[str, str], name: str) -> str:
    if name not in known:
        raise ValueError(f"the licence of {name} is not known: add it to tools/sbom.py")
    return known[name]
