"""Heads rule rows out and change nothing else: their bound holds, and answers with them are the oracle's."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfmd.core import heads as heads_module
from sfmd.core import merge, scan
from sfmd.core.heads import CHUNK_ROWS, heads_of
from sfmd.core.index import Index
from sfmd.core.model import MetaCondition, Scoring, Where
from sfmd.core.vectors import normalise, similarity
from testing.memories import DAY_S, NORMALISERS, NOW_S, got, make_world, unit
from tests.unit.core.test_oracle import asks, fill, query

LOGISTIC = NORMALISERS["logistic"]


def leaning(seed: int, n: int, dim: int, slope: float) -> np.ndarray:
    """float32[n, dim] unit rows whose directions fall off as number**-slope, turned so that no axis is one of them."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    raw = rng.standard_normal((n, dim)) * (np.arange(1, dim + 1) ** -slope) @ turn
    return normalise(raw.astype(np.float32), dim)[0]


@pytest.fixture
def small_heads(monkeypatch):
    """Heads for segments of a few thousand rows, asked for short blocks too."""
    monkeypatch.setattr(merge, "HEADS_FROM_BYTES", 100_000)
    monkeypatch.setattr(scan, "HEADS_FROM_ROWS", 512)


def settled(world, low=0, high=None) -> Index:
    index = Index(world.dim, world.scoring)
    world.add(index, low, len(world) if high is None else high)
    while index.maintain(idle=True):
        pass
    return index


@pytest.mark.parametrize(("dim", "slope"), [(32, 1.0), (33, 0.5), (256, 0.7), (384, 1.5)])
def test_no_product_is_above_its_bound(dim, slope):
    v = leaning(3, 5000, dim, slope)
    v[100:140] = v[7]
    heads = heads_of(v)
    rng = np.random.default_rng(1)
    room = np.empty(5000 + 2 * CHUNK_ROWS, np.float32)
    queries = [v[7], v[4999], unit(rng.standard_normal(dim)), unit(v[9] + 0.02 * rng.standard_normal(dim)), -v[11]]
    queries += [unit(heads.basis[0]), unit(heads.basis[-1])]
    for q in queries:
        turned = heads.turned(q)
        exact = similarity(q, v)
        for low, high in ((0, 5000), (1, 2), (2047, 2049), (512, 4999), (4096, 5000)):
            bound = heads.bounds(turned, low, high, room)
            assert bound.shape == (high - low,)
            assert (bound + heads.slack >= exact[low:high]).all()
    assert heads.slack < 0.01


def test_the_bound_holds_for_rows_that_the_sample_never_saw():
    """Directions come from a part of the rows: others may point elsewhere altogether."""
    v = leaning(5, 4000, 64, 2.0)
    odd = np.random.default_rng(2).standard_normal((200, 64)).astype(np.float32)
    v[1::20] = normalise(odd, 64)[0]
    before = heads_module.SAMPLE_ROWS
    heads_module.SAMPLE_ROWS = 200
    try:
        heads = heads_of(v)
    finally:
        heads_module.SAMPLE_ROWS = before
    room = np.empty(4000 + 2 * CHUNK_ROWS, np.float32)
    for q in v[1:400:20]:
        assert (heads.bounds(heads.turned(q), 0, 4000, room) + heads.slack >= similarity(q, v)).all()


def test_there_are_none_where_they_would_rule_out_little():
    rng = np.random.default_rng(0)
    even = normalise(rng.standard_normal((3000, 64)).astype(np.float32), 64)[0]
    assert heads_of(even) is None
    assert heads_of(leaning(1, 3000, 16, 1.0)) is None
    assert heads_of(leaning(1, 3000, 64, 1.0)) is not None


@pytest.mark.parametrize("half_life_s", [(400 * DAY_S,), (math.inf,), (3600.0, 400 * DAY_S, math.inf)])
def test_a_query_reads_less_and_answers_the_same(small_heads, half_life_s):
    world = make_world(8, 9000, 64, Scoring(half_life_s, normaliser=LOGISTIC))
    world.v[:] = leaning(8, 9000, 64, 1.0)
    world.v[4000:4100] = world.v[17]
    index = settled(world)
    assert index.stats().bytes_resident > 9000 * 64 * 4 + 9000 * 28 * 4
    shares = []
    for n in range(8):
        q = unit(world.v[n * 17] + 0.01 * n)
        found = index.search(q, k=10, now_s=NOW_S)
        assert [(h.seq, h.log2_score) for h in found.hits] == world.want(q, k=10, now_s=NOW_S)
        shares.append(found.bytes_touched / (found.rows_scored * 64 * 4))
    assert min(shares) < 0.8


def test_a_filter_and_ended_rows_go_with_heads(small_heads):
    world = make_world(9, 9000, 64, Scoring((math.inf,), normaliser=LOGISTIC))
    world.v[:] = leaning(9, 9000, 64, 1.0)
    index = settled(world)
    world.end(index, list(range(0, 1500)))
    many, few = Where(kinds=("a", "b")), Where(metadata=(MetaCondition("n", "LT", (4,)),))
    for where in (many, few, None):
        for n in (3, 1999, 5000):
            q = world.v[n]
            assert got(index, q, k=10, now_s=NOW_S, where=where) == world.want(q, k=10, now_s=NOW_S, where=where)
    found = index.search(world.v[3], k=10, now_s=NOW_S, where=many)
    assert found.bytes_touched < found.rows_scored * 64 * 4


def test_heads_go_with_the_rows_that_are_erased(small_heads):
    world = make_world(10, 3000, 64, Scoring((math.inf,), normaliser=LOGISTIC))
    world.v[:] = leaning(10, 3000, 64, 1.0)
    index = settled(world)
    before = index.stats().bytes_resident
    world.end(index, [77])
    index.erase([78])
    assert index.stats().bytes_resident < before - 3000 * 28 * 4
    while index.maintain(idle=True):
        pass
    assert got(index, world.v[77], k=10, now_s=NOW_S) == world.want(world.v[77], k=10, now_s=NOW_S)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_equals_the_oracle_over_every_parameter(small_heads, data):
    scoring = Scoring(
        data.draw(st.sampled_from([(30 * DAY_S,), (math.inf, DAY_S), (math.inf,)])), (),
        data.draw(st.sampled_from([0.0, 1.0])), data.draw(st.sampled_from([0.5, 1.0, 2.0])), LOGISTIC,
    )  # fmt: skip
    world = make_world(
        data.draw(st.integers(0, 99)), 4000, 32, scoring, future_share=data.draw(st.sampled_from([0.0, 0.1]))
    )
    world.v[:] = leaning(data.draw(st.integers(0, 99)), 4000, 32, data.draw(st.sampled_from([0.7, 1.0, 2.0])))
    world.v[1000:1040] = world.v[0]
    index = Index(world.dim, world.scoring)
    fill(data.draw, world, index)
    while index.maintain(idle=True):
        pass
    for _ in range(2):
        q, ask = query(data.draw, world), data.draw(asks(world.last_seq))
        assert got(index, q, **ask) == world.want(q, **ask)
