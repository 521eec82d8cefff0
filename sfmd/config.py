"""Settings of the daemon: explicit arguments, then the environment (`SOMA_…`), then a TOML file, then defaults.

No setting holds a secret: keys and tokens are files, and the settings that end in `_FILE` name them. There is no
`.env` file. A value out of range is refused with the setting's name, its place and what it may be.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sfmd.contract import Limits
from sfmd.errors import E, Refused
from sfmd.limits import CallLimits

PREFIX = "SOMA_"
CONFIG_FILE = "SOMA_CONFIG_FILE"


def default_data_dir(env: Mapping[str, str] | None = None) -> Path:
    """`$XDG_DATA_HOME/sfm`, or `~/.local/share/sfm`."""
    base = (os.environ if env is None else env).get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "sfm"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Grpc(_Part):
    """Where gRPC listens, always with TLS."""

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port; 0 takes a free one.")] = 50053
    reflection: Annotated[bool, Field(description="Serve gRPC reflection.")] = False
    drain_s: Annotated[
        float, Field(ge=0, le=600, description="How long calls in flight may go on after SIGTERM, seconds.")
    ] = 10.0


class Http(_Part):
    """The auxiliary port: health, metrics, statistics."""

    enabled: Annotated[bool, Field(description="Serve the auxiliary port at all.")] = True
    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port; 0 takes a free one.")] = 9595


class TlsSettings(_Part):
    """Certificates. Without them a development CA is made in the data directory on first start."""

    cert_file: Annotated[Path | None, Field(description="Server certificate chain, PEM.")] = None
    key_file: Annotated[Path | None, Field(description="Private key of the certificate, PEM.")] = None
    ca_file: Annotated[Path | None, Field(description="CA that signed it, PEM; clients need it.")] = None
    client_ca_file: Annotated[Path | None, Field(description="CA of client certificates; set, they are demanded.")] = (
        None
    )
    names: Annotated[
        tuple[str, ...],
        Field(description="Names and addresses of the development certificate, beside this machine's own."),
    ] = ()


class WriterSettings(_Part):
    """Group commit."""

    rows: Annotated[int, Field(ge=1, le=100_000, description="Rows at which a group is committed.")] = 4096
    delay_s: Annotated[float, Field(ge=0, le=1, description="Longest wait for others to join a group, seconds.")] = (
        0.002
    )


class RecallSettings(_Part):
    """The pool of recalls."""

    workers: Annotated[int, Field(ge=0, le=256, description="Threads that scan; 0: one a processor, at least two.")] = 0


class StoreSettings(_Part):
    """The embedded store."""

    readers: Annotated[int, Field(ge=1, le=64, description="Reading connections.")] = 4
    keys_kept_s: Annotated[
        float,
        Field(ge=0, le=1e10, description="How long an idempotency key is remembered at least, seconds; 0: for ever."),
    ] = 604_800.0


class EventSettings(_Part):
    """The outbox."""

    topic: Annotated[
        str, Field(max_length=249, description="Topic of change events; empty: no events are written.")
    ] = ""


class LogSettings(_Part):
    """Logging to standard error, one JSON document a line."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least level that is written.")
    ] = "info"


def _bounds(source: type[Any], name: str, words: Mapping[str, str], low: Mapping[str, float]) -> type[BaseModel]:
    """A settings model with the fields and defaults of a bounds dataclass; each must be at least 1, or its `low`."""
    fields: dict[str, Any] = {}
    for key in source.__slots__:
        value = getattr(source(), key)
        fields[key] = (type(value), Field(value, ge=low.get(key, 1), le=2**40, description=words[key]))
    return create_model(name, __base__=_Part, __doc__=words[""], **fields)


