"""Words that people type, as the units that the daemon counts in: durations and times in seconds, `name=value` pairs.

Each parser raises `ValueError` with a sentence; the command line turns it into a usage error that names the option.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_557_600.0}
SHOWN_CHARS = 40
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhdwy]?)")


def duration_s(text: str) -> float:
    """`30d`, `12h`, `90` (seconds), `inf` (never ages) in seconds, above 0."""
    if text.strip().lower() in {"inf", "infinite", "never"}:
        return math.inf
    form = _DURATION.fullmatch(text.strip())
    seconds = float(form[1]) * UNITS_S[form[2] or "s"] if form else 0.0
    if not 0 < seconds < math.inf:  # so many digits are no "never": that has a word
        raise ValueError(f"{text[:SHOWN_CHARS]!r} is no duration: write 90s, 15m, 12h, 30d, 2w, 1y or inf")
    return seconds


def time_s(text: str, now_s: float) -> float:
    """Unix seconds of `2026-05-01`, `2026-05-01T12:00:00Z`, `1777777777.5`, `now`, or `-3d` (before now).

    A date or time without a zone is UTC, so that a command means the same on every machine.
    """
    word = text.strip()
    if word == "now":
        return now_s
    if word[:1] in {"-", "+"} and word[-1:].isalpha():
        seconds = duration_s(word[1:])
        found = now_s - seconds if word[0] == "-" else now_s + seconds
    else:
        found = _moment_s(word)
    if not math.isfinite(found):
        raise ValueError(
            f"{text[:SHOWN_CHARS]!r} is no time: write 2026-05-01, 2026-05-01T12:00:00Z, Unix seconds or -3d"
        )
    return found


def _moment_s(word: str) -> float:
    """Unix seconds of a number, or of an ISO date or time; not finite when it is neither."""
    try:
        return float(word)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def pairs(words: Sequence[str], value: Callable[[str], T]) -> dict[str, T]:
    """`name=value` words as a dictionary; the value parsed by `value`."""
    made: dict[str, T] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not name=value")
        made[name] = value(text)
    return made


def scalar(text: str) -> Any:
    """A JSON scalar where the word is one (3, true, null, "3"), else the word itself."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    if isinstance(parsed, float) and not math.isfinite(parsed):  # NaN, Infinity, 1e999: JSON has no such number
        return text
    return text if isinstance(parsed, (dict, list)) else parsed


_CONDITION = re.compile(r"([^=!<>?]+)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
OPERATORS = {"=": "EQ", "!=": "NE", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}


def condition(text: str) -> tuple[str, str, list[Any]]:
    """A metadata condition as (key, operator's name, values).

    `lang=en`, `lang=en|de` (one of), `lang!=en`, `size>=3`, `lang?` (has the key), `!lang` (has it not).
    """
    if text.startswith("!") and len(text) > 1 and not _CONDITION.fullmatch(text[1:]):
        return text[1:], "NOT_EXISTS", []
    if text.endswith("?") and len(text) > 1:
        return text[:-1], "EXISTS", []
    form = _CONDITION.fullmatch(text)
    if not form:
        raise ValueError(f"{text!r} is no condition: write key=value, key=a|b, key!=v, key<9, key>=9, key? or !key")
    key, sign, value = form[1], form[2], form[3]
    many = value.split("|") if sign in {"=", "!="} else [value]
    return key, OPERATORS[sign], [scalar(one) for one in many]


def age(seconds: float) -> str:
    """A duration for people, two figures at most: `45 s`, `3.2 h`, `12 d`, `1.4 y`, `never` for infinity."""
    if math.isinf(seconds):
        return "never"
    for unit, size in (("y", UNITS_S["y"]), ("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            count = seconds / size
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float) -> str:
    """Unix seconds as UTC to the second, `2026-05-01T12:00:00Z`."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
