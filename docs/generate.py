"""Writes the reference pages that are made from the source: commands, metrics, error codes, settings, the contract.

`make docs` runs it; a test makes the same pages in memory and compares, so that a page never says less than the
program. `python docs/generate.py --check` leaves with 3 when a page is not up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- Made by `make docs` from the source; do not edit. -->\n"


def cell(text: object) -> str:
    """A table cell: one line, bars escaped."""
    return " ".join(str(text).split()).replace("|", "\\|")


def option_row(param: Any) -> str:
    """One option or argument as a table row."""
    argument = type(param).__name__ == "TyperArgument"
    names = f"`{param.metavar or param.name.upper()}`" if argument else ", ".join(f"`{o}`" for o in param.opts)
    if param.secondary_opts:
        names += " / " + ", ".join(f"`{o}`" for o in param.secondary_opts)
    notes = []
    if param.required:
        notes.append("required")
    elif param.default not in (None, "", False, ()) and not callable(param.default):
        notes.append(f"default `{getattr(param.default, 'value', param.default)}`")
    if param.envvar:
        notes.append(f"`{param.envvar}`")
    return f"| {names} | {cell(param.help or '')} | {'; '.join(notes)} |"


def command_section(path: str, command: Any) -> Iterator[str]:
    """One command: usage, what it does, its options; the shared connection options are named once, at the top."""
    from sfmctl.link import SHARED

    own = [p for p in command.params if p.name not in {*SHARED, "help"} or path == "sfmctl"]
    arguments = [p for p in own if type(p).__name__ == "TyperArgument"]
    shared = {p.name for p in command.params} & {*SHARED}
    usage = " ".join([path, *(f"{p.metavar or p.name.upper()}" if p.required else f"[{p.metavar or p.name.upper()}]"
                              for p in arguments), "[OPTIONS]"])  # fmt: skip
    yield f"\n## {path}\n\n```\n{usage}\n```\n\n{(command.help or '').strip()}\n"
    rows = [option_row(p) for p in own if p.name not in {"install_completion", "show_completion"}]
    if rows:
        yield "\n| option | meaning | notes |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    if "address" in shared:
        yield "\nAlso the [connection options](#connection-options).\n"
    elif "output" in shared:
        yield "\nAlso `-o`, `--output`.\n"


def walk(path: str, command: Any) -> Iterator[str]:
    """A command and all below it, in the order of the help."""
    children = getattr(command, "commands", {})
    if not children or path == "sfmctl":
        yield from command_section(path, command)
    for name, child in children.items():
        yield from walk(f"{path} {name}", child)


def commands() -> str:
    """docs/reference/commands.md: every command and option of the Typer tree."""
    import typer

    from sfmctl.app import build

    tree: Any = typer.main.get_command(build())
    shared = [p for p in tree.commands["memory"].commands["recall"].params if p.name in _shared()]
    head = "# Commands\n\nResults go to stdout, progress and errors to stderr; see [exit codes](exit-codes.md).\n"
    options = "\n".join(option_row(p) for p in shared)
    return (
        MADE + head + "\n## Connection options\n\nEvery command that talks to the daemon has these; "
        "[profiles and environment](profiles.md) says how they combine.\n\n"
        f"| option | meaning | notes |\n|---|---|---|\n{options}\n" + "".join(walk("sfmctl", tree))
    )


def _shared() -> set[str]:
    from sfmctl.link import SHARED

    return set(SHARED)


def metrics() -> str:
    """docs/reference/metrics.md: every metric family that the daemon exposes."""
    from sfmd.observe import LABELLED, SHOWN, Metrics

    rows = [(family.name, family.type, family.documentation) for family in Metrics().registry.collect()]
    rows += [(s.name, s.kind.__name__.removesuffix("MetricFamily").lower(), s.help) for s in SHOWN]
    rows += [(name, "gauge", f"{text} Labels: {', '.join(labels)}.") for name, text, labels in LABELLED]
    rows += [("sfmd_writes", "counter", "Writes by outcome."),
             ("sfmd_build", "info", "Version of the daemon and fingerprint of its engine.")]  # fmt: skip
    table = "\n".join(f"| `{name}` | {kind} | {cell(text)} |" for name, kind, text in sorted(set(rows)))
    return (
        f"{MADE}# Metrics\n\nThe daemon serves these at `/metrics` of its auxiliary HTTP port (9595, loopback by "
        "default). Counters have the suffix `_total` on the wire; histograms `_bucket`, `_sum` and `_count`.\n\n"
        f"| metric | type | meaning |\n|---|---|---|\n{table}\n"
    )


def errors() -> str:
    """docs/reference/errors.md: every code of the daemon and the command line."""
    from sfmctl.codes import CATALOGUE as ours
    from sfmd.errors import CATALOGUE as theirs

    rows = [f"| [{c.code}](../troubleshooting.md#{c.code.lower()}) | {c.status.value} | {cell(c.title)} |"
            for c in theirs.values()]  # fmt: skip
    own = [f"| [{c.code}](../troubleshooting.md#{c.code.lower()}) | {int(c.exit)} | {cell(c.title)} |"
           for c in ours.values()]  # fmt: skip
    return (
        f"{MADE}# Error codes\n\nEvery error has a stable code; [troubleshooting](../troubleshooting.md) says what to "
        "do. `sfmctl explain CODE` says it offline.\n\n## The memory daemon\n\nThe code is in the trailing metadata "
        "`sfm-code`; sfmctl leaves with 7, or 5 and 6 where the daemon was not reached or not in time.\n\n"
        "| code | gRPC status | meaning |\n|---|---|---|\n" + "\n".join(rows)
        + "\n\n## The command line\n\n| code | exit code | meaning |\n|---|---|---|\n" + "\n".join(own) + "\n"
    )  # fmt: skip


def grpc() -> str:
    """docs/reference/grpc.md: the services and messages of proto/memory.proto with their comments."""
    source = (ROOT / "proto" / "memory.proto").read_text()
    methods, pending = [], []
    for line in source.splitlines():
        word = line.strip()
        if word.startswith("//"):
            pending.append(word.removeprefix("//").strip())
            continue
        found = re.match(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\)", word)
        if found:
            name, up, request, down, reply = found.groups()
            says = f"{'stream ' if up else ''}`{request}` → {'stream ' if down else ''}`{reply}`"
            methods.append(f"| `{name}` | {says} | {cell(' '.join(pending))} |")
        pending = []
    return (
        f"{MADE}# The gRPC contract\n\nPackage `soma.memory.v1`, port 50053, TLS always, a bearer token in "
        "`authorization`. `grpc.health.v1` stands beside it. Every refusal carries `sfm-code`, `sfm-next`, "
        "`x-request-id` and, when waiting helps, `retry-after-ms` in its trailing metadata.\n\n"
        "| call | messages | meaning |\n|---|---|---|\n" + "\n".join(methods)
        + f"\n\n## proto/memory.proto\n\n```protobuf\n{source.strip()}\n```\n"
    )  # fmt: skip


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "metrics.md": metrics,
    "errors.md": errors,
    "grpc.md": grpc,
}


def main() -> int:
    """Write the pages, or with --check say which are not up to date."""
    stale = []
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    print(f"{len(PAGES)} pages, {len(stale)} {'stale' if '--check' in sys.argv else 'rewritten'}: {' '.join(stale)}")
    return 3 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