LIMIT_WORDS = {
    "": "Bounds of what is inside a message.",
    "payload_bytes": "Bytes of one payload.",
    "text_bytes": "Bytes of one text, stored or asked.",
    "metadata_bytes": "Bytes of one metadata object.",
    "metadata_keys": "Top-level keys of one metadata object.",
    "id_bytes": "Bytes of an id or idempotency key.",
    "kind_bytes": "Bytes of a kind.",
    "content_type_bytes": "Bytes of a content type.",
    "batch_items": "Items of one StoreBatch.",
    "chunk_items": "Items that are prepared and queued at a time.",
    "chunk_bytes": "Bytes of a stream that are prepared and queued at a time; one item may be larger.",
    "recall_batch_items": "Queries of one RecallBatch.",
    "k": "Hits of one recall.",
    "page_items": "Memories of one page of List.",
    "filter_terms": "Kinds and conditions of one filter.",
    "filter_values": "Values of one condition.",
    "half_life_classes": "Half-life classes of one namespace.",
    "channels": "Feature channels of one namespace.",
    "namespaces": "Namespaces.",
    "queue_items": "Items that wait for the writer before stores are shed.",
    "queue_bytes": "Bytes that wait for the writer before stores are shed.",
    "recall_queue": "Recalls that run or wait before more are shed; those of batches wait for a turn in half of it.",
    "watchers": "Watch calls at a time.",
    "min_seq_wait_s": "Longest wait for min_seq, seconds.",
}
CALL_WORDS = {
    "": "Bounds of the transport.",
    "message_bytes": "Bytes of one gRPC message in either direction.",
    "waiting_reply_bytes": "Bytes of large replies that wait for their callers before more calls are shed.",
    "handlers": "Unary calls in flight before more are shed.",
    "streams": "Streaming calls in flight before more are shed.",
    "streams_per_connection": "HTTP/2 streams of one connection.",
    "stream_idle_s": "How long an upload may stay silent, seconds.",
    "retry_after_s": "What a shed caller is told to wait, seconds.",
}
LimitSettings = _bounds(Limits, "LimitSettings", LIMIT_WORDS, {"min_seq_wait_s": 0.001})
CallSettings = _bounds(
    CallLimits, "CallSettings", CALL_WORDS, {"message_bytes": 2**16, "stream_idle_s": 0.01, "retry_after_s": 0.001}
)


