"""What the playbook raises when it cannot go on: a code of the book, what happened, why, and what to type next.

The exit code and the default mending command come from `book/codes.yaml`, so that a code means the same wherever it is
raised. A message never holds a secret value: `shell.py` takes them out of what programs print.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Trouble(Exception):
    """A stop that a person can act on; `code` is an entry of `book/codes.yaml`."""

    def __init__(self, code: str, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(f"{what} [{code}]")
        self.code = code
        self.what = what
        self.why = why
        self.next_step = next_step


class Unknown(Trouble):
    """A fact that could not be observed. Nothing is wrong for certain: it is just not known."""


@contextmanager
def writing(folder: Path, variable: str) -> Iterator[None]:
    """Writing into a folder of our own, which `variable` can move: the trouble of one that cannot be written."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, variable, error) from error


def unwritable(folder: Path, variable: str, error: OSError) -> Trouble:
    """The trouble of a folder of our own that cannot be written."""
    step = f"set {variable} to a folder that you may write to, with enough space"
    return Trouble("SFM-CLI-029", f"{folder} cannot be written", why=str(error), next_step=step)
