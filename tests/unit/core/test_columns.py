"""Filters: the columns equal a plain Python filter written from the protocol, JSON's types included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfmd.core.columns import concatenate, encode
from sfmd.core.model import MetaCondition, Where
from testing.memories import passes

SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, -0.0, 2, 2.5, 10**20, "", "1", "a", "b", "true"])
VALUES = SCALARS | st.sampled_from([{"x": 1}, [1, 2], [], {}])
KEYS = st.sampled_from(["a", "b", "c"])
RECORDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=3), min_size=1, max_size=12)
OPS = st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "EXISTS", "NOT_EXISTS"])
CONDITIONS = st.builds(
    MetaCondition, key=st.sampled_from(["a", "b", "nowhere"]), op=OPS, values=st.lists(SCALARS, max_size=3).map(tuple)
)
WHERES = st.builds(
    Where,
    kinds=st.sampled_from([(), ("k0",), ("k1", "k2"), ("none",)]),
    from_s=st.none() | st.integers(0, 12).map(float),
    to_s=st.none() | st.integers(0, 12).map(float),
    metadata=st.lists(CONDITIONS, max_size=3).map(tuple),
)


def plain(where, kinds, t_s, records):
    return [passes(where, k, t, m) for k, t, m in zip(kinds, t_s, records, strict=True)]


@given(RECORDS, WHERES, st.data())
def test_equals_a_plain_filter_through_take_and_concatenate(records, where, data):
    kinds = [f"k{n % 3}" for n in range(len(records))]
    t_s = np.arange(len(records), dtype=float)
    columns = encode(kinds, records)
    assert columns.mask(where, t_s).tolist() == plain(where, kinds, t_s, records)

    order = np.array(data.draw(st.permutations(range(len(records)))), dtype=np.int64)
    order = order[: data.draw(st.integers(0, len(records)))]
    taken = columns.take(order)
    rows = order.tolist()
    assert taken.mask(where, t_s[order]).tolist() == plain(
        where, [kinds[n] for n in rows], t_s[order], [records[n] for n in rows]
    )

    both = concatenate([taken, columns])
    assert both.mask(where, np.concatenate([t_s[order], t_s])).tolist() == plain(
        where, [kinds[n] for n in rows] + kinds, [*t_s[order], *t_s], [records[n] for n in rows] + records
    )


@pytest.mark.parametrize(
    ("value", "op", "against", "expected"),
    [
        (True, "EQ", 1, False), (1, "EQ", True, False), (1, "EQ", 1.0, True), (0.0, "EQ", False, False),
        (None, "EQ", None, True), (None, "EQ", 0, False), (None, "NE", 0, True), (None, "LT", 1, False),
        ("1", "EQ", 1, False), ("10", "LT", "9", True), (10, "LT", 9, False), (True, "GE", False, False),
        ({"x": 1}, "EQ", 1, False), ([1], "EXISTS", 1, True), ([1], "NE", 1, True), ([1], "NOT_EXISTS", 1, False),
        (2**53 + 1, "GT", float(2**53), True),
    ],
)  # fmt: skip
def test_json_types(value, op, against, expected):
    columns = encode(["k"], [{"key": value}])
    where = Where(metadata=(MetaCondition("key", op, (against,)),))
    assert columns.mask(where, np.zeros(1)).tolist() == [expected]


def test_a_missing_key_passes_only_ne_and_not_exists():
    columns = encode(["k", "k"], [{}, {"key": 1}])
    for op in ("EQ", "NE", "LT", "LE", "GT", "GE", "EXISTS", "NOT_EXISTS"):
        for key in ("key", "nowhere"):
            mask = columns.mask(Where(metadata=(MetaCondition(key, op, (1,)),)), np.zeros(2))
            assert mask[0] == (op in ("NE", "NOT_EXISTS"))


def test_rows_taken_away_take_their_words_with_them():
    columns = encode(["open", "secret"], [{"a": "kept"}, {"a": "gone", "b": "gone too"}])
    left = columns.take(np.array([0]))
    assert left.kinds == ("open",)
    assert left.keys.keys() == {"a"}
    assert left.keys["a"].values == ("kept",)
