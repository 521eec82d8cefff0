"""Writes docs/reference/metrics.md from the registry itself: every family that a scrape of /metrics holds.

`python docs/generate/metrics.py` writes it; `--check` says whether it is as it should be and leaves with 3 when not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sfmd.contract import GateState, NamespaceStats, ServiceStats
from sfmd.limits import InFlight
from sfmd.observe import Metrics

TARGET = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"

HEAD = """# Metrics

Made from the daemon's registry by `docs/generate/metrics.py`; edit the texts in `sfmd/observe.py`.

`http://127.0.0.1:9595/metrics`. All values come from memory, so a scrape answers while the store is busy. Rates and
latencies "over the last minute" are the service's own; the histograms are for `histogram_quantile`. The size of a group
commit is `rate(sfmd_rows_committed_total[5m]) / rate(sfmd_commits_total[5m])`.

## The port

It has no TLS and asks for no token, and listens on this machine unless `SOMA_HTTP__HOST` says otherwise. It names
namespaces and counts, never a payload.

| path | answer |
|---|---|
| `/livez` | 200 as long as the process turns; asks nothing else, for a liveness probe |
| `/readyz` | 200 while calls are taken, 503 while the daemon starts or drains, for a readiness probe |
| `/healthz` | a JSON document; 503 when the store or a file has a problem, which it names |
| `/stats` | a JSON document: counts, rates, latencies and gates |
| `/metrics` | the metrics below |

## The metrics

| metric | type | labels | meaning |
|---|---|---|---|
"""


def sample() -> ServiceStats:
    """A state in which every family has a sample, so that its labels can be read off."""
    q = {"q50": 0.5}
    gate = GateState("G1", False, False, 0.0, 1.0, "", 300.0)
    ns = NamespaceStats("notes", 0, 0, 0, 0, 0, 0, 0.0, q, q, 0.0, 0, (gate,))
    return ServiceStats((ns,), 0, 0, 0, 0, 0, 0, 0, 0, 0, "engine", "version", outcomes={"CREATED": 0})


def rows() -> Iterator[str]:
    """One line per family, by name."""
    metrics = Metrics()
    metrics.watch_service(sample)
    metrics.watch_flight(InFlight("unary calls", 1, 0.1))
    metrics.request("Store", "OK", 0.0)
    for family in sorted(metrics.registry.collect(), key=lambda f: f.name):
        labels = sorted({label for s in family.samples for label in s.labels} - {"le"})
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        text = family.documentation.replace("|", "\\|")
        yield f"| `{name}` | {family.type} | {', '.join(labels) or '–'} | {text} |"


def document() -> str:
    """The whole page."""
    return HEAD + "\n".join(rows()) + "\n"


def main() -> int:
    """Write the page, or with --check compare it."""
    made = document()
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text() == made
        print(
            "docs/reference/metrics.md is",
            "as the registry has it" if same else "stale: python docs/generate/metrics.py",
        )
        return 0 if same else 3
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
