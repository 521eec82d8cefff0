"""Writes docs/reference/errors.md from the catalogues: every code of the daemon and of the command line.

`python docs/generate/errors.py` writes it; `--check` says whether it is as it should be and leaves with 3 when not.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sfmctl.codes import CATALOGUE as OURS
from sfmctl.codes import Code
from sfmd.errors import CATALOGUE as THEIRS

TARGET = Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"
HEAD = """<!-- Made by docs/generate/errors.py from the catalogues; do not edit. -->

# Error codes

Every error has a stable code; [troubleshooting](../troubleshooting.md) says what to do, and `sfmctl explain CODE` says
it offline. With `-o json` the one document is `{"schemaVersion": 1, "kind": "Error", "error": {"code": …}}`.
"""


def anchor(heading: str) -> str:
    """The fragment that a Markdown heading gets: lower case, spaces as dashes, other signs dropped."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def row(code: str, middle: str, title: str) -> str:
    """One code as a table row, linked to its section."""
    link = f"../troubleshooting.md#{anchor(f'{code} — {title}')}"
    return f"| [{code}]({link}) | {middle} | {title} |"


def exits(code: Code) -> str:
    """The exit code, or both where the time may be over too."""
    return f"{int(code.exit)}, {int(code.late)} when the time is over" if code.late else str(int(code.exit))


def document() -> str:
    """The whole page."""
    daemon = "\n".join(row(c.code, c.status.value, c.title) for c in THEIRS.values())
    own = "\n".join(row(c.code, exits(c), c.title) for c in OURS.values())
    return (
        f"{HEAD}\n## The memory daemon\n\nThe code is in the trailing metadata `sfm-code`. `sfmctl` leaves with 7, "
        "with 5 where the daemon was not reached and with 6 where the deadline passed.\n\n"
        f"| code | gRPC status | meaning |\n|---|---|---|\n{daemon}\n\n"
        f"## The command line\n\n| code | exit code | meaning |\n|---|---|---|\n{own}\n"
    )


def main() -> int:
    """Write the page, or with --check compare it."""
    made = document()
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text() == made
        print("docs/reference/errors.md is", "up to date" if same else "stale: make docs")
        return 0 if same else 3
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
