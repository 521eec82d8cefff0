"""The core equals its slow twin, bit for bit, whatever is asked of whatever is there."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfmd.core.index import Index
from sfmd.core.model import MetaCondition, Scoring, Where
from testing.memories import DAY_S, NORMALISERS, NOW_S, World, got, make_world, unit

HALF_LIVES = [3600.0, DAY_S, 7 * DAY_S, 30 * DAY_S, math.inf]
CONDITIONS = [
    (),
    (MetaCondition("n", "LT", (20,)),),
    (MetaCondition("s", "EQ", ("x1", "x2")), MetaCondition("n", "NE", (7,))),
    (MetaCondition("n", "NOT_EXISTS"),),
    (MetaCondition("nowhere", "EXISTS"),),
]


@st.composite
def scorings(draw):
    weights = [(), (0.5,), (0.3, 0.7), (0.0, 0.4)]
    return Scoring(
        tuple(draw(st.lists(st.sampled_from(HALF_LIVES), min_size=1, max_size=4, unique=True))),
        draw(st.sampled_from(weights)),
        draw(st.sampled_from([0.0, 0.5, 1.0, 2.5])),
        draw(st.sampled_from([0.5, 1.0, 2.0, 1e-7])),
        NORMALISERS[draw(st.sampled_from(list(NORMALISERS)))],
    )


@st.composite
def worlds(draw):
    n = draw(st.sampled_from([1, 2, 30, 700, 1500, 3000]))
    return make_world(
        draw(st.integers(0, 2**32)), n, draw(st.sampled_from([8, 13, 64, 256])), draw(scorings()),
        span_s=draw(st.sampled_from([10.0, 365 * DAY_S, 12_000 * DAY_S])), distinct=draw(st.sampled_from([1, 5, n])),
        noise=draw(st.sampled_from([0.0, 0.0, 0.1])), future_share=draw(st.sampled_from([0.0, 0.0, 0.2])),
        rounded_times=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def asks(draw, last_seq):
    ask = {
        "k": draw(st.sampled_from([1, 3, 10, 100, 1000])),
        "now_s": NOW_S + draw(st.sampled_from([0.0, 1e6, -1e7, 3e9])),
        "min_score": draw(st.sampled_from([0.0, 0.0, 1e-300, 1e-3, 0.2, 1.0])),
        "at": draw(st.none() | st.integers(0, last_seq)),
    }
    if draw(st.booleans()):
        ask["alpha"] = draw(st.sampled_from([0.0, 0.3, 1.0, 3.0]))
    if draw(st.booleans()):
        ask["beta"] = draw(st.sampled_from([0.1, 1.0, 4.0, 1e-3, 1e-6, 1e-9, 1e-300]))
    if draw(st.booleans()):
        ask["where"] = Where(
            kinds=draw(st.sampled_from([(), ("a",), ("b", "c"), ("z",)])),
            from_s=draw(st.none() | st.just(NOW_S - 100 * DAY_S)),
            to_s=draw(st.none() | st.just(NOW_S - 5.0)),
            metadata=draw(st.sampled_from(CONDITIONS)),
        )
    return ask


def fill(draw, world: World, index: Index) -> None:
    """Write the world in a few applies with upkeep between, and end some rows."""
    n = len(world)
    cuts = sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=4))})
    for low, high in itertools.pairwise(cuts):
        world.add(index, low, high)
        tidy(draw, index)
    if draw(st.booleans()):
        chosen = np.random.default_rng(n).permutation(n)[: draw(st.integers(0, n // 2))].tolist()
        for part in (chosen[::2], chosen[1::2]):
            world.end(index, part)
            tidy(draw, index)


def tidy(draw, index: Index) -> None:
    for idle in draw(st.lists(st.booleans(), max_size=3)):
        index.maintain(idle=idle)


def query(draw, world: World):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    near = draw(st.sampled_from(["a row", "beside a row", "anywhere"]))
    if near == "anywhere":
        return unit(rng.standard_normal(world.dim))
    v = world.v[rng.integers(len(world))]
    return v.copy() if near == "a row" else unit(v + 0.05 * rng.standard_normal(world.dim).astype(np.float32))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_equals_the_oracle_over_every_parameter(data):
    world = data.draw(worlds())
    index = Index(world.dim, world.scoring)
    fill(data.draw, world, index)
    for _ in range(3):
        q, ask = query(data.draw, world), data.draw(asks(world.last_seq))
        assert got(index, q, **ask) == world.want(q, **ask)


@pytest.mark.parametrize("upkeep", ["tail only", "segments only", "both"])
@pytest.mark.parametrize("half_life_s", [3600.0, 30 * DAY_S, math.inf])
def test_every_mixture_of_tail_and_segments(upkeep, half_life_s):
    world = make_world(5, 5000, 32, Scoring((half_life_s,), normaliser=NORMALISERS["logistic"]), distinct=900, noise=0)
    index = Index(world.dim, world.scoring)
    middle = {"tail only": 0, "segments only": 5000, "both": 4500}[upkeep]
    world.add(index, 0, middle)
    while index.maintain(idle=True):
        pass
    world.add(index, middle, 5000)
    stats = index.stats()
    assert (stats.segments > 0, stats.tail_rows > 0) == (middle > 0, middle < 5000)
    for n in range(12):
        q = world.v[n * 31]
        assert got(index, q, k=20, now_s=NOW_S) == world.want(q, k=20, now_s=NOW_S)


def test_rows_thousands_of_half_lives_old_keep_their_order():
    """Scores underflow float64 by far; L still ranks, and ties still fall to the id."""
    scoring = Scoring((DAY_S,), normaliser=NORMALISERS["logistic"])
    world = make_world(2, 4000, 16, scoring, span_s=DAY_S, distinct=40, noise=0, rounded_times=True)
    world.t_s -= 4000 * DAY_S
    index = Index(world.dim, scoring)
    world.add(index, 0, 3500)
    index.maintain()
    world.add(index, 3500, 4000)
    for n in range(10):
        found = got(index, world.v[n], k=50, now_s=NOW_S)
        assert found == world.want(world.v[n], k=50, now_s=NOW_S)
        assert len(found) == 50 and found[0][1] < -3000


def test_a_reading_under_an_older_scoring_with_fewer_classes_and_channels():
    """Rows of a class that came later are there, unseen, when an earlier state is read with its own scoring."""
    first = Scoring((DAY_S,), (), normaliser=NORMALISERS["minmax"])
    later = Scoring((DAY_S, math.inf), (0.5,), normaliser=NORMALISERS["logistic"])
    world = make_world(9, 3000, 24, later)
    world.half_life[:1200] = 0
    world.features[:1200] = math.nan
    for stop in (1300, 3000):
        index = Index(world.dim, first)
        index.apply(1200, world.rows(0, 1200))
        index.apply(1200, None, (), later)
        index.apply(stop, world.rows(1200, stop))
        while stop == 3000 and index.maintain(idle=True):
            pass
        world.last_seq = stop
        q = world.v[7]
        assert got(index, q, k=30, now_s=NOW_S, at=1200, scoring=first) == world.want(
            q, k=30, now_s=NOW_S, at=1200, scoring=first
        )
        assert got(index, q, k=30, now_s=NOW_S) == world.want(q, k=30, now_s=NOW_S, at=stop)


def test_a_new_normaliser_version_reorders_in_the_background_and_never_changes_old_answers():
    world = make_world(4, 6000, 16, Scoring((7 * DAY_S,), normaliser=NORMALISERS["minmax"]))
    index = Index(world.dim, world.scoring)
    world.add(index, 0, 6000)
    while index.maintain(idle=True):
        pass
    old = world.scoring
    new = replace(old, normaliser=NORMALISERS["logistic"], alpha=2.0)
    index.apply(6001, None, (), new)
    world.last_seq, world.scoring = 6001, new
    q = world.v[11]
    while True:
        assert got(index, q, k=25, now_s=NOW_S) == world.want(q, k=25, now_s=NOW_S)
        assert got(index, q, k=25, now_s=NOW_S, at=6000, scoring=old) == world.want(
            q, k=25, now_s=NOW_S, at=6000, scoring=old
        )
        if not index.maintain(idle=True):
            break


def test_what_is_reported_beside_the_hits():
    world = make_world(1, 3000, 16, Scoring((DAY_S,), normaliser=NORMALISERS["logistic"]))
    index = Index(world.dim, world.scoring)
    world.add(index, 0, 3000)
    while index.maintain(idle=True):
        pass
    world.end(index, [3, 4, 5])
    found = index.search(world.v[0], k=5, now_s=NOW_S)
    assert (found.seq, found.rows_total, found.path) == (3003, 2997, "impact")
    assert 5 <= found.rows_scored < 3000
    assert found.bytes_touched == found.rows_scored * 16 * 4
    before = index.search(world.v[0], k=5, now_s=NOW_S, seq=3001)
    assert (before.seq, before.rows_total, before.path) == (3001, 2999, "view")
    assert index.search(world.v[0], k=5, now_s=NOW_S, alpha=0.5).path == "view"
    assert found.hits[0].id == world.ids[found.hits[0].seq - 1]


def test_an_empty_index_answers_nothing():
    index = Index(8, Scoring((math.inf,)))
    found = index.search(unit(np.ones(8, np.float32)), k=10, now_s=NOW_S)
    assert (found.hits, found.seq, found.rows_total, found.rows_scored) == ((), 0, 0, 0)
