"""Importance: no frozen quantile and no zero, as earlier attempts had; and the log alone decides every version."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfmd.core.model import NormaliserVersion
from sfmd.core.normaliser import RESERVOIR, NormaliserState, normalised, normalised_array, quantile, quantiles

RAW = st.floats(-1e308, 1e308)
VERSIONS = st.one_of(
    st.builds(NormaliserVersion, version=st.just(1), kind=st.just("minmax"), a=RAW, b=RAW),
    st.builds(NormaliserVersion, version=st.just(1), kind=st.just("logistic"), a=RAW, b=st.floats(0, 1e300)),
    st.just(NormaliserVersion()),
)


@given(VERSIONS, RAW, RAW)
def test_is_within_zero_and_one_never_zero_and_rises(version, a, b):
    low, high = sorted((a, b))
    assert 0.0 < normalised(low, version) <= normalised(high, version) <= 1.0


@given(VERSIONS, st.lists(RAW | st.just(math.nan), max_size=20))
def test_the_array_form_is_the_definition_to_a_few_ulps(version, raw):
    expected = [normalised(r, version) for r in raw]
    assert normalised_array(np.array(raw), version).tolist() == pytest.approx(expected, rel=1e-14)


def test_missing_is_neutral():
    for version in (NormaliserVersion(), NormaliserVersion(1, "minmax", 0, 10), NormaliserVersion(1, "logistic", 9, 2)):
        assert normalised(None, version) == normalised(math.nan, version) == 0.5


@pytest.mark.parametrize("value", [0.0, -7.5, 1e308, -1e308, 5e-324])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 700])
def test_a_constant_importance_is_half_however_often(value, count):
    state = NormaliserState()
    state.observe([value] * count)
    assert normalised(value, state.version) == 0.5


def test_min_max_maps_the_extremes_to_its_ends():
    state = NormaliserState()
    version = state.observe([3.0, -1.0])
    assert version is not None and version.kind == "minmax"
    assert [normalised(r, version) for r in (-1.0, 1.0, 3.0, 99.0, -99.0)] == pytest.approx(
        [0.05, 0.5, 0.95, 0.95, 0.05]
    )


def test_the_largest_floats_do_not_overflow():
    state = NormaliserState()
    state.observe([1e308, -1e308] * 40)
    assert state.version.kind == "logistic"
    assert normalised(1e308, state.version) == pytest.approx(0.75, abs=0.2)
    assert normalised(-1e308, state.version) == pytest.approx(0.25, abs=0.2)


def test_versions_are_cut_at_the_stated_counts():
    cut = []
    state = NormaliserState()
    for n, value in enumerate(np.random.default_rng(0).standard_normal(64).tolist(), 1):
        if state.observe([value]) is not None:
            cut.append((n, state.version.kind))
    assert cut == [(1, "minmax"), (2, "minmax"), (4, "minmax"), (8, "minmax"), (16, "minmax"), (32, "minmax"),
                   (64, "logistic")]  # fmt: skip


def test_the_logistic_version_is_the_formula():
    state = NormaliserState()
    values = np.random.default_rng(0).standard_normal(64)
    version = state.observe(values.tolist())
    q10, q50, q90 = np.quantile(values, [0.1, 0.5, 0.9])
    assert version is not None
    assert (version.a, version.b) == (pytest.approx(q50), pytest.approx(math.log(9.0) / (q90 - q10)))
    assert normalised(q50, version) == pytest.approx(0.5)
    assert normalised(q90, version) - normalised(q10, version) == pytest.approx(0.5, abs=0.05)


def test_a_version_is_cut_only_when_a_quantile_moved_by_a_tenth_and_only_every_64_values():
    rng = np.random.default_rng(1)
    state = NormaliserState()
    state.observe(rng.standard_normal(512).tolist())
    settled = state.version
    same = sorted(rng.standard_normal(512).tolist())
    state = NormaliserState(settled, same, 512)
    state.version = NormaliserVersion(
        9, "logistic", quantile(same, 0.5), 1.0, 512, *[quantile(same, q) for q in (0.1, 0.5, 0.9)]
    )
    assert state.observe(same) is None
    assert state.observe([50.0] * 63) is None
    moved = state.observe([50.0])
    assert moved is not None and moved.version == 10 and moved.n == 512 + 512 + 64


def test_the_reservoir_keeps_moving():
    """Thousands of values later it knows only the most recent 512."""
    state = NormaliserState()
    state.observe([0.0, 1.0] * 5000)
    state.observe(np.linspace(1000.0, 1001.0, RESERVOIR + 64).tolist())
    assert state.version.q10 > 1000.0
    assert normalised(1001.0, state.version) > 0.8
    assert normalised(1000.0, state.version) < 0.2


@given(st.lists(RAW, max_size=400), st.lists(st.integers(1, 90), max_size=12))
def test_chunks_do_not_matter(values, sizes):
    whole, parts = NormaliserState(), NormaliserState()
    whole.observe(values)
    at = 0
    for size in sizes:
        parts.observe(values[at : at + size])
        at += size
    parts.observe(values[at:])
    assert parts.version == whole.version and parts.n == whole.n


def test_a_restart_from_version_ring_and_count_goes_on_as_if_nothing_happened():
    values = (np.random.default_rng(2).standard_normal(3000) * np.linspace(1, 9, 3000)).tolist()
    through = NormaliserState()
    through.observe(values)
    first = NormaliserState()
    first.observe(values[:1777])
    again = NormaliserState(first.version, values[1777 - RESERVOIR : 1777], 1777)
    again.observe(values[1777:])
    assert again.version == through.version


def test_a_refused_cut_leaves_the_version_in_force():
    state = NormaliserState()
    before = state.observe([1.0])
    state.observe([2.0])
    assert before is not None
    state.refuse(before)
    assert state.version == before


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_quantiles_are_numpys_type_seven(values):
    ordered = sorted(values)
    assert [quantile(ordered, q) for q in (0.0, 0.1, 0.5, 0.9, 1.0)] == pytest.approx(
        np.quantile(ordered, [0.0, 0.1, 0.5, 0.9, 1.0]).tolist(), rel=1e-9, abs=1e-9
    )
    assert list(quantiles(ordered)) == ["q05", "q10", "q25", "q50", "q75", "q90", "q95"]
    assert quantiles([]) == {}
