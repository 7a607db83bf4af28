# SPDX-License-Identifier: Apache-2.0
"""The kinds of values a setting can have, and how each is written in a file, a variable and an option.

Owns their spelling and the sentence that says what is wrong with a value. Never knows a setting.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"(\d+)([KMG]?)")
_SHIFTS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
_LARGEST: Final = 1 << 62
_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Unfit(ValueError):
    """A value is not of its kind; the message is a whole sentence without its full stop."""


class Kind(Generic[T]):
    """One kind of value. `what` completes "... is not", `metavar` stands for it in a synopsis.

    All readers raise Unfit.
    """

    what = ""
    metavar = ""

    def parse(self, text: str) -> T:
        """Read a variable's or an option's text."""
        raise NotImplementedError

    def from_toml(self, value: object) -> T:
        """Read what a TOML file holds: by default a string, as in an option."""
        if not isinstance(value, str):
            raise Unfit(self.wrong(value))
        return self.parse(value)

    def show(self, value: T) -> str:
        """Return the value as it stands in a TOML file."""
        return _quoted(str(value))

    def wrong(self, value: object) -> str:
        """Say what is the matter."""
        shown = _quoted(value) if isinstance(value, str) else _toml_words(value)
        return f"{shown} is not {self.what}"


class Choice(Kind[str]):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.what = "one of " + ", ".join(words)
        self.metavar = "|".join(words)

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if text not in self.words:
            raise Unfit(self.wrong(text))
        return text


class Flag(Kind[bool]):
    """Yes or no: an option without a value, a boolean in a file."""

    what = "true or false"
    metavar = "true|false"

    def parse(self, text: str) -> bool:
        """See `Kind`."""
        if text.lower() not in _FLAGS:
            raise Unfit(self.wrong(text))
        return _FLAGS[text.lower()]

    def from_toml(self, value: object) -> bool:
        """See `Kind`."""
        if not isinstance(value, bool):
            raise Unfit(self.wrong(value))
        return value

    def show(self, value: bool) -> str:  # noqa: FBT001 - the value itself
        """See `Kind`."""
        return "true" if value else "false"


class Count(Kind[int]):
    """A whole number of at least `least` and at most `most`."""

    metavar = "N"

    def __init__(self, least: int = 1, most: int = _LARGEST - 1) -> None:
        self._least = least
        self._most = most
        self.what = f"a whole number of {least} or more"
        if most < _LARGEST - 1:
            self.what = f"a whole number from {least} to {most}"

    def parse(self, text: str) -> int:
        """See `Kind`."""
        # isdecimal() takes the digits of every script; so does int(), up to its own limit of digits.
        if not (text.isascii() and text.isdecimal() and len(text) < 19):  # noqa: PLR2004 - of 64 bits
            raise Unfit(self.wrong(text))
        return self._checked(int(text), text)

    def from_toml(self, value: object) -> int:
        """See `Kind`."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise Unfit(self.wrong(value))
        return self._checked(value, value)

    def _checked(self, number: int, given: object) -> int:
        if not self._least <= number <= self._most:
            raise Unfit(self.wrong(given))
        return number

    def show(self, value: int) -> str:
        """See `Kind`."""
        return str(value)


class Mode(Count):
    """The mode of a file, as 0o640."""

    def __init__(self) -> None:
        super().__init__(0, 0o777)
        self.what = "the mode of a file such as 0o640"

    def show(self, value: int) -> str:
        """See `Kind`."""
        return f"0o{value:o}"


class Size(Kind[int]):
    """A number of bytes, at least `least` and at most `most`."""

    metavar = "SIZE"

    def __init__(self, most: int = _LARGEST - 1, *, least: int = 1) -> None:
        self._most = most
        self._least = least
        bound = f", at most {self.show(most)}" if most < _LARGEST - 1 else ""
        bound += f", at least {self.show(least)}" if least > 1 else ""
        self.what = "a size such as 64K or 32M" + bound.replace('"', "")

    def parse(self, text: str) -> int:
        """See `Kind`."""
        found = _SIZE.fullmatch(text) if text.isascii() and len(text) < 19 else None  # noqa: PLR2004 - of 64 bits
        size = int(found[1]) << _SHIFTS[found[2]] if found else 0
        if not self._least <= size <= self._most:
            raise Unfit(self.wrong(text))
        return size

    def from_toml(self, value: object) -> int:
        """See `Kind`: also a plain number of bytes."""
        if isinstance(value, int) and not isinstance(value, bool):
            return self.parse(str(value))
        return super().from_toml(value)

    def show(self, value: int) -> str:
        """See `Kind`."""
        for unit in "GMK":
            if not value % (1 << _SHIFTS[unit]):
                return f'"{value >> _SHIFTS[unit]}{unit}"'
        return str(value)


