"""The delivery workflow of an application, for GitHub Actions.

One file builds and pushes once and then calls the other for each environment, so the gate is the same everywhere
because it is the same text. Values reach a shell only through its environment, never by being pasted into a script.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from playbook.wiring.application import Application
from playbook.wiring.skeleton import TEMPLATES, filled, words


def workflow(app: Application) -> dict[PurePosixPath, str]:
    """Both files, by path below the repository's root."""
    folder = PurePosixPath(".github/workflows")
    return {
        folder / name: filled((TEMPLATES / "github" / source).read_text(encoding="utf-8"), words(app))
        for name, source in ((f"{app.name}.yml", "app.yml"), (f"{app.name}-deploy.yml", "app-deploy.yml"))
    }
