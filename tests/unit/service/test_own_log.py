"""The log of an embedded daemon stays small while it runs, and nobody else's does what we say."""

import subprocess
import sys
from pathlib import Path

WRITER = """
import os, sys
from pathlib import Path
from sfmd.own_log import bound
done = 0
for number in range(100):
    os.write(1 + number % 2, b"line %03d\\n" % number)
    done += bound(Path(sys.argv[1]), 450)
raise SystemExit(done)
"""


def written(folder: Path, log: Path) -> int:
    """Write a hundred lines of nine bytes into `log`, asking for a bound after each; how often a new one was begun."""
    with log.open("ab") as out:
        return subprocess.run(
            [sys.executable, "-c", WRITER, str(folder)], stdout=out, stderr=out, check=False
        ).returncode


def test_a_new_log_is_begun_and_no_line_is_lost(tmp_path: Path) -> None:
    log, before = tmp_path / "sfmd.log", tmp_path / "sfmd.log.1"
    assert written(tmp_path, log) == 1
    assert before.read_text() + log.read_text() == "".join(f"line {n:03d}\n" for n in range(100))
    assert log.stat().st_mode & 0o777 == 0o600
    assert written(tmp_path, log) == 2
    assert len(before.read_text() + log.read_text()) <= 2 * (450 + 9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sfmd.log", "sfmd.log.1"]


def test_another_file_is_left_to_who_made_it(tmp_path: Path) -> None:
    other = tmp_path / "supervisor.log"
    (tmp_path / "sfmd.log").write_text("of an earlier run\n")
    assert written(tmp_path, other) == 0
    assert other.read_text().count("\n") == 100 and not (tmp_path / "sfmd.log.1").exists()
