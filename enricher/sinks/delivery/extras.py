# SPDX-License-Identifier: Apache-2.0
"""Libraries that only some destinations need: imported when such a destination is made, and not before.

Owns the error for one that is not there. Never installs anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from enricher.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType


def extra(module: str, name: str, debian: str = "") -> ModuleType:
    """Import the library of the extra with this name. Raises UsageError with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        hint = f"pip install 'audit-enricher[{name}]'"
        raise UsageError(
            f"the Python module {package} is missing, or cannot be loaded ({error})",
            f"apt install {debian}, or {hint}" if debian else hint,
        ) from error
