# SPDX-License-Identifier: Apache-2.0
"""Schemas: a native event in the words of others, from tables of data.

Owns the registry. A schema takes the native event that `enrich.native` built and `route.select` may have cut down, and
never the event of the join: audit text alone is made from that (`route.views.audit_text`), since it passes on the
kernel's own bytes. So ``text`` is no schema here; who composes the stages asks for it by that name first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

import msgpack

from enricher.codec import dumps
from enricher.errors import UsageError
from enricher.route.schemas import cef, ecs, ocsf, otlp

if TYPE_CHECKING:
    from collections.abc import Callable

    from enricher.enrich.shape import HostEntry, NativeEvent

    Render = Callable[[NativeEvent], bytes]

__all__ = ["SCHEMAS", "TEXT", "renderer"]

TEXT: Final = "text"


class _Maker(Protocol):
    """Makes a renderer for the host on which the program runs. `raw`: the records' own text was asked for."""

    def __call__(self, host: HostEntry, *, raw: bool) -> Render: ...


def _native(host: HostEntry, *, raw: bool) -> Render:  # noqa: ARG001 - a maker takes both
    return dumps


def _msgpack(host: HostEntry, *, raw: bool) -> Render:  # noqa: ARG001
    return lambda native: cast("bytes", msgpack.packb(native))


def _ecs(host: HostEntry, *, raw: bool) -> Render:  # noqa: ARG001
    return lambda native: dumps(ecs.document(native, raw=raw))


def _ocsf(host: HostEntry, *, raw: bool) -> Render:  # noqa: ARG001
    return lambda native: dumps(ocsf.event(native, raw=raw))


def _otlp(host: HostEntry, *, raw: bool) -> Render:
    return lambda native: dumps(otlp.log_record(native, host, raw=raw))


def _cef(host: HostEntry, *, raw: bool) -> Render:  # noqa: ARG001
    return cef.line


SCHEMAS: Final[dict[str, _Maker]] = {
    "native": _native,
    "ecs": _ecs,
    "ocsf": _ocsf,
    "otlp": _otlp,
    "cef": _cef,
    "msgpack": _msgpack,
}


def renderer(name: str, host: HostEntry, *, raw: bool = False) -> Render:
    """Return what makes a message's body, without a newline at its end. Raises UsageError for a name not known."""
    maker = SCHEMAS.get(name)
    if maker is None:
        raise UsageError(f"no such schema: {name}", f"there are {', '.join((*SCHEMAS, TEXT))}")
    return maker(host, raw=raw)
