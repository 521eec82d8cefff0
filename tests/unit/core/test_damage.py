"""Damaged files, and kills at any moment: the index is right or says that it is empty; it is never wrong."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest

from sfmd.core import files
from sfmd.core.index import Index
from sfmd.core.model import Scoring
from testing.memories import DAY_S, NORMALISERS, NOW_S, got, make_world

SCORING = Scoring((7 * DAY_S,), (0.5,), normaliser=NORMALISERS["logistic"])
N, DIM = 700, 8


def population():
    return make_world(12, N, DIM, SCORING, distinct=80, noise=0.01)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A saved index of two segments (one holds ended rows), and the world that it holds."""
    world = population()
    folder = tmp_path_factory.mktemp("core") / "ns"
    index = Index(DIM, SCORING, folder)
    world.add(index, 0, N)
    world.end(index, list(range(0, N, 7)))
    index.save()
    world.end(index, [1, 2, 3])
    index.save()
    index.close()
    return folder, world


def every_file():
    """The names of a saved index's files, for parametrising: made once from a real one."""
    return [
        "manifest.json",
        "ended",
        "segment.json",
        "v",
        "seq",
        "t",
        "r",
        "class",
        "f",
        "blob",
        "offsets",
        "kind",
        "m0",
        "m1",
    ]


def pick(folder, what):
    """The files of that name: one for the manifest and the ended rows, one in each segment for all else."""
    found = {"manifest.json": [folder / "manifest.json"], "ended": list(folder.glob("ended-*.npy"))}.get(what)
    return found or sorted(folder.glob(f"seg-*/{what}")) or sorted(folder.glob(f"seg-*/{what}.npy"))


def damaged(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    elif how == "header flipped":
        data[int(rng.integers(min(len(data), 100)))] ^= int(rng.integers(1, 256))
    elif how == "truncated":
        del data[int(rng.integers(len(data))) :]
    elif how == "longer":
        data += b"\0"
    elif how == "zeroed":
        data[:] = bytes(len(data))
    path.unlink()
    if how != "deleted":
        path.write_bytes(bytes(data))


@pytest.mark.parametrize("what", every_file())
@pytest.mark.parametrize("how", ["flipped", "header flipped", "truncated", "longer", "zeroed", "deleted"])
def test_a_damaged_file_makes_an_empty_index_that_says_why(sound, tmp_path, what, how):
    folder, world = sound
    rng = np.random.default_rng(zlib.crc32(f"{what}{how}".encode()))
    for n in range(6 if "flipped" in how else 1):
        copy = tmp_path / str(n)
        shutil.copytree(folder, copy)
        paths = pick(copy, what)
        damaged(paths[n % len(paths)], how, rng)
        index = Index.open(copy, DIM, SCORING)
        assert (index.seq, index.stats().rows) == (0, 0)
        assert index.problem
        assert got(index, world.v[0], k=5, now_s=NOW_S) == []
        index.apply(N, world.rows(0, N))
        assert got(index, world.v[0], k=5, now_s=NOW_S, at=N) == world.want(world.v[0], k=5, now_s=NOW_S, at=N)
        index.close()


def test_the_copy_that_is_not_damaged_is_used(sound, tmp_path):
    """The control: without it, an `open` that always refuses would pass the test above."""
    folder, world = sound
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert len(pick(copy, "segment.json")) >= 2
    index = Index.open(copy, DIM, SCORING)
    assert (index.seq, index.problem) == (world.last_seq, "")
    for at in (None, N, N + 50):
        for n in (0, 1, 2, 49):
            assert got(index, world.v[n], k=30, now_s=NOW_S, at=at) == world.want(world.v[n], k=30, now_s=NOW_S, at=at)
    index.close()


@pytest.mark.parametrize("what", ["manifest.json", "segment.json"])
def test_another_format_version_is_refused(sound, tmp_path, what):
    copy = tmp_path / "copy"
    shutil.copytree(sound[0], copy)
    for path in pick(copy, what):
        body = json.loads(json.loads(path.read_text())["body"])
        path.write_text(files._sealed({**body, "format": body["format"] + 1}))
    index = Index.open(copy, DIM, SCORING)
    assert index.seq == 0
    assert index.problem


def test_another_dimension_is_refused(sound, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(sound[0], copy)
    index = Index.open(copy, DIM * 2, SCORING)
    assert (index.seq, index.stats().rows) == (0, 0)
    assert "dimension" in index.problem


def test_a_segment_of_the_same_name_from_another_life_is_refused(sound, tmp_path):
    """A manifest never adopts files that were written after it under a name that it knows."""
    folder, world = sound
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(folder, copy)
    index = Index(DIM, SCORING, other)
    rows = world.rows(0, N)
    rows.importance[0] += 1.0
    index.apply(N, rows)
    index.save()
    rows.importance[0] -= 1.0
    name = next(copy.glob("seg-*"))
    shutil.rmtree(name)
    shutil.copytree(next(other.glob("seg-*")), name)
    again = Index.open(copy, DIM, SCORING)
    assert again.seq == 0
    assert "manifest" in again.problem


def test_an_absent_folder_is_no_problem(tmp_path):
    index = Index.open(tmp_path / "nothing", DIM, SCORING)
    assert (index.seq, index.problem) == (0, "")


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from sfmd.core import merge
    from sfmd.core.index import Index
    from tests.unit.core.test_damage import DIM, N, SCORING, population
    merge.PERSIST_ROWS = 64
    merge.TAIL_ROWS = 32
    world = population()
    index = Index.open(Path(sys.argv[1]), DIM, SCORING)
    print("from", index.seq, index.problem, flush=True)
    while True:
        for low in range(0, N, 20):
            if low + 20 > index.seq:
                world.add(index, max(low, index.seq), low + 20)
            index.maintain()
        if index.seq < N + 50:
            world.last_seq = N
            for n in range(50):
                if N + n + 1 > index.seq:
                    index.apply(N + n + 1, None, [(n * 3 + 1, N + n + 1)])
                index.maintain(idle=True)
        index.save()
        print("round", flush=True)
        index = Index(DIM, SCORING, Path(sys.argv[1]))
""")


def test_killed_at_any_moment_the_files_are_right_or_unusable(tmp_path):
    """A real writer, SIGKILLed again and again while it flushes, merges and saves; each time its folder is opened and
    compared with the oracle at the seq that it claims to reach."""
    world = population()
    world.ended = {n * 3: N + n + 1 for n in range(50)}
    folder = tmp_path / "ns"
    rng = np.random.default_rng(5)
    usable = 0
    for n in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:  # fmt: skip
            said = [process.stdout.readline()]
            assert said[0].startswith(b"from"), said[0] + process.stdout.read()
            if n % 2:
                said.append(process.stdout.readline())
            try:
                process.wait(timeout=float(rng.random()) * 0.4)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, process.stdout.read()
        copy = tmp_path / f"copy{n}"
        if folder.exists():
            shutil.copytree(folder, copy)
        index = Index.open(copy, DIM, SCORING)
        world.last_seq = index.seq
        usable += index.seq > 0
        for row in (0, 5, 90):
            q = world.v[row]
            assert got(index, q, k=40, now_s=NOW_S) == world.want(q, k=40, now_s=NOW_S)
        index.close()
    assert usable >= 2
