# SPDX-License-Identifier: Apache-2.0
"""Texts that tests read."""

from pathlib import Path
from typing import Final

ODD: Final = Path(__file__).parent / "odd.log"
"""A log with a line for each way to be unusual."""
