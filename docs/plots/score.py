"""Draws the plots of "How the score works" from the daemon's own core, so that a picture cannot differ from the code.

Run by `make docs` (with a folder: into that one); the files are the same on every run (no date, fixed ids).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from sfmd.core import normaliser, score
from sfmd.core.model import NormaliserVersion, Scoring

IMAGES = Path(__file__).resolve().parent.parent / "img"
DAY_S = 86_400.0
CLASSES = (("7 d", 7 * DAY_S), ("30 d", 30 * DAY_S), ("180 d", 180 * DAY_S), ("never", math.inf))


def one_score(scoring: Scoring, *, s: float, r: float, age_s: float, half_life: int = 0) -> float:
    """2^L of one row, by the core's definition."""
    found = score.Definition(scoring, now_s=age_s).terms(b"x", s, 1, r, 0.0, half_life, ())
    return 0.0 if found is None else 2.0**found.log2_score


def decay(axes: Axes) -> None:
    """Score of one memory as it ages, in each half-life class."""
    scoring = Scoring(half_life_s=tuple(tau for _, tau in CLASSES))
    days = np.linspace(0, 365, 366)
    for number, (name, _) in enumerate(CLASSES):
        fresh = one_score(scoring, s=1.0, r=math.nan, age_s=0.0, half_life=number)
        axes.plot(days, [one_score(scoring, s=1.0, r=math.nan, age_s=d * DAY_S, half_life=number) / fresh
                         for d in days], label=f"half-life {name}")  # fmt: skip
    axes.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="age in days", ylabel="decay factor", title="Decay: half after one half-life, never rewritten")
    axes.legend()


def importance(axes: Axes) -> None:
    """Normalised importance over raw importance, by versions cut from a skewed sample."""
    raw = np.log2(1 + np.random.default_rng(11).pareto(1.2, 4096) * 8)
    state = normaliser.NormaliserState()
    grid = np.linspace(0, 12, 241)
    taken = 0
    for n in (8, 32, 64, 4096):
        state.observe(raw[taken:n].tolist())
        taken = n
        version: NormaliserVersion = state.version
        axes.plot(grid, [normaliser.normalised(float(r), version) for r in grid],
                  label=f"after {n} values: {version.kind}, version {version.version}")  # fmt: skip
    axes.axhline(normaliser.NEUTRAL, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="raw importance r", ylabel="normalised importance i", ylim=(0, 1),
             title="Importance: min-max at first, then logistic; none counts as 0.5")  # fmt: skip
    axes.legend()


def trade(axes: Axes) -> None:
    """The similarity that an older memory needs to score like a fresh one of similarity 0.3."""
    scoring = Scoring(half_life_s=(30 * DAY_S,))
    fresh = one_score(scoring, s=0.3, r=math.nan, age_s=0.0)
    days = np.linspace(0, 60, 121)
    for beta in (1.0, 2.0, 4.0):
        sharp = Scoring(half_life_s=scoring.half_life_s, beta=beta)
        target = one_score(sharp, s=0.3, r=math.nan, age_s=0.0)
        needed = [(target / one_score(sharp, s=1.0, r=math.nan, age_s=d * DAY_S)) ** (1.0 / beta) for d in days]
        axes.plot(days, np.where(np.asarray(needed) <= 1.0, needed, np.nan), label=f"beta {beta:g}")
    axes.set(xlabel="age in days (half-life 30 d)", ylabel="similarity needed", ylim=(0, 1.05),
             title=f"What ties with a fresh memory of similarity 0.3 (score {fresh:.2f} at beta 1)")  # fmt: skip
    axes.legend()


PLOTS = {"decay": decay, "importance": importance, "trade": trade}


def main(folder: Path = IMAGES) -> None:
    """Write each plot as SVG into a folder."""
    mpl.rcParams.update({"svg.hashsalt": "sfmd", "svg.fonttype": "none", "font.family": "sans-serif",
                         "axes.spines.top": False, "axes.spines.right": False})  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, draw in PLOTS.items():
        figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
        draw(axes)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
