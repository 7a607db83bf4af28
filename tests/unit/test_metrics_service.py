# SPDX-License-Identifier: Apache-2.0
"""The service is scraped while it runs: out of its own loop, and at no cost where nobody asked for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.config import load as config
from enricher.config.sinks import MEMORY
from enricher.errors import UsageError
from enricher.runtime import service
from enricher.runtime.metrics import METRICS, endpoint
from enricher.runtime.metrics.sources import PREFIX
from enricher.runtime.routes import Routes
from tests.unit.exposition_reader import Read, read
from tests.unit.fake_host import Host, install
from tests.unit.sample_sinks import install as install_sinks
from tests.unit.sample_sinks import table
from tests.unit.test_service import Asked, Bench

# What is not there on a host that is a double: a helper, destinations, a reload, measured programs.
ABSENT = (
    *("metadata_requests", "metadata_answers", "metadata_not", "metadata_waiting", "metadata_containers"),
    *("sink_", "reload_", "bpf_", "kernel_lost"),
)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    host = Host()
    install(host, monkeypatch)
    made = Bench(tmp_path, host, monkeypatch)
    made.file.write_text(made.file.read_text() + f'[metrics]\nsocket = "{tmp_path}/metrics.sock"\n')
    yield made
    made.manager.close()


class Scraper:
    """Acts of a test: to ask, to let the loop do the rest, and to take the answer."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.found: dict[str, Read] = {}
        self.client: socket.socket

    def acts(self) -> tuple[object, ...]:
        return self.ask, self.turn, self.turn, self.take

    def ask(self, asked: Asked) -> None:
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(str(self.bench.directory / "metrics.sock"))
        self.client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        self.turn(asked)

    def turn(self, _: Asked) -> None:
        server = self.bench.running._metrics.server
        assert server is not None
        self.bench.host.ready = [server.fileno()]

    def take(self, _: Asked) -> None:
        self.client.settimeout(0)
        head, _blank, body = self.client.recv(1 << 20).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        self.client.close()
        self.found = read(body)

    def value(self, name: str, *labels: tuple[str, str]) -> float:
        return self.found[PREFIX + name].samples[PREFIX + name, labels]


def scrape(bench: Bench, *before: object) -> Scraper:
    scraper = Scraper(bench)
    bench.run(*before, lambda _: None, *scraper.acts())  # type: ignore[arg-type]
    return scraper


def test_a_scrape_out_of_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "measures_programs", lambda: False)
    bench.host.ring_drops = [0, 3]
    bench.leave(90)
    scraper = scrape(bench, bench.event, bench.event)
    assert scraper.value("balanced") == 1
    assert scraper.value("records_received_total") == scraper.value("records_joined_total") == 4
    assert scraper.value("output_events_total") == 3, "two, and the notice of the gap"
    assert scraper.value("gap_events") == 9
    assert scraper.value("ring_drops_total", ("cpu", "1")) == 3
    assert scraper.value("scrapes_total") == 1
    latency = f"{PREFIX}event_latency_seconds"
    assert scraper.found[latency].samples[f"{latency}_count", ()] == 2, "the notice is of no kernel"
    expected = {PREFIX + row.name for row in METRICS if not row.name.startswith(ABSENT)}
    assert set(scraper.found) == expected
    assert not (bench.directory / "metrics.sock").exists()


def test_a_destination_has_every_figure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the status as it is, and not as a test invents it."""
    install_sinks(monkeypatch)
    monkeypatch.setattr(Routes.stop, "__defaults__", (0.2,))
    with bench.file.open("a") as file:
        file.write(table("a", 'max_size = "64M"') + table("b", 'queue = "memory"'))
    scraper = scrape(bench, bench.event)
    expected = {PREFIX + row.name for row in METRICS if row.name.startswith("sink_")}
    assert {name for name in scraper.found if name.startswith(f"{PREFIX}sink_")} == expected
    for name in expected - {f"{PREFIX}sink_info"}:
        assert {labels for _, labels in scraper.found[name].samples} == {(("sink", "a"),), (("sink", "b"),)}
    assert scraper.value("sink_max_bytes", ("sink", "a")) == 64 << 20
    assert scraper.value("sink_max_bytes", ("sink", "b")) == MEMORY


def test_a_loss_is_seen(bench: Bench) -> None:
    def lose(_: Asked) -> None:
        bench.host.dropped += 5

    scraper = scrape(bench, bench.event, lose)
    assert scraper.value("records_lost_total", ("cause", "netlink")) == 5
    assert scraper.value("balanced") == 0


def test_programs_where_the_kernel_measures(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "measures_programs", lambda: True)
    bench.host.measured = {"audit_log_end": (1_500_000_000, 7)}
    scraper = scrape(bench)
    assert scraper.value("bpf_run_seconds_total", ("program", "audit_log_end")) == 1.5
    assert scraper.value("bpf_runs_total", ("program", "audit_log_end")) == 7


def test_the_status_and_the_metrics_agree(bench: Bench) -> None:
    seen: list[dict[str, object]] = []
    scraper = Scraper(bench)
    bench.run(bench.event, *scraper.acts(), lambda _: seen.append(bench.running._status()))  # type: ignore[arg-type]
    account = seen[0]["account"]
    assert isinstance(account, dict)
    assert account["balanced"] is True
    assert account["delivered"] == scraper.value("records_received_total")


def test_who_asks_for_no_metrics_pays_nothing(bench: Bench) -> None:
    bench.configure()
    seen: list[object] = []

    def look(_: Asked) -> None:
        seen.append((bench.running._metrics.server, bench.running._output.latency))

    bench.run(bench.event, look)
    assert seen == [(None, None)]


def test_where_it_cannot_listen_nothing_is_attached(bench: Bench) -> None:
    (bench.directory / "metrics.sock").write_text("precious")
    with pytest.raises(UsageError, match="something else is there"):
        bench.run()
    assert bench.host.log == []
    assert (bench.directory / "metrics.sock").read_text() == "precious"


def test_a_second_service_does_not_take_the_socket(bench: Bench, tmp_path: Path) -> None:
    def second(_: Asked) -> None:
        found = config.load(str(bench.file), {})
        with pytest.raises(UsageError):
            service.run(str(bench.file), found, Asked(), bench.said.append)

    scraper = Scraper(bench)
    bench.run(second, *scraper.acts())  # type: ignore[arg-type]
    assert scraper.value("balanced") == 1
    assert not (tmp_path / "metrics.sock").exists()
