#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write what derives from the settings' rows, the command line and the mapping tables: references, sample, manuals.

Owns which files there are. What is in them is in tools/docs. The files are checked in; a test compares them with
what would be written now. Nothing in them depends on the machine, the time, the terminal or the environment.

    tools/gen_docs.py [DIRECTORY]

writes below DIRECTORY, by default the source's own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
# The program that is documented is this source's, whatever else is installed.
sys.path.insert(0, str(ROOT))

from docs.commands import read  # noqa: E402
from docs.manual import command_page, settings_page  # noqa: E402
from docs.manual_events import events_page  # noqa: E402
from docs.manual_service import service_page  # noqa: E402
from docs.roff import roff  # noqa: E402

from docs import completion, metrics, reference, schemas, settings  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence


def texts() -> dict[str, str]:
    """Return every file's text by its path below the source's root."""
    program, commands = read()
    pages = (command_page(program, commands), settings_page(commands), events_page(), service_page())
    return {
        "docs/configuration.md": reference.markdown(commands),
        "docs/metrics.md": metrics.markdown(),
        "docs/schemas.md": schemas.markdown(),
        "packaging/audit-enricher.toml": settings.sample(),
        "packaging/completions/audit-enricher.bash": completion.bash(program, commands),
        "packaging/completions/_audit-enricher": completion.zsh(program, commands),
        **{f"packaging/man/{page.name}.{page.number}": roff(page) for page in pages},
    }


def main(argv: Sequence[str]) -> None:
    """Write the files that differ, and say which."""
    root = Path(argv[0]) if argv else ROOT
    for name, text in texts().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
