"""Writes docs/reference/settings.md from the settings model, and docs/reference/sfmd.md from the command line's help.

`python docs/generate/settings.py` writes them; `--check` says whether they are as they should be, and leaves with 3
when not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from sfmd.config import describe
from sfmd.main import parser

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"

SETTINGS_HEAD = """# Settings of the daemon

Made from the settings model by `docs/generate/settings.py`; edit the texts in `sfmd/config.py`.

Who wins: what is given on the command line, then the environment, then the TOML file that `--config` or
`SOMA_CONFIG_FILE` names, then the default. In the file, the part before `__` is a table: `SOMA_GRPC__PORT` is
`port` in `[grpc]`, and a relative path counts from the file's own folder. There is no `.env` file. No setting holds a
secret: keys and tokens are files, and settings that end in `_FILE` name them. Durations are in seconds, sizes in
bytes. A value that does not fit ends the start with SFM-MEM-032 and its name; a `SOMA_…` variable that is no setting
is named in a warning.

| variable | value | default | meaning |
|---|---|---|---|
"""

COMMAND_HEAD = """# The sfmd command line

Made from `sfmd --help` by `docs/generate/settings.py`; edit the texts in `sfmd/main.py`.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 2 usage or configuration (also:
the data directory is locked, the schema is another one), 3 a check failed or stored bytes are damaged, 5 the store
cannot be reached or written, 7 refused for another reason (such as a horizon that the log has passed already), 70 a
bug of sfmd, 130 interrupted. Every error begins with its code; `sfmctl explain CODE` says more.
"""


def settings_page() -> str:
    """The whole page of settings."""
    rows = (f"| `{name}` | {kind} | {default} | {meaning} |" for name, kind, default, meaning in describe())
    return SETTINGS_HEAD + "\n".join(rows) + "\n"


def commands(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it, in order."""
    yield of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from commands(below)


def arguments(of: argparse.ArgumentParser) -> Iterator[str]:
    """One line per argument. Not argparse's own help, whose layout differs between versions of Python."""
    for action in of._actions:
        if isinstance(action, argparse._HelpAction | argparse._VersionAction | argparse._SubParsersAction):
            continue
        value = "" if action.nargs == 0 else action.metavar or "|".join(action.choices or ()) or action.dest.upper()
        name = ", ".join(action.option_strings) or value
        shown = f"{name} {value}" if action.option_strings and value else name
        yield f"| `{shown}` | {action.help or ''}{' (required)' if action.required else ''} |"


def command_page() -> str:
    """The whole page of the command line."""
    parts = []
    for one in commands(parser()):
        lines = list(arguments(one))
        if lines:
            head = f"\n## {one.prog}\n\n{one.description}\n\n| argument | meaning |\n|---|---|\n"
            parts.append(head + "\n".join(lines) + "\n")
    return COMMAND_HEAD + "".join(parts)


def main() -> int:
    """Write the pages, or with --check compare them."""
    pages = {REFERENCE / "settings.md": settings_page(), REFERENCE / "sfmd.md": command_page()}
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{path.name} is not what its source says: python docs/generate/settings.py")
        return 3 if stale else 0
    for path, text in pages.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
