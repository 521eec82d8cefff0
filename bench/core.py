"""Measure the core: `python -m bench.core [--quick] [--large]`.

Every figure that is compared comes from one interleaved run; every answer is compared with the oracle. Writes
build/out/bench-core.json and a plot beside it, and prints a table with each row's goal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rich.console import Console

from bench import core_rivals as rivals
from bench.core_data import HALF_LIVES_S, SIGMOID, Population, population
from bench.core_measure import Row, measure
from bench.core_report import draw, goal_of, show
from bench.core_upkeep import Upkeep, upkeep_of
from sfmd.core.engine import ENGINE, set_blas_threads
from sfmd.core.model import Scoring

OUT = Path("build/out")
LARGEST_GRAPH = 100_000
"""HNSW is built up to here unless --large: a graph over 200k takes minutes."""


def scorings(labels: list[str]) -> dict[str, Scoring]:
    """By label: one half-life each, and "no spread", where nothing but similarity ranks."""
    made = {label: Scoring((tau,), (), 1.0, 1.0, SIGMOID) for label, tau in HALF_LIVES_S.items()}
    made["no spread"] = Scoring((HALF_LIVES_S["infinite"],), (), 0.0, 1.0, SIGMOID)
    return {label: made[label] for label in labels}


def rows_of(people: Population, labels: list[str], *, graph: bool, console: Console, all_k: bool = True) -> list[Row]:
    """Every half-life of one population, k = 10 and (against FAISS alone) k = 5."""
    hnsw = rivals.hnsw_index(people) if graph else None
    out = []
    for label, scoring in scorings(labels).items():
        index = people.index(scoring)
        for k in (10, 5) if all_k else (10,):
            others = {"FAISS flat": rivals.flat(people, k)}
            if k == 10:
                others["numpy"] = rivals.brute(people, scoring, k)
                if hnsw is not None:
                    others |= {f"HNSW {n}": rivals.over_fetch(people, hnsw, scoring, k, n) for n in (100, 200)}
                others["bare scan"] = rivals.bare_scan(people)
            row = measure(people, scoring, label, k, others, index=index)
            out.append(row)
            console.print(f"{row.name}: {row.core.p50_ms:.3f} ms, {row.ratio:.1f}×, exact {row.exact}/{row.queries}")
        index.close()
    return out


def with_tail(people: Population, console: Console) -> Row:
    """30 d while 1,000 of the rows are still in the unsorted tail."""
    scoring = scorings(["30 d"])["30 d"]
    index = people.index(scoring, tail=1000)
    row = measure(people, scoring, "30 d, tail 1,000", 10, {"FAISS flat": rivals.flat(people, 10)}, index=index)
    console.print(f"{row.name}: {row.core.p50_ms:.3f} ms, {row.ratio:.1f}×, exact {row.exact}/{row.queries}")
    index.close()
    return row


def run(arguments: argparse.Namespace, console: Console) -> Iterator[dict[str, Any]]:
    """The JSON report after each population: a run that is broken off has measured what it has measured."""
    labels = [*HALF_LIVES_S, "no spread"]
    sizes = [(10_000, 256), (200_000, 256)] if arguments.quick else [
        (5_000, 256), (10_000, 256), (100_000, 256), (200_000, 256), (100_000, 768)]  # fmt: skip
    if arguments.large:
        sizes.append((1_000_000, 256))
    if arguments.sizes:
        sizes = [(int(n), int(d)) for n, d in (pair.split("x") for pair in arguments.sizes.split(","))]
    rows: list[Row] = []
    upkeeps: list[Upkeep] = []
    for n, dim in sizes:
        people = population(n, dim, min(arguments.queries, 30) if n > 200_000 else arguments.queries)
        graph = dim == 256 and (n <= LARGEST_GRAPH or (arguments.large and n <= 200_000)) and not arguments.quick
        wanted = ["7 d", "30 d", "infinite"] if arguments.quick or n > 200_000 else labels
        rows += rows_of(people, wanted, graph=graph, console=console, all_k=not arguments.quick)
        if n >= 200_000:
            rows.append(with_tail(people, console))
            upkeeps.append(upkeep_of(people, scorings(["30 d"])["30 d"], 5_000 if arguments.quick else 20_000))
        yield report_of(rows, upkeeps)


def report_of(rows: list[Row], upkeeps: list[Upkeep]) -> dict[str, Any]:
    """What was measured so far, as the JSON report."""
    return {
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "engine": ENGINE,
        "machine": {"processors": os.cpu_count(), "architecture": platform.machine(), "numpy": np.__version__,
                    "faiss": faiss.__version__, "python": platform.python_version()},
        "rows": [row.as_json() for row in rows], "upkeep": [upkeep.as_json() for upkeep in upkeeps],
    }  # fmt: skip


def main() -> int:
    """0 when every answer was the oracle's, 3 otherwise: a missed speed goal is shown, a wrong answer fails."""
    parser = argparse.ArgumentParser(description="Measure the scoring core against FAISS, numpy and HNSW.")
    parser.add_argument("--quick", action="store_true", help="10k and 200k, three half-lives, no HNSW")
    parser.add_argument("--large", action="store_true", help="1M rows too, and HNSW at 200k")
    parser.add_argument("--sizes", help="e.g. 10000x256,100000x768 instead of the usual ones")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--plot", type=Path, default=OUT / "bench-core.svg")
    arguments = parser.parse_args()
    console = Console(width=220)
    set_blas_threads(1)
    faiss.omp_set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for report in run(arguments, console):
        (OUT / "bench-core.json").write_text(json.dumps(report, indent=1))
    show(report, console)
    draw(report, arguments.plot)
    missed = [row["name"] for row in report["rows"] if not goal_of(row)[1]]
    console.print(f"goals missed: {', '.join(missed) or 'none'}; report in {OUT / 'bench-core.json'}")
    return 0 if all(row["exact"] == row["queries"] for row in report["rows"]) else 3


if __name__ == "__main__":
    raise SystemExit(main())
