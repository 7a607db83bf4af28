# SPDX-License-Identifier: Apache-2.0
"""docs/metrics.md: how the service is scraped, every metric, and the alerts that are shipped.

Owns that page's prose. The metrics are rows in enricher/runtime/metrics, the alerts packaging/prometheus.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enricher.config.settings import GROUP, METRICS_PORT, METRICS_SOCKET
from enricher.runtime.metrics import METRICS
from enricher.runtime.metrics.latency import BOUNDS
from enricher.runtime.metrics.server import CLIENTS_MAX, FRESH, REQUEST_MAX
from enricher.runtime.metrics.sources import PREFIX

if TYPE_CHECKING:
    from enricher.runtime.metrics.sources import Metric

RULES: Final = Path(__file__).parents[2] / "packaging" / "prometheus" / "audit-enricher.rules.yml"

_HEAD: Final = f"""\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by tools/gen_docs.py (`make docs`); changes here are lost. -->
# Metrics

The service tells its figures to [Prometheus](https://prometheus.io), in the text format 0.0.4, where the settings
[`{METRICS_SOCKET.name}`](configuration.md) or [`{METRICS_PORT.name}`](configuration.md) ask for it; by default it does
not. `audit-enricher status --json` has most of them as well, without any setting. No metric holds anything of an event,
and none the text of an error: `status` and the service's log tell why.

## Scraping

Over a Unix socket, which admits root and the group `{GROUP.name}`, as the control socket does:

```toml
[metrics]
socket = "/run/audit-enricher/metrics.sock"
```

```
curl --unix-socket /run/audit-enricher/metrics.sock http://localhost/metrics
```

Prometheus itself does not scrape Unix sockets. Let a proxy of the host, which many have for TLS anyway, hand `/metrics`
on to the socket; or write the text to where node_exporter's textfile collector looks, from a timer, as a user of the
group:

```
curl --fail --silent --unix-socket /run/audit-enricher/metrics.sock http://localhost/metrics > "$DIR/audit.prom.new" &&
    mv "$DIR/audit.prom.new" "$DIR/audit.prom"
```

Or over a TCP port of 127.0.0.1 and, where the host has it, ::1; of no other address. Every user of the host, and every
container in the host's network, may then read the figures:

```toml
[metrics]
port = 9760
```

The unit lets the service use no TCP. This goes into a drop-in (`systemctl edit audit-enricher`):

```ini
[Service]
RestrictAddressFamilies=AF_INET AF_INET6
IPAddressAllow=localhost
```

And this into the configuration of a Prometheus, or an agent of it, on the host:

```yaml
scrape_configs:
  - job_name: audit-enricher
    static_configs:
      - targets: ["127.0.0.1:9760"]
```

It takes `GET /metrics` over HTTP/1.0 or 1.1, one request for each connection. Anything else gets 400, 404 or 405, a
request of more than {REQUEST_MAX} bytes 431. At most {CLIENTS_MAX} clients are connected; the oldest goes for a
new one.

The loop that handles records answers between two batches, so up to a second late where the service lets its own noise
gather (below), and never waits for a client. Making the text is all that a scrape costs. It is made at most
{1 / FRESH:g} times a second: who asks again within {FRESH:g} s gets the same one.

## Reading them

Counters begin at 0 with each start of the service. A metric whose value is not known on this host is absent, not 0: for
example what a kernel does not count, or anything about a journal that is not kept.

- `{PREFIX}event_latency_seconds` has {len(BOUNDS)} buckets, from {BOUNDS[0]:g} to {BOUNDS[-1]:g} s.
  It is measured only where metrics are asked for. Under rules that record the service's own system calls, up to 0.25 s
  of it are the [wait](operations.md#running) that keeps its own noise down, on an idle host up to 1 s.
  Where several events come at a time, those behind them gather for 2 ms.
- `{PREFIX}bpf_run_seconds_total` and `{PREFIX}bpf_runs_total` are there while `sysctl kernel.bpf_stats_enabled` is 1.
  Measuring costs each run of each program on the host a little; switch it off afterwards.
- The two sides of the join: a record that netlink brought and the hook did not tell of is in
  `{PREFIX}records_without_context_total`, one that the hook told of and netlink did not bring in
  `{PREFIX}records_missing`. The latter is a gauge, since such a record may still come.
- A CPU in `{PREFIX}ring_drops_total` is a possible one: it need not be there. These counters run from the load of the
  programs on, those of causes from the start of the run.

## Alerts

`/usr/share/doc/audit-enricher/examples/audit-enricher.rules.yml` is a file of rules for Prometheus, to be named in
`rule_files`. It uses no metric that is not below. That a host does not answer is not in it: that is `up == 0`, as for
every job.

| alert | severity | fires when |
|---|---|---|
"""

_METRICS: Final = """

## Metrics

| metric | type | unit | labels | meaning | taken from |
|---|---|---|---|---|---|
"""


def markdown() -> str:
    """Return the page."""
    return _HEAD + "\n".join(_alerts()) + _METRICS + "".join(map(_row, METRICS))


def _alerts() -> list[str]:
    found = re.findall(
        r"^ +- alert: (\w+)\n +expr: \"(.*)\"\n(?: +for: (\w+)\n)? +labels:\n +severity: (\w+)$",
        RULES.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [
        f"| `{name}` | {severity} | `{expression}`" + (f", for {lasting}" if lasting else "") + " |"
        for name, expression, lasting, severity in found
    ]


def _row(row: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in row.labels) or "none"
    cells = (f"`{PREFIX}{row.name}`", row.kind, row.unit or "none", labels, row.help, row.source.words)
    return f"| {' | '.join(cells)} |\n"
