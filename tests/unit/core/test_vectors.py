"""Vectors at the border: status of bad ones, idempotence to the bit, and similarities that no BLAS decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sfmd.core.vectors import NOT_FINITE, OK, ZERO, norm_error_max, normalise, similarity, tree_sum
from testing import oracle

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=FLOATS))
def test_every_row_is_unit_or_says_why_not(raw):
    v, status = normalise(raw, raw.shape[1])
    finite = np.isfinite(raw).all(axis=1)
    zero = finite & (raw == 0.0).all(axis=1)
    assert status.tolist() == np.where(~finite, NOT_FINITE, np.where(zero, ZERO, OK)).tolist()
    lengths = np.sqrt((v.astype(np.float64) ** 2).sum(axis=1))
    assert np.abs(lengths[status == OK] - 1.0).max(initial=0.0) < 1e-6
    assert not v[status != OK].any()


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 300)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_normalising_twice_changes_no_bit(raw):
    once, status = normalise(raw, raw.shape[1])
    again, _ = normalise(once, raw.shape[1])
    assert again[status == OK].tobytes() == once[status == OK].tobytes()


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30, 3e38])
def test_denormal_and_huge_components_keep_their_direction(size):
    raw = np.array([[size, -size, size, size]], dtype=np.float32)
    v, status = normalise(raw, 4)
    assert status.tolist() == [OK]
    assert v.tolist() == [[0.5, -0.5, 0.5, 0.5]]


def test_bytes_are_little_endian_rows():
    raw = np.arange(1, 9, dtype="<f4")
    from_bytes, _ = normalise(raw.tobytes(), 4)
    from_array, _ = normalise(raw.reshape(2, 4), 4)
    assert from_bytes.tobytes() == from_array.tobytes()
    with pytest.raises(ValueError):
        normalise(raw.tobytes()[:-4], 4)


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 3, 8, 13, 100, 256, 768]), st.integers(1, 9))
def test_similarity_is_the_oracles_to_the_bit(seed, dim, n):
    rng = np.random.default_rng(seed)
    v, _ = normalise(rng.standard_normal((n, dim)).astype(np.float32), dim)
    q, _ = normalise(rng.standard_normal((1, dim)).astype(np.float32), dim)
    assert similarity(q[0], v).tolist() == oracle.similarities(q[0], v).tolist()
    for row in v:
        assert similarity(row, row[None])[0] <= 1.0
        assert similarity(row, v).tolist() == [similarity(other, row[None])[0] for other in v]


def test_the_tree_adds_halves_in_one_order():
    x = np.array([[1.0, 1e16, 3.0, -1e16, 5.0]])
    assert tree_sum(x).tolist() == [((1.0 + 5.0) + 3.0) + (1e16 + -1e16)]


def test_the_largest_norm_error_is_found_wherever_it_is():
    v, _ = normalise(np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32), 8)
    v[19_999] *= 1.5
    assert norm_error_max(v) == pytest.approx(0.5, rel=1e-6)
    assert norm_error_max(v[:0]) == 0.0
