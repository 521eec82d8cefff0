"""A disk of its own size for a test, so that it can really be full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A mounted disk in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, mib: int) -> None:
        """Make it larger or smaller; what is on it stays."""
        subprocess.run(["mount", "-o", f"remount,size={mib}m", str(self.folder)], check=True, timeout=30)


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Disk]:
    """A disk of so many MiB at the new directory `folder`. Skips the test where nobody may mount one."""
    folder.mkdir(mode=0o700)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"NOT PROVED HERE: what a full disk does needs leave to mount one (root): {made.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)
