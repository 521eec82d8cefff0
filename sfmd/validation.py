"""Every bound and every rule of a single field, as typed refusals.

Transports pass fields through untouched; here a value outside its range becomes Refused with a stable code and a
message that names the field and the bound, and never shows a payload.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from sfmd.contract import Limits, NamespaceSpec
from sfmd.domain import Channel, ConditionOp, Filter, HalfLife, MemoryInput, Query, Scalar
from sfmd.errors import E, Refused

EARLIEST_S = -2_208_988_800.0
"""1900-01-01, as Unix seconds."""
LATEST_S = 7_258_118_400.0
"""2200-01-01, as Unix seconds."""
DIM_MIN, DIM_MAX = 8, 4096
SEQ_MAX = 2**63 - 2
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9_.]{0,61}[a-z0-9])?")
_NOTHING: Mapping[str, Any] = {}
JSON_TYPE = "application/json"


def bounded(field: str, text: str, limit: int) -> str:
    """`text` when it is UTF-8 of at most `limit` bytes without NUL."""
    if len(text) * 4 > limit or not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise Refused(E.INVALID, f"{field} is not valid Unicode") from None
        if size > limit:
            raise Refused(E.TOO_LARGE, f"{field} has {size} bytes; at most {limit} are allowed")
    if "\x00" in text:
        raise Refused(E.INVALID, f"{field} holds a NUL character")
    return text


def time_s(field: str, value: float) -> float:
    """Unix seconds that a clock can mean."""
    if not EARLIEST_S <= value <= LATEST_S:  # also catches NaN
        raise Refused(E.CLOCK, f"{field} is {value!r}; give Unix seconds between 1900 and 2200")
    return value


def finite(field: str, value: float) -> float:
    """A finite number."""
    if not math.isfinite(value):
        raise Refused(E.INVALID, f"{field} must be a finite number, not {value!r}")
    return value


def seq(field: str, value: int) -> int:
    """A place in the log."""
    if not 0 <= value <= SEQ_MAX:
        raise Refused(E.INVALID, f"{field} is {value}; give a seq between 0 and {SEQ_MAX}")
    return value


def memory_id(value: str, limits: Limits) -> str:
    """An id that a caller names; empty is refused here."""
    if not value:
        raise Refused(E.INVALID, "id is empty")
    return bounded("id", value, limits.id_bytes)


def namespace_name(value: str) -> str:
    """A name that fits in paths, metrics and tokens."""
    if len(value) > 63 or not _NAME.fullmatch(value):
        shown = value if len(value) <= 63 and value.isprintable() else "the given name"
        raise Refused(E.INVALID, f"namespace {shown!r} is not [a-z0-9]([-a-z0-9_.]{{0,61}}[a-z0-9])?")
    return value


def metadata(text: str, limits: Limits) -> Mapping[str, Any]:
    """The metadata object; empty text is {}."""
    if not text or text == "{}":
        return _NOTHING
    bounded("metadata_json", text, limits.metadata_bytes)
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(E.INVALID, f"metadata_json is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused(E.INVALID, "metadata_json is not a JSON object")
    if not _numbers_fit(value):
        raise Refused(E.INVALID, "metadata_json holds a number beyond the range of a float64")
    if len(value) > limits.metadata_keys:
        raise Refused(E.TOO_LARGE, f"metadata_json has {len(value)} keys; at most {limits.metadata_keys} are allowed")
    return value


def _numbers_fit(value: Any) -> bool:
    """Whether every number of a parsed document is finite: 1e999 is read as an infinity, which JSON cannot write."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_numbers_fit, value.values()))
    return all(map(_numbers_fit, value)) if isinstance(value, list) else True


def payload(memory: MemoryInput, limits: Limits) -> None:
    """Payload within its bound, and JSON when its content type says so."""
    if len(memory.payload) > limits.payload_bytes:
        raise Refused(
            E.TOO_LARGE,
            f"payload has {len(memory.payload)} bytes; SOMA_LIMITS__PAYLOAD_BYTES allows {limits.payload_bytes}",
        )
    if memory.content_type == JSON_TYPE or memory.content_type.partition(";")[0].strip().lower() == JSON_TYPE:
        try:
            from_json(memory.payload, allow_inf_nan=False, cache_strings="none")
        except ValueError as error:
            raise Refused(E.PAYLOAD_NOT_JSON, f"the payload is not JSON: {error}") from None


