# SPDX-License-Identifier: Apache-2.0
"""Routes as the tests of them need them: to receivers that are doubles, with settings that a test writes as TOML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Condition

import pytest

from enricher.config import load
from enricher.enrich.surroundings import Surroundings
from enricher.errors import ConfigInvalid
from enricher.model import HostFacts
from enricher.route.filters import Shared
from enricher.runtime import sinkconfig, sinktypes
from enricher.runtime.route import Place
from enricher.runtime.routes import Routes
from enricher.runtime.sinkconfig import SinkSetting
from enricher.sinks.delivery.message import ALL_TAKEN, Message, Receipt, Unreachable
from enricher.sinks.delivery.relp import RelpOptions
from enricher.sources.names import NoNames
from tests.unit.sample_events import HOST

DEADLINE = 20.0


class Double:
    """The receivers of a test, by address. One that is `away` cannot be reached."""

    def __init__(self) -> None:
        self.got: dict[str, list[Message]] = {}
        self.away: set[str] = set()
        self.wrong: set[str] = set()
        self.refuses: set[str] = set()
        self.made: list[str] = []
        self.log: list[str] = []
        self.changed = Condition()

    def bodies(self, address: str) -> list[bytes]:
        return [message.body for message in self.got.get(address, [])]

    def wait(self, address: str, count: int) -> list[Message]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got.get(address, [])) >= count, DEADLINE), self.got
            return list(self.got[address])


class Sender:
    acknowledged = True
    most = 100

    def __init__(self, double: Double, address: str) -> None:
        if address in double.wrong:
            raise ConfigInvalid(f"ca_file: no such file for {address}")
        self._double = double
        self._address = address
        double.made.append(address)

    def send(self, messages: Sequence[Message]) -> Receipt:
        double, address = self._double, self._address
        with double.changed:
            double.changed.notify_all()
            if address in double.away:
                double.log.append(f"away {address}")
                raise Unreachable(f"{address} is away")
            if address in double.refuses:
                return Receipt(dict.fromkeys(range(len(messages)), "no"))
            double.got.setdefault(address, []).extend(messages)
        return ALL_TAKEN

    def close(self) -> None:
        self._double.log.append(f"close {self._address}")


def install(monkeypatch: pytest.MonkeyPatch) -> Double:
    """Let type relp be a double."""
    double = Double()

    def make(options: RelpOptions, _: HostFacts) -> Sender:
        return Sender(double, options.address)

    relp = sinktypes.TYPES["relp"]._replace(make=make)
    monkeypatch.setitem(sinktypes.TYPES, "relp", relp)
    return double


def table(name: str, more: str = "", address: str = "") -> str:
    return f'[sinks.{name}]\ntype = "relp"\naddress = "{address or name}:1"\n{more}\n'


def settings(directory: Path, *tables: str) -> list[SinkSetting]:
    (directory / "sinks.toml").write_text("".join(tables))
    return sinkconfig.load(load.load(str(directory / "sinks.toml"), {}))


class Made:
    """Routes with their directory."""

    def __init__(self, directory: Path, *tables: str) -> None:
        self.directory = directory
        self.said: list[str] = []
        place = Place(HOST, Surroundings(HOST), str(directory), self.said.append)
        self.routes = Routes(settings(directory, *tables), place, NoNames())

    def reload(self, *tables: str) -> list[str]:
        return self.routes.prepare(settings(self.directory, *tables)).commit()

    def facts(self, name: str) -> dict[str, object]:
        (found,) = [each for each in self.routes.facts() if each["name"] == name]
        return found

    def spooled(self, name: str) -> Path:
        return self.directory / "spool" / name


__all__ = ["Double", "Made", "Shared", "install", "settings", "table"]
