"""The score's own promises: limits, monotonicity, what counts as no hit, and how it is taken apart."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfmd.core.model import NormaliserVersion, Scoring
from sfmd.core.retention import retention
from sfmd.core.score import Definition
from testing import oracle

LOGISTIC = NormaliserVersion(1, "logistic", 0.0, 1.0, 64, -1.0, 0.0, 1.0)
PLAIN = Scoring((3600.0,), (), 1.0, 1.0, LOGISTIC)
BASE = {"id_": b"a", "s": 0.5, "seq": 1, "r": 0.3, "t_s": 0.0, "half_life": 0, "features": ()}
UNIT = st.floats(1e-6, 1.0)
ALPHA = st.floats(0.0, 4.0)
BETA = st.floats(0.05, 4.0)


def terms(scoring=PLAIN, *, now_s=1000.0, **change):
    return Definition(scoring, now_s).terms(**{**BASE, **change})


def level(scoring=PLAIN, **change):
    made = terms(scoring, **change)
    return None if made is None else made.log2_score


@given(UNIT, st.floats(-50, 50), st.floats(0, 1e9), ALPHA, BETA, st.lists(UNIT, max_size=3))
def test_equals_the_oracle_and_stays_within_one(s, r, age_s, alpha, beta, features):
    weights = (0.5, 0.0, 0.25)
    scoring = Scoring((3600.0,), weights, alpha, beta, LOGISTIC)
    made = terms(scoring, s=s, r=r, now_s=age_s, features=features)
    assert made.log2_score == oracle.log2_score(
        s, made.importance, 0.0, 3600.0, features, now_s=age_s, alpha=alpha, beta=beta, weights=weights
    )
    assert 0.0 <= 2.0**made.log2_score <= 1.0
    parts = (made.log2_similarity_term, made.log2_importance_term, made.log2_decay_term, *made.log2_feature_terms)
    total = parts[0]
    for part in parts[1:]:
        total += part
    assert total == made.log2_score
    assert made.feature_values == tuple(features[j] if j < len(features) else 1.0 for j in range(3))


@given(UNIT, UNIT, BETA)
def test_rises_with_similarity(a, b, beta):
    scoring = Scoring((3600.0,), (), 1.0, beta, LOGISTIC)
    low, high = sorted((a, b))
    assert level(scoring, s=low) <= level(scoring, s=high)


@given(st.floats(-60, 60), st.floats(-60, 60), ALPHA)
def test_rises_with_importance(a, b, alpha):
    scoring = Scoring((3600.0,), (), alpha, 1.0, LOGISTIC)
    low, high = sorted((a, b))
    assert level(scoring, r=low) <= level(scoring, r=high)


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_falls_with_age_and_an_event_to_come_has_no_age(a, b):
    older, newer = sorted((a, b))
    assert level(t_s=older) <= level(t_s=newer) <= level(t_s=1000.0)
    assert level(t_s=5000.0) == level(t_s=1000.0)


@given(UNIT, UNIT)
def test_rises_with_a_channel_and_a_missing_one_counts_as_one(a, b):
    scoring = Scoring((3600.0,), (0.5,), 1.0, 1.0, LOGISTIC)
    low, high = sorted((a, b))
    assert level(scoring, features=(low,)) <= level(scoring, features=(high,)) <= level(scoring, features=(1.0,))
    assert level(scoring, features=(1.0,)) == level(scoring, features=()) == level(scoring, features=(math.nan,))


@pytest.mark.parametrize("change", [{"s": 0.0}, {"s": -0.5}, {"features": (0.0,)}])
def test_a_factor_of_zero_is_no_hit(change):
    assert level(Scoring((3600.0,), (0.5,), 1.0, 1.0, LOGISTIC), **change) is None


def test_an_exponent_of_zero_makes_its_term_zero():
    made = terms(Scoring((math.inf,), (0.0,), 0.0, 1.0, LOGISTIC), features=(0.0,), r=-1e308)
    assert made.log2_score == -1.0
    assert (made.log2_importance_term, made.log2_decay_term, made.log2_feature_terms) == (0.0, 0.0, (0.0,))


def test_limits():
    assert level(s=1.0, r=1e308, t_s=1000.0) == pytest.approx(0.0, abs=1e-9)
    assert level(t_s=-3600.0 * 1e6) == pytest.approx(-1e6, abs=10)
    assert level(Scoring((math.inf,), (), 0.0, 1.0), s=1.0, t_s=-1e18) == 0.0


@given(UNIT, UNIT, st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1e8), st.floats(0, 1e8), UNIT, UNIT)
def test_retention_is_monotone_in_every_argument(i1, i2, c1, c2, age1, age2, cost1, cost2):
    gamma = (0.4, 0.3, 0.2, 0.1)

    def r(i=i1, age=age1, count=c1, cost=cost1):
        return retention(i, age, 1e6, count, 1000, cost, gamma)

    assert (r(i=max(i1, i2)) >= r(i=min(i1, i2))) and (r(count=max(c1, c2)) >= r(count=min(c1, c2)))
    assert (r(age=max(age1, age2)) <= r(age=min(age1, age2))) and (
        r(cost=max(cost1, cost2)) <= r(cost=min(cost1, cost2))
    )
    assert -0.1 <= r() <= 0.9


def test_retention_limits():
    assert retention(1.0, 0.0, 1.0, 10, 10, 0.0) == pytest.approx(1.0)
    assert retention(0.0, math.inf, 1.0, 0, 0, 5.0) == 0.0
    assert retention(0.0, 1e9, math.inf, 0, 10, 0.0) == pytest.approx(0.3)
    assert retention(0.0, -5.0, 1.0, 0, 10, 0.0) == retention(0.0, 0.0, 1.0, 0, 10, 0.0)
    assert np.isfinite(retention(1.0, 0.0, 1e-300, 2**62, 1, 1e300))
