"""Files rendered for an application: its names put into templates, nothing else. Pure; whoever calls it writes them.

A template's placeholders are @WORD@, so that Helm's and GitHub's own braces pass as they are; one that is unknown, or
left over, is an error, not a file with a hole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from playbook.wiring.application import Application

TEMPLATES = Path(__file__).parent / "templates"
PLACEHOLDER = re.compile(r"@([A-Z]+)@")


def words(app: Application) -> dict[str, str]:
    """What the placeholders stand for."""
    return {
        "APP": app.name,
        "NAMESPACE": app.namespace,
        "ACCOUNT": app.account,
        "SETTINGS": app.settings,
        "RUNTIME": app.runtime,
    }


def filled(text: str, names: Mapping[str, str]) -> str:
    """`text` with its placeholders replaced; KeyError for one that nothing stands for."""
    return PLACEHOLDER.sub(lambda found: names[found[1]], text)


def chart(app: Application) -> dict[PurePosixPath, str]:
    """The application's chart, by path below the folder that it is written to."""
    root = TEMPLATES / "chart"
    return {
        PurePosixPath(path.relative_to(root).as_posix()): filled(path.read_text(encoding="utf-8"), words(app))
        for path in sorted(root.rglob("*.yaml"))
    }