class Settings(BaseSettings):
    """Everything that can be set. Nested names are joined by two underscores: SOMA_GRPC__PORT."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data_dir: Annotated[Path, Field(description="Directory of store, segments, keys and tokens.")] = Field(
        default_factory=default_data_dir
    )
    tokens_file: Annotated[
        Path | None, Field(description="File of token digests; default: tokens.json in the data directory.")
    ] = None
    embedders: Annotated[tuple[str, ...], Field(description="Embedders to load: hash-v1, wordllama (its extra).")] = (
        "hash-v1",
    )
    memory_limit_bytes: Annotated[
        int,
        Field(ge=0, description="What gate G4 measures resident memory against; 0: the control group's or machine's."),
    ] = 0
    grpc: Grpc = Grpc()
    http: Http = Http()
    tls: TlsSettings = TlsSettings()
    writer: WriterSettings = WriterSettings()
    recall: RecallSettings = RecallSettings()
    store: StoreSettings = StoreSettings()
    events: EventSettings = EventSettings()
    log: LogSettings = LogSettings()
    limits: LimitSettings = Field(default_factory=LimitSettings)  # type: ignore[valid-type]
    calls: CallSettings = Field(default_factory=CallSettings)  # type: ignore[valid-type]

    def bounds(self) -> Limits:
        """The sizes of what is inside a message."""
        return Limits(**self.limits.model_dump())  # type: ignore[attr-defined]

    def call_bounds(self) -> CallLimits:
        """The bounds of the transport."""
        return CallLimits(**self.calls.model_dump())  # type: ignore[attr-defined]

    @property
    def tokens(self) -> Path:
        """The file of token digests."""
        return self.tokens_file or self.data_dir / "tokens.json"

    @property
    def segments(self) -> Path:
        """The directory of derived files."""
        return self.data_dir / "segments"


def load(config_file: Path | None = None, **explicit: Any) -> Settings:
    """Read settings. `explicit` holds nested dictionaries of values that were given by hand; None is left out.

    Raises Refused(CONFIG) that names each setting, where it came from, and what it may be.
    """
    named = config_file or (Path(os.environ[CONFIG_FILE]) if os.environ.get(CONFIG_FILE) else None)
    try:
        kind = Settings if named is None else _beside(_of_file(named))
        return kind(**_given(explicit))
    except ValidationError as error:
        raise Refused(E.CONFIG, _in_words(error)) from None
    except SettingsError as error:
        raise Refused(E.CONFIG, _unreadable(str(error), os.environ)) from None


def _beside(values: dict[str, Any]) -> type[Settings]:
    """The settings model with these values of a file: explicit > environment > file > default."""

    class WithFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
            return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    return WithFile


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """`SOMA_…` variables that are no setting: probably misspelt."""
    known = {CONFIG_FILE, *(name for name, *_ in describe())}
    parts = {name.split("__")[0] for name in known}
    return sorted(k for k in env if k.startswith(PREFIX) and k.upper() not in known and k.upper() not in parts)


def describe() -> list[tuple[str, str, str, str]]:
    """Every setting: variable, type in words, default, meaning. docs/reference/settings.md is made from it."""
    rows: list[tuple[str, str, str, str]] = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=False)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            for key, sub in inner.model_fields.items():
                variable = f"{PREFIX}{name}__{key}".upper()
                rows.append((variable, _kind(sub), _shown(sub.default), sub.description or ""))
        else:
            shown = "~/.local/share/sfm" if name == "data_dir" else _shown(default)
            rows.append((f"{PREFIX}{name}".upper(), _kind(field), shown, field.description or ""))
    return rows


def _kind(field: Any) -> str:
    words = {"int": "integer", "float": "number", "bool": "boolean", "str": "text"}
    annotation = field.annotation
    name = getattr(annotation, "__name__", "") if not hasattr(annotation, "__args__") else ""
    text = str(annotation)
    if "Path" in text or name == "Path":
        kind = "path"
    elif "tuple" in text:
        kind = "list (JSON)"
    elif "Literal" in text:
        kind = "one of " + ", ".join(annotation.__args__)
    else:
        kind = words.get(name, name)
    signs = (("ge", "≥"), ("le", "≤"))
    limits = [f"{sign} {getattr(m, key)}" for m in field.metadata for key, sign in signs if hasattr(m, key)]
    return f"{kind}, {', '.join(limits)}" if limits else kind


def _shown(value: Any) -> str:
    if value in (None, "", ()):
        return "–"
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{v}"' for v in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _given(explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Without the values that were not given."""
    kept: dict[str, Any] = {}
    for key, value in explicit.items():
        inner = _given(value) if isinstance(value, Mapping) else value
        if inner is not None and inner != {}:
            kept[key] = inner
    return kept


def _of_file(path: Path) -> dict[str, Any]:
    """What the configuration file says, its relative paths counted from its own folder."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(E.CONFIG, f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(E.CONFIG, f"the configuration file {path} is not TOML: {error}") from None
    for *tables, key in (v.removeprefix(PREFIX).lower().split("__") for v, kind, *_ in describe() if kind == "path"):
        table = values.get(tables[0]) if tables else values
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = path.absolute().parent / table[key]
    return values


def _unreadable(words: str, env: Mapping[str, str]) -> str:
    """Which variable is no JSON; the library names the field only, and its own class."""
    field = words.partition('"')[2].partition('"')[0].upper()
    of_field = f"{PREFIX}{field}"
    given = {name.upper() for name in env}
    lists = [name for name, kind, *_ in describe() if kind.startswith("list") and name in given]
    found = [name for name in lists if name == of_field or name.startswith(f"{of_field}__")] or [of_field]
    return f'{" or ".join(found)}: input should be JSON, a list such as ["a", "b"]'


def _in_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        variable = PREFIX + "__".join(str(part) for part in problem["loc"]).upper()
        words = "is no setting" if problem["type"] == "extra_forbidden" else problem["msg"].lower()
        lines.append(f"{variable}: {words}")
    return "; ".join(lines)
