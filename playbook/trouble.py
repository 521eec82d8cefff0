"""What the playbook raises when it cannot go on: a code of the book, what happened, why, and what to type next.

The exit code and the default mending command come from `book/codes.yaml`, so that a code means the same wherever it is
raised. A message never holds a secret value: `shell.py` takes them out of what programs print.
"""

from __future__ import annotations


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
