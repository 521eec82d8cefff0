"""The report: a table with every row beside its goal, and a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

GOALS = json.loads((Path(__file__).parent / "goals.json").read_text())
RIVALS = ("FAISS flat", "numpy", "HNSW 100", "HNSW 200", "bare scan")


def goal_of(row: dict[str, Any]) -> tuple[str, bool]:
    """The row's goal in words, and whether what was measured reaches it ("" and True where there is none)."""
    goal = GOALS["rows"].get(row["name"])
    if goal is None:
        return "", True
    words, met = [], True
    if "ratio_min" in goal:
        words.append(f"≥ {goal['ratio_min']:g}×")
        met &= row["ratio"] >= goal["ratio_min"]
    if "p50_ms_max" in goal:
        words.append(f"≤ {goal['p50_ms_max']:g} ms")
        met &= row["core"]["p50_ms"] <= goal["p50_ms_max"]
    if "hot_p95_ms_max" in goal:
        words.append(f"hot p95 ≤ {goal['hot_p95_ms_max']:g} ms")
        met &= row["core_hot"]["p95_ms"] <= goal["hot_p95_ms_max"]
    return ", ".join(words), met


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Every row as people read it."""
    table = Table(title="core: milliseconds of processor time, p50 / p95, queries interleaved with all the others'")
    heads = ["row", "core", "alone", *RIVALS, "× FAISS [95 %]", "rows read", "exact", "recall HNSW 100/200", "goal"]
    for head in heads:
        table.add_column(head, justify="left" if head in ("row", "goal") else "right")
    for row in rows:
        goal, met = goal_of(row)
        table.add_row(
            row["name"], _pair(row["core"]), _pair(row["core_hot"]),
            *(_pair(row["rivals"].get(name)) for name in RIVALS),
            f"{row['ratio']:.1f} [{row['ratio_low']:.1f}, {row['ratio_high']:.1f}]", f"{row['rows_touched']:,.0f}",
            f"{row['exact']}/{row['queries']}",
            " / ".join(f"{row['recall'][n]:.2f}" for n in ("HNSW 100", "HNSW 200") if n in row["recall"]),
            f"{'[green]' if met else '[red]'}{goal}",
        )  # fmt: skip
    return table


def _pair(timed: dict[str, float] | None) -> str:
    return f"{timed['p50_ms']:.3f} / {timed['p95_ms']:.3f}" if timed else ""


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table and the single figures."""
    console.print(table_of(report["rows"]))
    for upkeep in report["upkeep"]:
        lines = [
            f"insert at {upkeep['rows']:,}: {upkeep['insert_us']:.2f} µs a row (goal ≤ {GOALS['insert_us_max']:g})",
            f"longest apply {upkeep['pause_ms']:.1f} ms (goal ≤ {GOALS['insert_pause_ms_max']:g})",
            f"longest recall beside it {upkeep['recall_pause_ms']:.1f} ms, {upkeep['steps']} merges",
            f"restart {upkeep['restart_s']:.2f} s (goal at 1M ≤ {GOALS['restart_1M_s_max']:g})",
        ]
        console.print("; ".join(lines))


def draw(report: dict[str, Any], file: Path) -> None:
    """p50 by half-life for the largest 256-d population, everybody beside everybody, on a log scale."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the backend is chosen first

    rows = [r for r in report["rows"] if r["name"].endswith("k10") and "x256" in r["name"] and "tail" not in r["name"]]
    sizes = sorted({r["name"].split()[0] for r in rows}, key=lambda s: int(s[:-1]) * (1000 if s.endswith("M") else 1))
    figure, axes = plt.subplots(1, len(sizes), figsize=(3.2 * len(sizes), 3.6), squeeze=False, layout="constrained")
    for axis, size in zip(axes[0], sizes, strict=True):
        mine = [r for r in rows if r["name"].startswith(size + " ")]
        labels = [r["name"].removeprefix(size + " x256 ").removesuffix(" k10") for r in mine]
        axis.plot(labels, [r["core"]["p50_ms"] for r in mine], "o-", label="core, exact", linewidth=2)
        for name in RIVALS:
            if all(name in r["rivals"] for r in mine):
                axis.plot(labels, [r["rivals"][name]["p50_ms"] for r in mine], ".--", label=name, linewidth=1)
        axis.set(yscale="log", title=f"{size} × 256, k = 10")
        axis.tick_params(axis="x", rotation=60)
    axes[0][0].set_ylabel("p50, ms")
    axes[0][-1].legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)
