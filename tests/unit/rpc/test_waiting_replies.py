"""Replies that wait for their callers: counted when they are large, until their calls end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sfmd.errors import E, Refused
from sfmd.limits import WaitingReplies

LARGE = WaitingReplies.LARGE


def test_large_replies_wait_up_to_the_bound_and_make_room_when_their_calls_end() -> None:
    ends: list[Callable[[Any], None]] = []
    replies = WaitingReplies(3 * LARGE, retry_after_s=0.25)
    for _ in range(3):
        replies.add(LARGE, ends.append)
    with pytest.raises(Refused) as refused:
        replies.add(LARGE, ends.append)
    assert (refused.value.code, refused.value.retry_after_s) == (E.BUSY, 0.25)
    assert (replies.now, len(ends)) == (3 * LARGE, 3)
    ends.pop()(None)
    replies.add(LARGE, ends.append)
    while ends:
        ends.pop()(None)
    assert replies.now == 0


def test_small_replies_are_never_held_up_and_one_of_any_size_fits() -> None:
    ends: list[Callable[[Any], None]] = []
    replies = WaitingReplies(LARGE, retry_after_s=0.25)
    replies.add(100 * LARGE, ends.append)
    for _ in range(1000):
        replies.add(LARGE - 1, ends.append)
    assert (replies.now, len(ends)) == (100 * LARGE, 1)