def content(memory: MemoryInput, limits: Limits) -> None:
    """The one of text and vector that a memory or a query must have, within its bound."""
    if (memory.text is None) == (memory.vector is None):
        raise Refused(E.INVALID, "give exactly one of text and vector")
    if memory.text is not None:
        bounded("text", memory.text, limits.text_bytes)
        if not memory.text.strip():
            raise Refused(E.EMPTY_TEXT)


def features(given: Mapping[str, float], channels: tuple[Channel, ...]) -> tuple[float, ...]:
    """Feature values by channel number; nan is missing. Unknown channels and values outside [0, 1] are refused."""
    numbers = {channel.name: number for number, channel in enumerate(channels)}
    values = [math.nan] * len(channels)
    for name, value in given.items():
        if name not in numbers:
            raise Refused(E.INVALID, f"features: the namespace has no channel {name[:64]!r}")
        if not 0.0 <= value <= 1.0:
            raise Refused(E.INVALID, f"features: {name!r} is {value!r}; it must lie in [0, 1]")
        values[numbers[name]] = float(value)
    return tuple(values)


def memory_fields(memory: MemoryInput, limits: Limits) -> None:
    """Every field of a memory that needs no namespace to be judged, apart from metadata, which is parsed once."""
    m = memory
    if m.id:
        bounded("id", m.id, limits.id_bytes)
    if m.kind != "memory":
        if not m.kind:
            raise Refused(E.INVALID, "kind is empty")
        bounded("kind", m.kind, limits.kind_bytes)
    if m.content_type != JSON_TYPE:
        bounded("content_type", m.content_type, limits.content_type_bytes)
    if m.importance is not None:
        finite("importance", m.importance)
    if m.event_time_s is not None:
        time_s("event_time_s", m.event_time_s)
    if m.expected_version is not None:
        seq("expected_version", m.expected_version)
    if m.idempotency_key:
        bounded("idempotency_key", m.idempotency_key, limits.id_bytes)
    content(m, limits)
    payload(m, limits)


def filter_fields(given: Filter, limits: Limits) -> None:
    """A filter of bounded size whose values can be compared as its operators say."""
    if len(given.kinds) + len(given.metadata) > limits.filter_terms:
        raise Refused(E.TOO_LARGE, f"filter has more than {limits.filter_terms} terms")
    for kind in given.kinds:
        bounded("filter.kinds", kind, limits.kind_bytes)
    for name, value in (("filter.from_s", given.from_s), ("filter.to_s", given.to_s)):
        if value is not None:
            time_s(name, value)
    for condition in given.metadata:
        bounded("filter.metadata.key", condition.key, limits.metadata_bytes)
        if len(condition.values) > limits.filter_values:
            raise Refused(E.TOO_LARGE, f"filter.metadata has more than {limits.filter_values} values")
        existence = condition.op in (ConditionOp.EXISTS, ConditionOp.NOT_EXISTS)
        if existence and condition.values:
            raise Refused(E.INVALID, f"filter.metadata: {condition.op.value} takes no value")
        if not existence and not condition.values:
            raise Refused(E.INVALID, f"filter.metadata: {condition.op.value} needs a value")
        if (
            condition.op in (ConditionOp.LT, ConditionOp.LE, ConditionOp.GT, ConditionOp.GE)
            and len(condition.values) != 1
        ):
            raise Refused(E.INVALID, f"filter.metadata: {condition.op.value} takes one value")


