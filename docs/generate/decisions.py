"""Writes docs/decisions/README.md from the records beside it: number and title of each.

`python docs/generate/decisions.py` writes it; `--check` says whether it is as it should be and leaves with 3 when not.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
TARGET = FOLDER / "README.md"
HEAD = """<!-- Made by docs/generate/decisions.py from the records; do not edit. -->

# Decisions

One short record for each choice that was hard to make: context, choice, what was rejected.
[Why each dependency](dependencies.md) has a line for every package.

| number | decision |
|---|---|
"""


def row(record: Path) -> str:
    """A record's number and its title, the first heading without a number."""
    heading = next((line for line in record.read_text().splitlines() if line.startswith("# ")), "# " + record.stem)
    title = re.sub(r"^\d+\W*", "", heading.removeprefix("# ").strip())
    return f"| {record.name[:3]} | [{title}]({record.name}) |"


def document() -> str:
    """The whole page."""
    return HEAD + "\n".join(row(p) for p in sorted(FOLDER.glob("[0-9]*.md"))) + "\n"


def main() -> int:
    """Write the page, or with --check compare it."""
    made = document()
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text() == made
        print("docs/decisions/README.md is", "up to date" if same else "stale: make docs")
        return 0 if same else 3
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
