"""The only printer: results to stdout as a table, a short list or one JSON document; everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1


class Output(str, Enum):
    """How results are written. The exit code never depends on it."""

    TABLE = "table"
    JSON = "json"
    SHORT = "short"


def stdout() -> Console:
    """A console for results; plain when it is no terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, no_color=bool(os.environ.get("NO_COLOR")))


def stderr() -> Console:
    """A console for progress, warnings and errors."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, no_color=bool(os.environ.get("NO_COLOR")))


def document(kind: str, body: Mapping[str, Any]) -> None:
    """Write exactly one JSON document: `{"schemaVersion": 1, "kind": kind, **body}`."""
    json.dump({"schemaVersion": SCHEMA_VERSION, "kind": kind, **body}, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def short(lines: Sequence[str]) -> None:
    """Write one line per record, tab-separated by the caller, without decoration."""
    for line in lines:
        sys.stdout.write(line + "\n")
