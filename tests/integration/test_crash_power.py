"""What SIGKILL cannot show: a commit that is acknowledged has reached the disk, and a failing sync is never an OK.

A process that is killed leaves its writes to the kernel, so only the order of writes and syncs tells whether a power
cut would lose them. The trace of a real run is cut at many points; the same test must see loss where
`synchronous=NORMAL` leaves the syncs out, else it could not see any.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sfmd.errors import E
from sfmd.store.check import check
from sfmd.store.open import open_store
from sfmd.store.sqlite import FILE
from testing.crash.plan import Expected
from testing.crash.states import states
from testing.crash.store_driver import NAMESPACE
from testing.crash.trace import SYNCS, Disk, events, strace, traced
from testing.log_rows import make_namespace

FILES = (FILE, f"{FILE}-wal")
CUTS = 40


def _prepared(folder: Path) -> None:
    """A store with its schema and namespace, closed: what a trace starts from."""
    store = open_store(folder)
    make_namespace(store, NAMESPACE)
    store.close()


def _lost(folder: Path, expected: Expected) -> list[str]:
    """What a store left by a power cut lacks, and whatever else is wrong with it."""
    store = open_store(folder)
    ns_id = store.namespaces()[0].ns_id
    problems = expected.lost(states(store, ns_id))
    store.close()
    return problems + check(folder).problems


def _cuts(tmp_path: Path, synchronous: str) -> list[tuple[int, list[str]]]:
    """Acknowledgements heard and problems found, for each of many power cuts in one traced run."""
    _prepared(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "before")
    # A small WAL, so that the run writes it back several times.
    options = ("--writers", "4", "--acks", "120", "--wal-pages", "40", "--synchronous", synchronous)
    traced(tmp_path / "data", tmp_path / "log", *options)
    story = [e for e in events(tmp_path / "log") if e.kind == "said" or Path(e.path).name in FILES]
    acks = [i for i, e in enumerate(story) if e.kind == "said" and e.data.startswith(b"ack")]
    assert len(acks) >= 100
    rng = random.Random(5)
    points = {*rng.sample(acks, CUTS // 2), *rng.sample(range(acks[0], len(story)), CUTS // 2), acks[-1]}
    disk, expected, found = Disk(tmp_path / "before"), Expected(), []
    for index, event in enumerate(story):
        if event.kind == "said":
            expected.hear(event.data.decode())
        else:
            disk.see(event)
        if index in points:
            for kept, chance in (("synced only", None), ("some of the rest", random.Random(index))):
                folder = tmp_path / f"cut-{index}-{kept}"
                disk.cut(folder, FILES, chance)
                found.append((expected.acknowledged, [f"{kept}: {p}" for p in _lost(folder, expected)]))
                shutil.rmtree(folder)
    return found


@pytest.mark.slow
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    found = _cuts(tmp_path, "FULL")
    assert len(found) > CUTS
    assert [problems for _, problems in found if problems] == []
    assert max(acknowledged for acknowledged, _ in found) >= 100


@pytest.mark.slow
def test_the_test_sees_the_loss_that_synchronous_normal_allows(tmp_path: Path) -> None:
    """The control: without a sync per commit the same cuts lose acknowledged writes, and nothing but such writes."""
    found = _cuts(tmp_path, "NORMAL")
    lossy = [problems for _, problems in found if problems]
    assert len(lossy) > CUTS // 4
    assert all("; acknowledged: " in problem for problems in lossy for problem in problems)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "nth"), [("fsync", 1), ("fdatasync", 1), ("fdatasync", 3), ("fdatasync", 8), ("fdatasync", 21)]
)
def test_a_failed_sync_is_never_an_acknowledgement(tmp_path: Path, call: str, nth: int) -> None:
    """The store's own sync of the directory, the first commit's, and later ones of commits and of the database.

    The second fdatasync is left out: SQLite's own sync of the directory, after the store's.
    """
    _prepared(tmp_path / "data")
    failing = ["-e", f"trace={SYNCS}", "-e", f"inject={call}:error=EIO:when={nth}"]
    driver = [sys.executable, "-m", "testing.crash.store_driver", str(tmp_path / "data"), "--acks", "500"]
    run = subprocess.run(
        [strace(), "-f", "-o", str(tmp_path / "log"), *failing, *driver, "--wal-pages", "40"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "(INJECTED)" in (tmp_path / "log").read_text()
    expected = Expected()
    for line in run.stdout.splitlines():
        expected.hear(line)
    if f"unopened {E.STORE_DOWN.code}\n" in run.stdout:
        assert expected.acknowledged == 0
    else:
        assert set(expected.refused) == {E.STORE_DOWN.code}, run.stderr
    assert expected.acknowledged < 500
    assert _lost(tmp_path / "data", expected) == []
    assert expected.acknowledged_too_late == 0
