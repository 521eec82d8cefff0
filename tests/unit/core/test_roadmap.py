"""The seven tests of the roadmap's matrix, by its names."""

import itertools
import math

import numpy as np
import pytest

from sfmd.core.index import Index
from sfmd.core.model import Rows, Scoring
from sfmd.core.normaliser import NormaliserState, normalised
from sfmd.core.retention import GAMMA, retention
from sfmd.core.vectors import NORM_TOLERANCE, normalise
from testing.embeddings import embeddings
from testing.memories import DAY_S, NORMALISERS, NOW_S, make_world, unit


def index_of(vectors, scoring, *, raw=None, t_s=None) -> Index:
    n = len(vectors)
    index = Index(vectors.shape[1], scoring)
    index.apply(n, Rows(
        np.arange(1, n + 1), [b"%06d" % x for x in range(n)], vectors, np.zeros(n) if raw is None else raw,
        np.full(n, NOW_S) if t_s is None else t_s, np.zeros(n, np.int16), np.zeros((n, 0)), ["m"] * n, [{}] * n,
    ))  # fmt: skip
    return index


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e6, 1e19])
def test_norm_invariant(scale):
    """Every stored vector has ||v|| = 1 within 1e-4, whatever length it came with; the index measures the worst."""
    raw = np.random.default_rng(1).standard_normal((3000, 256)).astype(np.float32) * np.float32(scale)
    v, status = normalise(raw, 256)
    lengths = np.sqrt((v.astype(np.float64) ** 2).sum(axis=1))
    assert (status == 0).all()
    assert np.abs(lengths - 1.0).max() < NORM_TOLERANCE / 100
    index = index_of(v, Scoring((math.inf,)))
    assert index.stats().norm_error_max == pytest.approx(np.abs(lengths - 1.0).max(), rel=1e-6)


def test_similarity_monotonicity():
    """All else equal, the nearer memory ranks first and scores more."""
    angles = np.linspace(0.01, 1.5, 200)
    v, _ = normalise(np.stack([np.cos(angles), np.sin(angles), *np.zeros((6, 200))], axis=1).astype(np.float32), 8)
    shuffled = np.random.default_rng(3).permutation(200)
    q = unit(np.eye(8, dtype=np.float32)[0])
    hits = index_of(v[shuffled], Scoring((math.inf,))).search(q, k=200, now_s=NOW_S).hits
    assert [shuffled[h.seq - 1] for h in hits] == list(range(200))
    assert all(a.similarity > b.similarity and a.log2_score > b.log2_score for a, b in itertools.pairwise(hits))


def test_zero_similarity_clamp():
    """A similarity of 0 or below is no hit, however important, fresh or wanted."""
    v = np.eye(8, dtype=np.float32)[[0, 1, 0]]
    v[2] *= -1
    index = index_of(v, Scoring((math.inf,), normaliser=NORMALISERS["logistic"]), raw=np.array([-9.0, 99.0, 99.0]))
    for flush in (False, True):
        if flush:
            assert index.maintain(idle=True) is False or index.stats().segments == 1
        assert [h.seq for h in index.search(v[0], k=10, now_s=NOW_S).hits] == [1]
        assert index.search(-v[1], k=10, now_s=NOW_S).hits == ()


def test_importance_present():
    """Every hit carries a normalised importance in (0, 1); the first, a constant and a missing one are 0.5, never 0."""
    world = make_world(1, 500, 16, Scoring((math.inf,), normaliser=NORMALISERS["logistic"]))
    index = Index(16, world.scoring)
    world.add(index, 0, 500)
    hits = index.search(world.v[0], k=500, now_s=NOW_S).hits
    assert len(hits) > 100
    assert all(0.0 < h.importance < 1.0 for h in hits)
    assert {h.importance for h in hits if math.isnan(world.r[h.seq - 1])} == {0.5}
    state = NormaliserState()
    first = state.observe([42.0])
    assert first is not None and normalised(42.0, first) == 0.5
    constant = state.observe([42.0] * 200)
    assert constant is not None and normalised(42.0, constant) == 0.5
    assert normalised(None, constant) == 0.5


def test_half_life_halving():
    """At an age of one half-life the score is half of what it was; at ten it is 1/1024; an infinite one never fades."""
    v = np.repeat(np.eye(8, dtype=np.float32)[:1], 3, axis=0)
    ages = np.array([0.0, 7 * DAY_S, 70 * DAY_S])
    hits = index_of(v, Scoring((7 * DAY_S,)), t_s=NOW_S - ages).search(v[0], k=3, now_s=NOW_S).hits
    scores = [2.0**h.log2_score for h in hits]
    assert scores[1] / scores[0] == pytest.approx(0.5, rel=1e-12)
    assert scores[2] / scores[0] == pytest.approx(2.0**-10, rel=1e-12)
    timeless = index_of(v, Scoring((math.inf,)), t_s=NOW_S - ages).search(v[0], k=3, now_s=NOW_S).hits
    assert len({h.log2_score for h in timeless}) == 1


def test_retention_ordering():
    """What is important, recent and often used is kept before what is not; retention never ranks a recall."""
    kept = [
        retention(i, age_s, 30 * DAY_S, count, 100, 0.5)
        for i, age_s, count in [(0.9, 0.0, 100), (0.9, 30 * DAY_S, 100), (0.9, 30 * DAY_S, 3), (0.2, 30 * DAY_S, 3),
                                (0.2, 300 * DAY_S, 0)]
    ]  # fmt: skip
    assert kept == sorted(kept, reverse=True) and len(set(kept)) == 5
    assert GAMMA == (0.5, 0.3, 0.2, 0.0)
    assert kept[0] == pytest.approx(0.5 * 0.9 + 0.3 + 0.2)


def test_float16_recall():
    """Recall@10 of vectors rounded to float16 against float32, on real text: measured, printed and bounded."""
    v = embeddings(6000)
    rows, queries = v[:5800], v[5800:]
    rounded, _ = normalise(rows.astype(np.float16).astype(np.float32), 256)
    exact, coarse = index_of(rows, Scoring((math.inf,))), index_of(rounded, Scoring((math.inf,)))
    shared = []
    for q in queries:
        a = {h.seq for h in exact.search(q, k=10, now_s=NOW_S).hits}
        b = {h.seq for h in coarse.search(q, k=10, now_s=NOW_S).hits}
        shared.append(len(a & b) / len(a))
    recall = float(np.mean(shared))
    print(f"recall@10 of float16 against float32 over {len(queries)} queries: {recall:.4f}, worst {min(shared):.1f}")  # noqa: T201 - the measured number is the point
    assert recall >= 0.99
    assert min(shared) >= 0.7