class Duration(Kind[float]):
    """A time in seconds, longer than nothing."""

    what = "a duration such as 30s, 5m, 1h or 30d"
    metavar = "DURATION"

    def parse(self, text: str) -> float:
        """See `Kind`."""
        found = _DURATION.fullmatch(text) if text.isascii() else None
        seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
        if not 0 < seconds < _LARGEST:
            raise Unfit(self.wrong(text))
        return seconds

    def show(self, value: float) -> str:
        """See `Kind`."""
        if value >= _SECONDS["d"] and not value % _SECONDS["d"]:
            return f'"{int(value / _SECONDS["d"])}d"'
        digits = f"{Decimal(repr(value)):f}".removesuffix(".0")  # :g would round, and write 1e+06
        return f'"{digits}s"'


class Seconds(Duration):
    """A duration that may be a plain number of seconds in a file."""

    what = "a number of seconds, or a duration such as 30s or 5m"

    def from_toml(self, value: object) -> float:
        """See `Kind`."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not 0 < value < _LARGEST:  # nan is neither
                raise Unfit(self.wrong(value))
            return float(value)
        return super().from_toml(value)


class Path(Kind[str]):
    """An absolute path of at most `most` bytes: what a service is started in is nobody's directory.

    With `optional` it may be empty, which stands for none.
    """

    metavar = "FILE"

    def __init__(self, most: int = 4095, *, optional: bool = False) -> None:
        self._most = most
        self._optional = optional
        self.what = "an absolute path" if most == 4095 else f"an absolute path of at most {most} bytes"  # noqa: PLR2004 - PATH_MAX
        if optional:
            self.what += ", or empty for none"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if self._optional and not text:
            return text
        if not text.startswith("/") or "\0" in text or len(os.fsencode(text)) > self._most:
            raise Unfit(self.wrong(text))
        return text


class Name(Kind[str]):
    """The name of a user, a group or the like; may be empty."""

    what = "a name"
    metavar = "NAME"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if re.search(r"[\s:/\0]", text):
            raise Unfit(self.wrong(text))
        return text


class Text(Kind[str]):
    """Any text, of one line or more; whoever takes it says what is wrong with it. `metavar` names it."""

    what = "a text"

    def __init__(self, metavar: str) -> None:
        self.metavar = metavar

    def parse(self, text: str) -> str:
        """See `Kind`."""
        return text


class Words(Kind[tuple[str, ...]]):
    """Any number of words: an array in a file, separated by commas in a variable, an option given again and again."""

    what = "a list of words"
    metavar = "WORD"

    def parse(self, text: str) -> tuple[str, ...]:
        """See `Kind`."""
        return tuple(word for word in (part.strip() for part in text.split(",")) if word)

    def from_toml(self, value: object) -> tuple[str, ...]:
        """See `Kind`."""
        if not isinstance(value, list) or not all(_is_word(word) for word in value):
            raise Unfit(self.wrong(value))
        return tuple(map(str, value))

    def show(self, value: Sequence[str]) -> str:
        """See `Kind`."""
        return "[" + ", ".join(_quoted(word) for word in value) + "]"


def _is_word(value: object) -> bool:
    """Whether it is a word, or a whole number, which is as good: record types have both."""
    return bool(value) if isinstance(value, str) else type(value) is int


def _quoted(text: str) -> str:
    """Return a TOML basic string, which is also how hostile text is shown: no control character stays."""
    shown = "".join(
        f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08X}"
        for char in text
    )
    return f'"{shown}"'


def _toml_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "this array"
    if isinstance(value, dict):
        return "this table"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "this number"  # of thousands of digits it cannot be written out
    return str(value)
