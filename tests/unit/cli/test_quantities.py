"""Words that people type become seconds, pairs and conditions, or a sentence that says what to write."""

import math

import pytest

from sfmctl import quantities


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000), ("1.5d", 129600), ("inf", math.inf)],
)
def test_durations(text: str, seconds: float) -> None:
    assert quantities.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3d", "3 x", "d", "1e3", "nan", "9" * 400, "9" * 308 + "y"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        quantities.duration_s(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("now", 1000.0), ("-1h", -2600.0), ("+1h", 4600.0), ("1777777777.5", 1777777777.5), ("1970-01-02", 86400.0),
     ("1970-01-01T01:00:00+01:00", 0.0), ("1970-01-01T00:00:01Z", 1.0), ("-5", -5.0)],
)  # fmt: skip
def test_times_are_utc_unless_they_say_otherwise(text: str, seconds: float) -> None:
    assert quantities.time_s(text, 1000.0) == seconds


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "inf", "nan", "-never", "1e999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        quantities.time_s(text, 0.0)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("lang=en", ("lang", "EQ", ["en"])), ("n=3|4", ("n", "EQ", [3, 4])), ("lang!=en", ("lang", "NE", ["en"])),
     ("n>=3.5", ("n", "GE", [3.5])), ("n<3", ("n", "LT", [3])), ("lang?", ("lang", "EXISTS", [])),
     ("!lang", ("lang", "NOT_EXISTS", [])), ("ok=true", ("ok", "EQ", [True])), ('n="3"', ("n", "EQ", ["3"])),
     ("a=", ("a", "EQ", [""])), ("url=a=b", ("url", "EQ", ["a=b"]))],
)  # fmt: skip
def test_conditions(text: str, meaning: object) -> None:
    assert quantities.condition(text) == meaning


@pytest.mark.parametrize("text", ["", "lang", "=en", "?", "!"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no condition"):
        quantities.condition(text)


def test_a_word_that_is_no_number_of_json_stays_a_word() -> None:
    words = {"3": 3, "-0.5": -0.5, "true": True, '"3"': "3", "[1]": "[1]", "NaN": "NaN", "-Infinity": "-Infinity"}
    assert {word: quantities.scalar(word) for word in [*words, "1e999"]} == {**words, "1e999": "1e999"}


def test_pairs_name_the_word_that_is_none() -> None:
    assert quantities.pairs(["a=1", "b=x=y"], quantities.scalar) == {"a": 1, "b": "x=y"}
    with pytest.raises(ValueError, match="'a' is not name=value"):
        quantities.pairs(["a"], str)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (90, "1.5 min"), (86400, "1.0 d"), (30 * 86400, "30 d"), (math.inf, "never")]
)
def test_ages_for_people(seconds: float, text: str) -> None:
    assert quantities.age(seconds) == text