def query_fields(query: Query, limits: Limits) -> None:
    """Every field of a recall that needs no namespace to be judged."""
    q = query
    if (q.text is None) == (q.vector is None):
        raise Refused(E.INVALID, "give exactly one of text and vector")
    if q.text is not None:
        bounded("text", q.text, limits.text_bytes)
        if not q.text.strip():
            raise Refused(E.EMPTY_TEXT)
    if not 1 <= q.k <= limits.k:
        raise Refused(E.INVALID, f"k is {q.k}; give 1 to {limits.k}")
    exponents("alpha", q.alpha, "beta", q.beta)
    if q.now_s is not None:
        time_s("now_s", q.now_s)
    for name, value in (("as_of_seq", q.as_of_seq), ("min_seq", q.min_seq)):
        if value is not None:
            seq(name, value)
    if not 0.0 <= q.min_score <= 1.0:
        raise Refused(E.INVALID, f"min_score is {q.min_score!r}; it must lie in [0, 1]")
    if q.max_bytes < 0:
        raise Refused(E.INVALID, "max_bytes is negative")
    filter_fields(q.filter, limits)


def exponents(alpha_name: str, alpha: float | None, beta_name: str, beta: float | None) -> None:
    """alpha >= 0 and beta > 0, both finite and at most 1000, so that logarithms stay finite too."""
    if alpha is not None and not 0.0 <= alpha <= 1000.0:
        raise Refused(E.INVALID, f"{alpha_name} is {alpha!r}; give 0 to 1000")
    if beta is not None and not 0.0 < beta <= 1000.0:
        raise Refused(E.INVALID, f"{beta_name} is {beta!r}; give more than 0, up to 1000")


def half_lives(given: tuple[HalfLife, ...], limits: Limits) -> None:
    """Half-life classes with distinct names and tau > 0 (infinite is allowed)."""
    if len(given) > limits.half_life_classes:
        raise Refused(E.TOO_LARGE, f"more than {limits.half_life_classes} half-life classes")
    for half_life in given:
        _word("half_life_classes.name", half_life.name)
        if not half_life.seconds >= 1e-3:  # also catches NaN; tau below a millisecond overflows t/tau
            raise Refused(E.INVALID, f"half-life {half_life.name!r} is {half_life.seconds!r} s; give 0.001 s or more")
    _distinct("half_life_classes", [h.name for h in given])


def channels(given: tuple[Channel, ...], limits: Limits) -> None:
    """Feature channels with distinct names, weights >= 0 and a sum of at most 1."""
    if len(given) > limits.channels:
        raise Refused(E.TOO_LARGE, f"more than {limits.channels} feature channels")
    for channel in given:
        _word("features.name", channel.name)
        if not 0.0 <= channel.weight <= 1.0:
            raise Refused(E.INVALID, f"channel {channel.name!r} has weight {channel.weight!r}; give 0 to 1")
    if math.fsum(channel.weight for channel in given) > 1.0 + 1e-12:
        raise Refused(E.INVALID, "the weights of the feature channels sum to more than 1")
    _distinct("features", [c.name for c in given])


def namespace_spec(spec: NamespaceSpec, limits: Limits) -> None:
    """Every field of a new namespace, apart from the embedder."""
    namespace_name(spec.name)
    half_lives(spec.half_lives, limits)
    channels(spec.channels, limits)
    exponents("alpha", spec.alpha, "beta", spec.beta)
    if spec.dim and not DIM_MIN <= spec.dim <= DIM_MAX:
        raise Refused(E.INVALID, f"dim is {spec.dim}; give {DIM_MIN} to {DIM_MAX}")


def _word(field: str, name: str) -> None:
    if not name or len(name.encode("utf-8", "replace")) > 64 or not name.isprintable():
        raise Refused(E.INVALID, f"{field} must be a printable word of 1 to 64 bytes")


def _distinct(field: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise Refused(E.INVALID, f"{field}: a name is given twice")


def scalar(text: str) -> Scalar:
    """A JSON scalar of a filter. Raises Refused(INVALID) for anything else."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(E.INVALID, "filter.metadata.values_json holds something that is no JSON scalar") from None
    if isinstance(value, dict | list) or not _numbers_fit(value):
        raise Refused(E.INVALID, "filter.metadata.values_json holds something that is no JSON scalar")
    return value  # type: ignore[no-any-return]


def _no_constant(name: str) -> None:
    raise ValueError(name)
