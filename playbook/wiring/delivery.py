"""The delivery workflow of an application, for GitHub Actions.

One file builds and pushes once and then calls the other for each environment, so the gate is the same everywhere
because it is the same text. Values reach a shell only through its environment, never by being pasted into a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import PurePosixPath

from playbook.wiring.application import Application
from playbook.wiring.skeleton import TEMPLATES, filled, words

FOLDER = PurePosixPath(".github/workflows")


def workflow(app: Application, environments: Sequence[str]) -> dict[PurePosixPath, str]:
    """Both files, by path below the repository's root; `environments` are delivered to one after the other."""
    names = {**words(app), "VERSION": version("soma-fractal-memory")}

    def made(source: str, **more: str) -> str:
        return filled((TEMPLATES / "github" / source).read_text(encoding="utf-8"), names | more)

    before = ["build", *(f"build, {env}" for env in environments)]
    jobs = [made("environment.yml", ENV=env, NEEDS=needs) for env, needs in zip(environments, before, strict=False)]
    return {
        FOLDER / f"{app.name}.yml": made("app.yml", ENVIRONMENTS="".join(jobs).rstrip()),
        FOLDER / f"{app.name}-deploy.yml": made("app-deploy.yml"),
    }
