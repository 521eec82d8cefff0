"""The only printer: results to stdout as a table, short lines or one JSON document; everything else to stderr.

Ids, kinds and texts are other people's words: nothing of them reaches a terminal that it would act on or hide.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl.fault import Fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SCHEMA_VERSION = 1
PLAIN_WIDTH = 100
"""Columns of a table that is written to a file or pipe, where no terminal says how wide it is."""

_UNSEEN = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff]")
"""What JSON lets stand: C1 control codes, marks of direction, and halves of a pair (bytes that are no UTF-8)."""


class Output(StrEnum):
    """How results are written. The exit code never depends on it."""

    TABLE = "table"
    JSON = "json"
    SHORT = "short"


@dataclass(slots=True)
class Choice:
    """What this run was asked for. The error boundary reads it, since a fault may come before any result."""

    output: Output = Output.TABLE
    command: str = "sfmctl"


def _chosen(ctx: typer.Context, value: Output) -> Output:
    if isinstance(ctx.obj, Choice):
        ctx.obj.output = value
        ctx.obj.command = ctx.command_path
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


def printable(text: str) -> str:
    """One line in which all is seen: what a terminal would act on or hide is an escape, `\\n`, `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text
    )


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def lines(text: str) -> Text:
    """A cell or part of several lines, each printable and taken literally."""
    from rich.text import Text

    return Text(_lines(text))


def json_text(body: Any, indent: int | None = None) -> str:
    """JSON that reads well, with escapes for what a terminal would act on and for what is no UTF-8 in a file's name."""
    text = json.dumps(body, indent=indent, ensure_ascii=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def document(kind: str, body: Mapping[str, Any]) -> None:
    """Write exactly one JSON document: `{"schemaVersion": 1, "kind": kind, **body}`."""
    sys.stdout.write(json_text({"schemaVersion": SCHEMA_VERSION, "kind": kind, **body}, indent=2) + "\n")


def short(rows: Iterable[Sequence[object]]) -> None:
    """Write one line per record, its fields separated by tabs, without decoration."""
    for row in rows:
        sys.stdout.write("\t".join(printable(str(cell)) for cell in row) + "\n")


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
    """A table that fits the terminal: numbers to the right, long text wrapped, all literal and printable."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        title=lines(title) if title else None,
        title_justify="left",
        pad_edge=False,
        show_edge=False,
    )
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
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
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
                console.print(lines(part) if isinstance(part, str) else part)


def ask(question: str) -> str:
    """Ask on stderr, since stdout is for results; the answer without the spaces around it."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def note(text: str) -> None:
    """One line for people on stderr: progress, a hint, a warning."""
    sys.stderr.write(_lines(text) + "\n")


def fault(error: Fault) -> None:
    """Print a fault to stderr: what, why, next, code."""
    said = [f"error: {error.what}  [{error.code}]"]
    if error.why:
        said.append(f"  why:  {error.why}")
    if error.next_step:
        said.append(f"  next: {error.next_step}")
    sys.stderr.write(_lines("\n".join(said)) + "\n")


def fault_fields(error: Fault) -> dict[str, Any]:
    """A fault as fields of a JSON document."""
    return {
        "code": error.code,
        "message": error.what,
        "why": error.why,
        "next": error.next_step,
        "exitCode": int(error.exit),
    }
