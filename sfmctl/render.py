"""The only printer: results to stdout as a table, short lines or one JSON document; everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl.fault import Fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SCHEMA_VERSION = 1
PLAIN_WIDTH = 100
"""Columns of a table that is written to a file or pipe, where no terminal says how wide it is."""


class Output(StrEnum):
    """How results are written. The exit code never depends on it."""

    TABLE = "table"
    JSON = "json"
    SHORT = "short"


@dataclass(slots=True)
class Choice:
    """What this run was asked for. The error boundary reads it, since a fault may come before any result."""

    output: Output = Output.TABLE


def _chosen(ctx: typer.Context, value: Output) -> Output:
    if isinstance(ctx.obj, Choice):
        ctx.obj.output = value
    return value


OutputOption = Annotated[
    Output,
    typer.Option("-o", "--output", envvar="SFM_OUTPUT", callback=_chosen, is_eager=True,
                 help="table for people, short for shells, json for programs: one document."),
]  # fmt: skip
"""The `-o` of every command that has a result."""


def is_terminal(stream: Any) -> bool:
    """Whether a person looks at `stream`: only then are there colours, bars and spinners."""
    return bool(stream.isatty()) and os.environ.get("TERM", "") != "dumb"


def _console(stream: Any) -> Console:
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR"))
    width = None if is_terminal(stream) or os.environ.get("COLUMNS") else PLAIN_WIDTH
    return Console(file=stream, highlight=False, no_color=plain, width=width, soft_wrap=False)


def stdout() -> Console:
    """A console for results; plain when it is no terminal or NO_COLOR is set."""
    return _console(sys.stdout)


def stderr() -> Console:
    """A console for progress, warnings and errors."""
    return _console(sys.stderr)


def document(kind: str, body: Mapping[str, Any]) -> None:
    """Write exactly one JSON document: `{"schemaVersion": 1, "kind": kind, **body}`."""
    json.dump({"schemaVersion": SCHEMA_VERSION, "kind": kind, **body}, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def short(rows: Iterable[Sequence[object]]) -> None:
    """Write one line per record, its fields separated by tabs, without decoration."""
    for row in rows:
        sys.stdout.write("\t".join(str(cell).replace("\t", " ").replace("\n", " ") for cell in row) + "\n")


class Paste(str):
    """A line to copy into a shell: never wrapped, since a break in it would end the command."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, and how it behaves when the terminal is narrow."""

    title: str
    right: bool = False
    fold: bool = False  # wraps when long; the others are cut with an ellipsis
    style: str = ""
    ratio: int | None = None
    no_wrap: bool = field(default=False)


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """A table that fits the terminal: numbers to the right, long text wrapped, cells taken literally."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.fold else "ellipsis",
            no_wrap=column.no_wrap or column.right,
            style=column.style,
            ratio=column.ratio,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def result(
    output: Output,
    kind: str,
    *,
    json_body: Callable[[], Mapping[str, Any]],
    short_rows: Callable[[], Iterable[Sequence[object]]],
    tables: Callable[[], Iterable[object]],
) -> None:
    """Write one result in the asked form; only that form is computed."""
    if output is Output.JSON:
        document(kind, json_body())
    elif output is Output.SHORT:
        short(short_rows())
    else:
        console = stdout()
        for part in tables():
            if isinstance(part, Paste):
                sys.stdout.write(part + "\n")
            else:
                console.print(part)


def ask(question: str) -> str:
    """Ask on stderr, since stdout is for results; the answer without the spaces around it."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def note(text: str) -> None:
    """One line for people on stderr: progress, a hint, a warning."""
    sys.stderr.write(text + "\n")


def fault(error: Fault) -> None:
    """Print a fault to stderr: what, why, next, code."""
    lines = [f"error: {error.what}  [{error.code}]"]
    if error.why:
        lines.append(f"  why:  {error.why}")
    if error.next_step:
        lines.append(f"  next: {error.next_step}")
    sys.stderr.write("\n".join(lines) + "\n")


def fault_fields(error: Fault) -> dict[str, Any]:
    """A fault as fields of a JSON document."""
    return {
        "code": error.code,
        "message": error.what,
        "why": error.why,
        "next": error.next_step,
        "exitCode": int(error.exit),
    }
