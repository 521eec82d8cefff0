"""Fail when the core has become slower: `python -m bench.guard [--update]`.

What is compared is the paired ratio to FAISS flat, which cancels most of what differs between machines and moments. A
row fails when its whole 95 % interval lies more than 5 % below bench/baseline.json; and any inexact answer fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
from rich.console import Console

from bench import core_rivals as rivals
from bench.core import scorings
from bench.core_data import population
from bench.core_measure import Row, measure
from sfmd.core.engine import set_blas_threads

BASELINE = Path(__file__).parent / "baseline.json"
TOLERANCE = 0.05
GUARDED = ((10_000, 256, "30 d"), (200_000, 256, "7 d"), (200_000, 256, "30 d"), (200_000, 256, "infinite"))


def problems(measured: Mapping[str, Mapping[str, Any]], baseline: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is worse than the baseline allows, in words; nothing when all is well."""
    found = [f"{name}: in the baseline, not measured" for name in baseline if name not in measured]
    found += [f"{name}: measured, not in the baseline; run with --update" for name in measured if name not in baseline]
    for name, row in measured.items():
        if row["exact"] != row["queries"]:
            found.append(f"{name}: {row['queries'] - row['exact']} of {row['queries']} answers are not the oracle's")
        if name in baseline and row["ratio_high"] < (1.0 - TOLERANCE) * baseline[name]["ratio"]:
            found.append(
                f"{name}: {row['ratio']:.2f}× FAISS flat [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}], "
                f"wholly more than {TOLERANCE:.0%} below the baseline's {baseline[name]['ratio']:.2f}×"
            )
    return found


def measure_all(queries: int) -> dict[str, dict[str, Any]]:
    """The guarded rows, each interleaved with FAISS flat and a bare scan, which leaves the caches cold for both."""
    made: dict[str, dict[str, Any]] = {}
    for n, dim in dict.fromkeys((n, dim) for n, dim, _ in GUARDED):
        people = population(n, dim, queries)
        for label in [label for m, d, label in GUARDED if (m, d) == (n, dim)]:
            scoring = scorings([label])[label]
            others = {"FAISS flat": rivals.flat(people, 10), "bare scan": rivals.bare_scan(people)}
            index = people.index(scoring)
            row: Row = measure(people, scoring, label, 10, others, index=index)
            made[row.name] = {
                name: getattr(row, name) for name in ("ratio", "ratio_low", "ratio_high", "exact", "queries")
            }  # fmt: skip
            index.close()
    return made


def main() -> int:
    """0: no worse; 3: a row is worse or inexact."""
    parser = argparse.ArgumentParser(description="Compare the core's speed with the committed baseline.")
    parser.add_argument("--update", action="store_true", help="write the baseline from this run")
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    console = Console()
    set_blas_threads(1)
    faiss.omp_set_num_threads(1)
    measured = measure_all(arguments.queries)
    for name, row in measured.items():
        console.print(f"{name}: {row['ratio']:.2f}× FAISS flat [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]")
    if arguments.update:
        BASELINE.write_text(json.dumps(measured, indent=1) + "\n")
        console.print(f"wrote {BASELINE}")
        return 0
    found = problems(measured, json.loads(BASELINE.read_text()))
    for line in found:
        console.print(f"[red]slower[/red] {line}")
    return 3 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
