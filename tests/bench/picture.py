# SPDX-License-Identifier: Apache-2.0
"""Bars as SVG: one row for each figure, its name left of it and its value behind it. Never measures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEFT: Final = 110
_WIDE: Final = 480
_RIGHT: Final = 90
_ROW: Final = 26
_HEAD: Final = 34
_BAR: Final = 16
_FONT: Final = 'font-family="sans-serif" font-size="13"'
_COLOUR: Final = "#3b6ea5"


def bars(title: str, figures: Mapping[str, float], unit: str) -> str:
    """Return the picture; the longest bar is the largest figure's. A figure below 0 has no bar."""
    most = max([*figures.values(), 0.0]) or 1.0
    wide = _LEFT + _WIDE + _RIGHT
    height = _HEAD + _ROW * len(figures) + 8
    lines = [
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{height}" {_FONT}>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="21" font-weight="bold">{escape(title)}</text>',
    ]
    for at, (name, figure) in enumerate(figures.items()):
        top = _HEAD + at * _ROW
        long = max(figure, 0.0) / most * _WIDE
        lines += [
            f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{long:.1f}" height="{_BAR}" fill="{_COLOUR}"/>',
            f'<text x="{_LEFT + long + 6:.1f}" y="{top + 13}">{figure:.2f} {escape(unit)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
