"""Puts rendered files into a folder. Rule it guards: what a person has changed there is not overwritten unasked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from playbook.trouble import Trouble


def write(folder: Path, files: Mapping[PurePosixPath, str], *, force: bool = False) -> list[tuple[str, str]]:
    """Write `files` below `folder`; (path, made|kept|replaced) each. Nothing is written when one would be lost."""
    try:
        has = {path: read(folder / path) for path in files}
        differing = [str(path) for path, text in files.items() if has[path] not in (None, text)]
        if differing and not force:
            raise Trouble("SFM-APP-012", f"{len(differing)} files in {folder} differ from what would be written",
                          why=", ".join(differing))  # fmt: skip
        done = []
        for path, text in files.items():
            if has[path] == text:
                done.append((str(path), "kept"))
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
            done.append((str(path), "made" if has[path] is None else "replaced"))
        return done
    except OSError as error:
        raise Trouble("SFM-CLI-029", f"{error.filename} cannot be written", why=str(error.strerror)) from error


def read(path: Path) -> str | None:
    """A file's text (None: it is not there)."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
