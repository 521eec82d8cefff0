"""Rewrites the infrastructure's part of docs/troubleshooting.md from playbook/book/codes.yaml.

Everything above the marker is written by hand. `--check` says whether the rest is as it should be and leaves with 3
when not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "troubleshooting.md"
MARKER = "<!-- From here on made by docs/generate/troubleshooting.py from playbook/book/codes.yaml; do not edit. -->"


def section(code: str, entry: dict[str, object]) -> str:
    """One code's section."""
    title = str(entry["title"])
    elsewhere = (
        f"\n\n**On a cluster that is not kind's** {str(entry['elsewhere']).strip()}" if "elsewhere" in entry else ""
    )
    return (
        f"## {code} — {title}\n\n**What** {title[0].upper()}{title[1:]}. Exit code {entry['exit']}.\n\n"
        f"**Why** {str(entry['why']).strip()}\n\n**Mend** {str(entry['mend']).strip()}{elsewhere}\n"
    )


def document() -> str:
    """The whole page: the part by hand as it is, then the sections made."""
    by_hand = TARGET.read_text().split(MARKER)[0].rstrip()
    book = yaml.safe_load((ROOT / "playbook" / "book" / "codes.yaml").read_text())
    made = "\n".join(section(code, entry) for code, entry in sorted(book.items()))
    return f"{by_hand}\n\n{MARKER}\n\n# The infrastructure\n\n{made}"


def main() -> int:
    """Write the page, or with --check compare it."""
    made = document()
    if "--check" in sys.argv[1:]:
        same = TARGET.read_text() == made
        print("docs/troubleshooting.md is", "up to date" if same else "stale: make docs")
        return 0 if same else 3
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
