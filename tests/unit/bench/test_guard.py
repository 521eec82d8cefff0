"""The guard fails on what is worse, wholly and by more than 5 %, and on nothing else."""

import json

import numpy as np
import pytest

from bench.core_data import SIGMOID, population, truth
from bench.core_measure import measure, paired_ratio
from bench.core_report import goal_of
from bench.core_rivals import bare_scan, flat
from bench.guard import BASELINE, GUARDED, problems
from sfmd.core.model import Scoring

BASE = {"a": {"ratio": 10.0}}


def row(ratio, low, high, exact=100):
    return {"a": {"ratio": ratio, "ratio_low": low, "ratio_high": high, "exact": exact, "queries": 100}}


@pytest.mark.parametrize("measured", [row(12, 11, 13), row(10, 9, 11), row(9, 8.5, 9.6), row(5, 1, 9.5)])
def test_no_worse_passes(measured):
    assert problems(measured, BASE) == []


@pytest.mark.parametrize("measured", [row(9, 8.5, 9.49), row(2, 1.9, 2.1)])
def test_wholly_more_than_a_twentieth_below_fails(measured):
    found = problems(measured, BASE)
    assert len(found) == 1
    assert "10.00×" in found[0]


def test_an_inexact_answer_or_a_row_without_its_pair_fails():
    assert problems(row(20, 19, 21, exact=99), BASE) == ["a: 1 of 100 answers are not the oracle's"]
    assert len(problems({}, BASE)) == 1
    assert len(problems(row(10, 9, 11), {})) == 1


def test_the_committed_baseline_has_every_guarded_row():
    names = {f"{n // 1000}k x{dim} {label} k10" for n, dim, label in GUARDED}
    assert json.loads(BASELINE.read_text()).keys() == names


def test_the_interval_holds_the_ratio_and_shrinks_to_it_without_noise():
    ours = np.full(50, 0.5)
    assert paired_ratio(ours * 4, ours) == (4.0, 4.0, 4.0)
    noisy = ours * np.random.default_rng(0).uniform(0.5, 2.0, 50)
    ratio, low, high = paired_ratio(ours * 4, noisy)
    assert low < ratio < high


def test_a_real_row_is_measured_whole():
    """A small population, real embeddings, everything that a row of the report has."""
    people = population(3000, 256, 12)
    scoring = Scoring((7 * 86_400.0,), (), 1.0, 1.0, SIGMOID)
    index = people.index(scoring)
    others = {"FAISS flat": flat(people, 10), "bare scan": bare_scan(people)}
    made = measure(people, scoring, "7 d", 10, others, index=index)
    assert (made.name, made.source, made.exact, made.queries) == ("3k x256 7 d k10", "real text", 12, 12)
    assert made.ratio_low <= made.ratio <= made.ratio_high
    assert 10 <= made.rows_touched <= 3000
    assert 0.0 <= made.recall["FAISS flat"] < 1.0
    assert goal_of(made.as_json()) == ("", True)
    rest = people.log2_rest(scoring)
    assert truth(people, scoring, rest, 0, 10) != truth(people, scoring, rest, 1, 10)
