# SPDX-License-Identifier: Apache-2.0
"""Messages as syslog messages of RFC 5424, each within a length that the receiver takes whole.

Owns the header, structured data, severities, and what becomes of a body with several lines or too many bytes. Never
sends anything and never alters a body's bytes.

``<PRI>1 TIMESTAMP HOSTNAME audit-enricher PROCID MSGID [SD-ID uid="..." line="2/7" part="1/3"] BODY``

One line of a body is one syslog message. A line that is too long is split, not cut: its parts are messages with
the same header, which say ``part="1/3"`` and so on; their bodies joined are the line. A message without `part` is
whole. A split is never inside a UTF-8 character. ``line`` is there where the body has several lines.

There is no byte order mark before the body: receivers hand it on as part of the text, where it breaks JSON. By the
letter of RFC 5424 the body is therefore MSG-ANY.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from enricher.config.kinds import Kind, Unfit
from enricher.errors import UsageError

if TYPE_CHECKING:
    from enricher.sinks.delivery.message import Message

LENGTH_MIN: Final = 1024
"""Room for the longest header and some text. RFC 5424 has every receiver take 480 octets and wants 2 048 of it."""
LENGTH_MAX: Final = 16 << 20
SD_ID: Final = "audit-enricher@32473"
"""32473 is the enterprise number for documentation (RFC 5612): nobody else's. This project has none of its own."""

_APP: Final = b"audit-enricher"
_UID_MAX: Final = 200
_PART: Final = len(b' part="99999/99999"')
_NIL: Final = b"-"
_SD_NAME: Final = re.compile(r'[^\x00-\x20"=\]\x7f-\U0010ffff@]{1,20}@[0-9]+(?:\.[0-9]+)*')
_NOT_PRINTABLE: Final = re.compile(rb"[^\x21-\x7e]")
_NOT_IN_VALUE: Final = re.compile(r'(["\\\]])')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
_SEVERITIES: Final = (
    (re.compile(r"LOST$"), ERROR),
    (
        re.compile(r"ANOM_|AVC|USER_AVC|SELINUX_ERR|USER_SELINUX_ERR|SECCOMP|INTEGRITY_|RESP_|FANOTIFY"),
        WARNING,
    ),
    (re.compile(r"USER_REFUSED|KERNEL_OTHER"), WARNING),
    (
        re.compile(
            r"NOTICE$|CONFIG_CHANGE|DAEMON_|USER_|CRED_|LOGIN|ACCT_|ADD_|DEL_|CHGRP_ID|CHUSER_ID|GRP_|ROLE_|MAC_"
            r"|SERVICE_|SYSTEM_|FEATURE_CHANGE|SOFTWARE_UPDATE|CRYPTO_"
        ),
        NOTICE,
    ),
)


class SdId(Kind[str]):
    """An SD-ID of RFC 5424 that is not one of its own."""

    what = "NAME@NUMBER, of at most 32 characters"
    metavar = "NAME@NUMBER"

    def parse(self, text: str) -> str:
        """See `Kind`."""
        if not _SD_NAME.fullmatch(text) or len(text) > 32:  # noqa: PLR2004 - SD-NAME of RFC 5424
            raise Unfit(self.wrong(text))
        return text


def severity_of(record_type: str) -> int:
    """Return the severity of an event whose first record is of this type; a message does not say how it ended.

    `ERROR`: records were lost. `WARNING`: anomalies, what a security module, seccomp or integrity measurement said,
    responses. `NOTICE`: users, logins, configuration, services. `INFO`: the rest, system calls above all.
    """
    return next((severity for words, severity in _SEVERITIES if words.match(record_type)), INFO)


def _timestamp(seconds: float) -> bytes:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26].encode() + b"Z"
    except (ValueError, OverflowError, OSError):
        return _NIL  # NILVALUE: no time that a calendar has


def _word(text: str, most: int) -> bytes:
    return _NOT_PRINTABLE.sub(b"?", text.encode("utf-8", "replace"))[:most] or _NIL


def _value(text: str) -> bytes:
    return _NOT_IN_VALUE.sub(r"\\\1", _CONTROL.sub("?", text)).encode("utf-8", "replace")


def _cut(line: bytes, room: int) -> list[bytes]:
    """Split into pieces of at most `room` bytes, where that is possible between characters of UTF-8."""
    pieces = []
    start = 0
    while len(line) - start > room:
        end = start + room
        back = end
        while back > end - 4 and line[back] & 0xC0 == 0x80:  # noqa: PLR2004 - a character has four bytes at most
            back -= 1
        end = back if line[back] & 0xC0 != 0x80 else end  # noqa: PLR2004 - no UTF-8 at all: anywhere
        pieces.append(line[start:end])
        start = end
    pieces.append(line[start:])
    return pieces


class Formatter:
    """Makes syslog messages. Raises UsageError for what RFC 5424 does not admit.

    ``split`` counts the lines that went out in parts.
    """

    def __init__(
        self, *, hostname: str, procid: int, max_length: int, facility: int, sd_id: str = SD_ID
    ) -> None:
        if not LENGTH_MIN <= max_length <= LENGTH_MAX:
            raise UsageError(f"max_length {max_length} is not from {LENGTH_MIN} to {LENGTH_MAX}")
        if not 0 <= facility <= 23:  # noqa: PLR2004 - local7
            raise UsageError(f"facility {facility} is not from 0 to 23", "13 is log audit")
        try:
            SdId().parse(sd_id)
        except Unfit as error:
            raise UsageError(f"sd_id: {error}", "NUMBER is a private enterprise number") from error
        self.split = 0
        self._most = max_length
        self._facility = facility
        self._middle = b" %b %b %d " % (_word(hostname, 255), _APP, procid)
        self._sd_id = sd_id.encode()

    def messages(self, message: Message) -> list[bytes]:
        """Return them, each whole and without framing. Raises ValueError if the uid is too long to be one."""
        uid = _value(message.uid)
        if len(uid) > _UID_MAX:
            why = f"its uid has {len(uid)} bytes, more than {_UID_MAX}"
            raise ValueError(why)
        head = b"<%d>1 " % (self._facility * 8 + severity_of(message.type))
        head += _timestamp(message.time) + self._middle + _word(message.type, 32)
        head += b' [%b uid="%b"' % (self._sd_id, uid)
        lines = [line for line in message.body.split(b"\n") if line] or [b""]
        if len(lines) == 1:
            return self._parts(head, lines[0])
        return [
            part
            for number, line in enumerate(lines, start=1)
            for part in self._parts(b'%b line="%d/%d"' % (head, number, len(lines)), line)
        ]

    def _parts(self, head: bytes, line: bytes) -> list[bytes]:
        if len(head) + len(b"] ") + len(line) <= self._most:
            return [b"%b] %b" % (head, line)]
        self.split += 1
        pieces = _cut(line, self._most - len(head) - _PART - len(b"] "))
        return [
            b'%b part="%d/%d"] %b' % (head, number, len(pieces), piece)
            for number, piece in enumerate(pieces, start=1)
        ]
