"""Several questions at once: each is answered as if it were alone, and the memory is read once for all of them."""

import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfmd.core import together
from sfmd.core.index import Index
from sfmd.core.model import Cancelled, Question, Scoring
from testing.memories import DAY_S, NORMALISERS, NOW_S, make_world
from tests.unit.core.test_oracle import asks, fill, query, worlds


def alone(index, question):
    """What a search of its own finds."""
    return index.search(**asdict(question) | {"where": question.where, "cancelled": question.cancelled})


@st.composite
def questions(draw, world):
    ask = draw(asks(world.last_seq))
    del ask["at"]
    return Question(query(draw, world), **ask)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_each_is_answered_as_if_it_were_alone(data):
    world = data.draw(worlds())
    index = Index(world.dim, world.scoring)
    fill(data.draw, world, index)
    several = data.draw(st.lists(questions(world), min_size=1, max_size=6))
    assert index.search_together(several) == [alone(index, one) for one in several]


@pytest.fixture(scope="module")
def even():
    """An index of two classes in which nothing stands out: a scan reads most of it, in several blocks."""
    scoring = Scoring((365 * DAY_S, math.inf), normaliser=NORMALISERS["logistic"])
    world = make_world(3, 20_000, 64, scoring, noise=0.1)
    index = Index(world.dim, scoring)
    world.add(index, 0, 20_000)
    while index.maintain(idle=True):
        pass
    return world, index


def wanted(world, count, **more):
    """Questions that differ a little in time and much in k."""
    rng = np.random.default_rng(count)
    return [
        Question(world.v[rng.integers(len(world))], k=1 + 7 * n, now_s=NOW_S + n * DAY_S, **more) for n in range(count)
    ]


def test_pieces_of_a_block_are_read_for_all_that_have_it_open(even, monkeypatch):
    world, index = even
    asked = wanted(world, 6)
    read = []
    dots = together.block_dots
    monkeypatch.setattr(together, "PIECE_BYTES", 2**15)
    monkeypatch.setattr(
        together, "block_dots", lambda v, q, out: read.append(v.__array_interface__["data"][0]) or dots(v, q, out)
    )
    found = index.search_together(asked)
    assert found == [alone(index, one) for one in asked]
    runs = 1 + sum(a != b for a, b in pairwise(read))
    assert len(set(read)) == runs, "a piece was gone back to"
    assert len(read) >= 5 * runs, "pieces were read for few of the six"


def test_one_that_is_cancelled_stops_and_the_others_do_not(even):
    world, index = even
    asked = wanted(world, 5)
    looks = iter(range(100))
    asked[1].cancelled = lambda: True
    asked[3].cancelled = lambda: next(looks) >= 2
    found = index.search_together(asked)
    assert [isinstance(one, Cancelled) for one in found] == [False, True, False, True, False]
    assert next(looks) == 3, "it was asked again after it had stopped"
    for n in (0, 2, 4):
        assert found[n] == alone(index, asked[n])


def test_nothing_is_asked_of_nothing():
    index = Index(8, Scoring((DAY_S,), normaliser=NORMALISERS["logistic"]))
    assert index.search_together([]) == []
    assert (
        index.search_together([Question(np.eye(8, dtype=np.float32)[0], 3, NOW_S)] * 2)
        == [index.search(np.eye(8, dtype=np.float32)[0], k=3, now_s=NOW_S)] * 2
    )
