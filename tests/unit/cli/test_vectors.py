"""Every form of a vector file gives the same float32 bytes that numpy would."""

import io

import numpy as np
import pytest

from sfmctl import vectors

VALUES = np.random.default_rng(7).normal(size=33)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("shape", [(33,), (1, 33), (33, 1)])
def test_npy_of_any_byte_order_and_one_row(kind: str, shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    np.save(file, VALUES.astype(kind).reshape(shape))
    assert vectors.decode(file.getvalue()) == VALUES.astype(kind).astype("<f4").tobytes()


def test_raw_float32_and_json_lists() -> None:
    raw = VALUES.astype("<f4").tobytes()
    assert vectors.decode(raw) == raw
    assert vectors.decode(str(VALUES.tolist()).encode()) == raw


def test_numbers_that_are_not_finite_are_left_to_the_daemon() -> None:
    made = np.frombuffer(vectors.decode(b"[NaN, 1e39, -Infinity]"), "<f4")
    assert np.isnan(made[0]) and made[1] == np.inf and made[2] == -np.inf


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"[]", b"[1, true]", b'["1"]', b"[1,", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x05\x00{}   ",
                b"[1" + b"0" * 400 + b"]"],
)  # fmt: skip
def test_what_is_no_vector_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        vectors.decode(content)


@pytest.mark.parametrize("array", [np.zeros((2, 3), "f4"), np.zeros(3, "i8"), np.zeros(3, "f2")])
def test_npy_of_another_kind_is_refused(array: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, array)
    with pytest.raises(ValueError, match=r"\.npy"):
        vectors.decode(file.getvalue())
