"""Metadata and kinds as dictionary-coded sparse columns, so that a filter is a few array operations before top-k.

A column keeps the rows that have its key, and for each a code into the list of distinct scalars: memory follows the
pairs that exist, not rows times keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sfmd.core.model import F64, MetaCondition, Scalar, Where

Bool = NDArray[np.bool_]
I32 = NDArray[np.int32]

T = TypeVar("T")

NO_SCALAR = -1
"""Code of a value that is an object or an array: it exists, and no comparison holds for it."""


def kind_of(value: Scalar) -> str:
    """The JSON type that a comparison stays within: "z" null, "b" boolean, "n" number, "s" string."""
    if value is None:
        return "z"
    if isinstance(value, bool):
        return "b"
    return "s" if isinstance(value, str) else "n"


def is_scalar(value: object) -> bool:
    """True for what a condition can compare."""
    return value is None or isinstance(value, (str, bool, int, float))


def holds(value: Scalar, condition: MetaCondition) -> bool:
    """One present scalar against one condition: the definition that the columns' tables are made from."""
    op = condition.op
    if op == "EXISTS":
        return True
    if op == "NOT_EXISTS":
        return False
    same = [v for v in condition.values if kind_of(v) == kind_of(value)]
    if op == "EQ":
        return value in same
    if op == "NE":
        return value not in same
    if kind_of(value) not in "ns":
        return False
    return any(_ordered(value, other, op) for other in same)


def _ordered(a: Scalar, b: Scalar, op: str) -> bool:
    """a OP b for two numbers or two strings."""
    if isinstance(a, str) and isinstance(b, str):
        return {"LT": a < b, "LE": a <= b, "GT": a > b, "GE": a >= b}[op]
    x, y = a, b
    if not isinstance(x, (int, float)) or not isinstance(y, (int, float)):
        return False
    return {"LT": x < y, "LE": x <= y, "GT": x > y, "GE": x >= y}[op]


@dataclass(frozen=True, slots=True)
class Column:
    """One key: `values` distinct scalars; `rows` int32 ascending; `codes` int32 beside them."""

    values: tuple[Scalar, ...]
    rows: I32
    codes: I32

    def passing(self, condition: MetaCondition, n: int) -> Bool:
        """bool[n]: rows for which the condition holds. A row without the key passes only NE and NOT_EXISTS."""
        table = np.zeros(len(self.values) + 1, dtype=bool)
        table[: len(self.values)] = [holds(v, condition) for v in self.values]
        table[NO_SCALAR] = condition.op in ("EXISTS", "NE")
        out = np.full(n, condition.op in ("NE", "NOT_EXISTS"))
        out[self.rows] = table[self.codes]
        return out


@dataclass(frozen=True, slots=True)
class Columns:
    """All columns of N rows: kinds (every row has one) and metadata by key."""

    n: int
    kinds: tuple[str, ...]
    kind_codes: I32
    keys: Mapping[str, Column]

    def mask(self, where: Where, event_time_s: F64) -> Bool:
        """bool[N]: rows that pass every part of the filter."""
        out = np.ones(self.n, dtype=bool)
        if where.kinds:
            out &= np.array([k in where.kinds for k in self.kinds] or [False])[self.kind_codes]
        if where.from_s is not None:
            out &= event_time_s >= where.from_s
        if where.to_s is not None:
            out &= event_time_s < where.to_s
        for condition in where.metadata:
            column = self.keys.get(condition.key)
            if column is None:
                if condition.op not in ("NE", "NOT_EXISTS"):
                    out[:] = False
            else:
                out &= column.passing(condition, self.n)
        return out

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """The same columns for chosen rows, in the order given (int64[M], no row twice)."""
        place = np.full(self.n, -1, dtype=np.int64)
        place[rows] = np.arange(rows.size)
        keys: dict[str, Column] = {}
        for key, column in self.keys.items():
            to = place[column.rows]
            kept = np.flatnonzero(to >= 0)
            if kept.size:
                order = kept[np.argsort(to[kept], kind="stable")]
                values, codes = _used(column.values, column.codes[order])
                keys[key] = Column(values, to[order].astype(np.int32), codes)
        kinds, kind_codes = _used(self.kinds, self.kind_codes[rows])
        return Columns(rows.size, kinds, kind_codes, keys)


def _used(values: tuple[T, ...], codes: I32) -> tuple[tuple[T, ...], I32]:
    """Only the values that a code names, so that what was erased leaves no trace."""
    named = np.zeros(len(values) + 1, dtype=bool)
    named[codes] = True
    if named[: len(values)].all():
        return values, codes
    kept = np.flatnonzero(named[: len(values)])
    renumber = np.full(len(values) + 1, NO_SCALAR, dtype=np.int32)
    renumber[kept] = np.arange(kept.size, dtype=np.int32)
    return tuple(values[n] for n in kept.tolist()), renumber[codes]


def encode(kinds: Sequence[str], metadata: Sequence[Mapping[str, object]]) -> Columns:
    """Columns of N rows from their kinds and metadata objects (top level)."""
    words: dict[str, int] = {}
    codes = np.fromiter((words.setdefault(k, len(words)) for k in kinds), dtype=np.int32, count=len(kinds))
    rows: dict[str, list[int]] = {}
    picks: dict[str, list[int]] = {}
    tables: dict[str, dict[tuple[str, Scalar], int]] = {}
    for n, record in enumerate(metadata):
        for key, value in record.items():
            rows.setdefault(key, []).append(n)
            table = tables.setdefault(key, {})
            code = table.setdefault((kind_of(value), value), len(table)) if is_scalar(value) else NO_SCALAR  # type: ignore[arg-type]
            picks.setdefault(key, []).append(code)
    keys = {
        key: Column(tuple(v for _, v in tables[key]), np.array(rows[key], np.int32), np.array(picks[key], np.int32))
        for key in rows
    }
    return Columns(len(kinds), tuple(words), codes, keys)


def concatenate(parts: Sequence[Columns]) -> Columns:
    """The columns of all parts, one after another."""
    words: dict[str, int] = {}
    kind_codes: list[I32] = []
    tables: dict[str, dict[tuple[str, Scalar], int]] = {}
    rows: dict[str, list[I32]] = {}
    codes: dict[str, list[I32]] = {}
    offset = 0
    for part in parts:
        renumbered = np.array([words.setdefault(k, len(words)) for k in part.kinds] or [0], dtype=np.int32)
        kind_codes.append(renumbered[part.kind_codes])
        for key, column in part.keys.items():
            table = tables.setdefault(key, {})
            recode = [table.setdefault((kind_of(v), v), len(table)) for v in column.values]
            rows.setdefault(key, []).append(column.rows + np.int32(offset))
            codes.setdefault(key, []).append(np.array([*recode, NO_SCALAR], dtype=np.int32)[column.codes])
        offset += part.n
    keys = {
        key: Column(tuple(v for _, v in tables[key]), np.concatenate(rows[key]), np.concatenate(codes[key]))
        for key in rows
    }
    empty = np.zeros(0, dtype=np.int32)
    return Columns(offset, tuple(words), np.concatenate([empty, *kind_codes]), keys)
