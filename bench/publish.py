"""Put the last measured report into the documentation: `python -m bench.publish`.

Numbers in docs/reference/benchmarks.md stand between two marks and are never typed by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.core_report import GOALS, RIVALS, goal_of

REPORT = Path("build/out/bench-core.json")
PAGE = Path("docs/reference/benchmarks.md")
BEGIN, END = "<!-- measured: begin (python -m bench.publish) -->", "<!-- measured: end -->"


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    heads = ["row", "core p50 / p95", "alone p50 / p95", *(f"{name} p50" for name in RIVALS), "ratio to FAISS flat",
             "rows read", "exact", "goal"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in report["rows"]:
        goal, met = goal_of(row)
        cells = [
            row["name"], _pair(row["core"]), _pair(row["core_hot"]),
            *(f"{row['rivals'][name]['p50_ms']:.2f}" if name in row["rivals"] else "" for name in RIVALS),
            f"{row['ratio']:.1f} [{row['ratio_low']:.1f}, {row['ratio_high']:.1f}]",
            f"{row['rows_touched']:,.0f}", f"{row['exact']}/{row['queries']}",
            f"{goal}: {'reached' if met else 'missed'}" if goal else "",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_recalls(report), "", *map(_upkeep, report["upkeep"]), "", _machine(report)])


def _pair(timed: dict[str, float]) -> str:
    return f"{timed['p50_ms']:.2f} / {timed['p95_ms']:.2f}"


def _recalls(report: dict[str, Any]) -> list[str]:
    """Recall under the whole score of what answers another question."""
    lines = ["| recall@10 under the whole score | FAISS flat, top 10 | HNSW 100 | HNSW 200 |", "|---|---|---|---|"]
    for row in report["rows"]:
        if "HNSW 100" in row["recall"]:
            cells = [f"{row['recall'][name]:.2f}" for name in ("FAISS flat", "HNSW 100", "HNSW 200")]
            lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return lines


def _upkeep(upkeep: dict[str, Any]) -> str:
    return (
        f"At {upkeep['rows']:,} memories: an insert costs {upkeep['insert_us']:.1f} µs of the writer's processor time "
        f"(goal ≤ {GOALS['insert_us_max']:g}), the longest of its pauses by the clock is {upkeep['pause_ms']:.0f} ms "
        f"(goal ≤ {GOALS['insert_pause_ms_max']:g}), the longest recall meanwhile {upkeep['recall_pause_ms']:.0f} ms, "
        f"over {upkeep['steps']} merges. A restart, checksums included, takes {upkeep['restart_s']:.2f} s to the first "
        f"answer (goal at a million ≤ {GOALS['restart_1M_s_max']:g}); {upkeep['bytes_on_disk'] / 1e6:.0f} MB on disk.\n"
    )


def _machine(report: dict[str, Any]) -> str:
    m = report["machine"]
    return (
        f"Measured {report['made_at'][:10]}: {m['processors']} virtual cores, AVX-512, shared with other work; Python "
        f"{m['python']}, numpy {m['numpy']}, faiss-cpu {m['faiss']}; {report['rows'][0]['queries']} queries a row."
    )


def main() -> int:
    """0 when the page was written."""
    page = PAGE.read_text()
    made = f"{BEGIN}\n{markdown(json.loads(REPORT.read_text()))}\n{END}"
    PAGE.write_text(re.sub(re.escape(BEGIN) + r".*?" + re.escape(END), lambda _: made, page, flags=re.DOTALL))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
