"""Records of which tens of thousands are made a second: immutable to the type checker, cheap at run time.

A frozen dataclass sets each field through a function call, which makes a row of the log ten times as dear as plain
slots: at 30,000 rows a second that is a tenth of the processor. The rule "nobody changes a record" is kept by mypy
instead, which treats these classes as frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A dataclass with slots, equality and hash by value, that mypy lets nobody change."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
