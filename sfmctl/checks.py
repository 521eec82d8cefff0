"""One check record, four renderings: a table, short lines, one JSON document, JUnit. All from the same list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from sfmctl import render
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from playbook.model import Check

LONGEST = 3
NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What is no `Char` of XML 1.0 (a carriage return is one, and goes too)."""
STYLES = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "dim", "error": "magenta"}


def check_tables(checks: Sequence[Check]) -> list[object]:
    """The checks for people: what did not pass comes with its hint below it."""
    from rich.text import Text

    columns = [render.Column("status", no_wrap=True), render.Column("check", no_wrap=True),
               render.Column("criterion", fold=True), render.Column("observed", fold=True),
               render.Column("ms", right=True)]  # fmt: skip
    rows = [
        (Text(c.status.value, style=STYLES[c.status.value]), c.id, c.criterion,
         render.lines(c.observed + (f"\n→ {c.hint}" if c.hint else "")), c.duration_ms)
        for c in checks
    ]  # fmt: skip
    return [render.table(columns, rows), summary(checks)]


def summary(checks: Sequence[Check]) -> str:
    """How many came out how, in one line."""
    counts = {status: sum(c.status.value == status for c in checks) for status in STYLES}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no checks"


def show(checks: Sequence[Check], output: render.Output, kind: str, took_ms: int, exit_code: int) -> None:
    """Print the records in the asked form."""
    render.result(
        output,
        kind,
        json_body=lambda: body(checks, took_ms, exit_code),
        short_rows=lambda: [(c.status.value, c.id, c.observed, c.hint) for c in checks],
        tables=lambda: [*check_tables(checks), where_time_went(checks, took_ms)],
    )


def where_time_went(checks: Sequence[Check], took_ms: int) -> str:
    """How long all of it took, and the rows that took longest; they run side by side, so they do not add up to it."""
    longest = sorted(checks, key=lambda c: c.duration_ms, reverse=True)[:LONGEST]
    rows = ", ".join(f"{c.id} {c.duration_ms / 1000:.1f} s" for c in longest if c.duration_ms >= 100)
    return f"{took_ms / 1000:.1f} s" + (f"; longest: {rows}" if rows else "")


def body(checks: Sequence[Check], took_ms: int, exit_code: int) -> dict[str, Any]:
    """The JSON document's fields."""
    return {"checks": [c.as_dict() for c in checks], "duration_ms": took_ms, "exitCode": exit_code}


def junit(checks: Sequence[Check], took_ms: int, setup: Fault | None = None) -> str:
    """The records as JUnit XML; an error before any check is a test case of its own, so that CI shows it."""
    suite = ElementTree.Element(
        "testsuite", name="sfmctl verify", tests=str(len(checks) + bool(setup)), time=f"{took_ms / 1000:.3f}",
        failures=str(sum(c.status.value == "fail" for c in checks)),
        errors=str(sum(c.status.value == "error" for c in checks) + bool(setup)),
        skipped=str(sum(c.status.value == "skip" for c in checks)),
    )  # fmt: skip
    if setup is not None:
        case = ElementTree.SubElement(suite, "testcase", classname="setup", name=setup.code, time="0")
        ElementTree.SubElement(case, "error", message=printable(setup.what), type=setup.code).text = printable(
            f"{setup.why}\nnext: {setup.next_step}"
        )
    for one in checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=one.category, name=one.id, time=f"{one.duration_ms / 1000:.3f}"
        )
        tag = {"fail": "failure", "error": "error", "skip": "skipped"}.get(one.status.value)
        text = printable(f"{one.observed}\ncriterion: {one.criterion}\ncommand: {one.command}\n{one.hint}\n{one.doc}")
        if tag:
            found = ElementTree.SubElement(case, tag, message=printable(one.observed))
            found.text = text
            if tag != "skipped":
                found.set("type", one.hint.partition(":")[0])
        else:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def printable(text: str) -> str:
    """`text` without what XML 1.0 cannot hold: control characters, lone surrogates, U+FFFE and U+FFFF."""
    return NO_XML.sub("", text)


def write_junit(path: Path, checks: Sequence[Check], took_ms: int, setup: Fault | None = None) -> None:
    """Write the JUnit report, or say that it cannot be written."""
    try:
        path.write_text(junit(checks, took_ms, setup), encoding="utf-8")
    except OSError as error:
        raise Fault("SFM-CLI-029", f"the report {path} cannot be written", why=error.strerror or str(error),
                    next_step="give a path in a folder that you may write to") from error  # fmt: skip
