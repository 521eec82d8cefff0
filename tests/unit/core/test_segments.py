"""Segments: whatever is flushed, merged, saved, mapped again or dropped, the answers stay those of the oracle."""

import itertools
import math
import threading

import numpy as np
import pytest

from sfmd.core.index import Index
from sfmd.core.model import NEVER, Cancelled, MetaCondition, Rows, Scoring, Where
from testing.memories import DAY_S, NORMALISERS, NOW_S, World, got, make_world

SCORING = Scoring((7 * DAY_S, math.inf), (0.5,), normaliser=NORMALISERS["logistic"])


def settle(index: Index) -> None:
    while index.maintain(idle=True):
        pass


def same(index: Index, world: World, *, questions=4, **ask) -> None:
    for n in range(questions):
        q = world.v[(n * 37) % len(world)]
        assert got(index, q, k=20, now_s=NOW_S, **ask) == world.want(q, k=20, now_s=NOW_S, **ask)


@pytest.fixture
def world() -> World:
    return make_world(3, 5000, 24, SCORING, distinct=900, noise=0.02)


def test_saved_and_opened_it_answers_the_same_at_the_same_seq(tmp_path, world):
    index = Index(24, SCORING, tmp_path / "ns")
    world.add(index, 0, 4500)
    settle(index)
    world.add(index, 4500, 5000)
    world.end(index, list(range(0, 5000, 9)))
    same(index, world)
    index.save()
    index.close()
    again = Index.open(tmp_path / "ns", 24, SCORING)
    assert (again.seq, again.problem, again.stats().tail_rows) == (world.last_seq, "", 0)
    same(again, world)
    same(again, world, at=world.last_seq - 100)
    assert again.check([(n + 1, world.ended.get(n, NEVER)) for n in range(5000)]) == []
    world.end(again, [1, 4999])
    settle(again)
    same(again, world)
    again.close()


def test_after_a_restart_only_what_was_not_on_disk_is_replayed(tmp_path):
    """Without `save`: the manifest reaches as far as files do, and applying the rest of the log gives everything."""
    world = make_world(8, 40_000, 8, Scoring((7 * DAY_S,)), distinct=5000)
    index = Index(8, world.scoring, tmp_path / "ns")
    for low, high in itertools.pairwise([*range(0, 38_000, 1900), 38_000]):
        world.add(index, low, high)
        index.maintain()
        if low == 5700:
            low_seq = index.seq
    settle(index)
    index.close()
    again = Index.open(tmp_path / "ns", 8, world.scoring)
    assert again.problem == ""
    assert low_seq < again.seq <= 38_000
    world.add(again, again.seq, 40_000)
    assert again.stats().rows == 40_000
    same(again, world, questions=2)
    again.close()


def test_rows_that_ended_early_do_not_hold_the_manifest_back(tmp_path):
    world = make_world(8, 30_000, 8, Scoring((7 * DAY_S,)), distinct=5000)
    index = Index(8, world.scoring, tmp_path / "ns")
    world.add(index, 0, 1500)
    world.end(index, [3, 700])
    index.maintain()
    offset = 2
    for low in range(1500, 30_000, 1500):
        rows = world.rows(low, low + 1500)
        index.apply(low + 1500 + offset, Rows(**{**fields(rows), "seq": rows.seq + offset}))
        while index.maintain():
            pass
    index.close()
    again = Index.open(tmp_path / "ns", 8, world.scoring)
    assert again.seq >= 15_000
    have = again.check([])
    assert not any("row 4," in line for line in again.check([(4, 1501), (701, 1502)]))
    assert len(have) == again.stats().rows >= 15_000
    again.close()


def fields(rows: Rows) -> dict:
    return {name: getattr(rows, name) for name in Rows.__dataclass_fields__}


def test_growth_is_geometric(world):
    """A row is copied about log2 N times, and the number of segments stays logarithmic."""
    index = Index(24, SCORING)
    most, merged = 0, 0
    for low in range(0, 5000, 50):
        world.add(index, low, low + 50)
        while index.maintain():
            merged += 1
        most = max(most, index.stats().segments)
        assert index.stats().tail_rows < 1100
    assert most <= 4
    assert merged <= 12
    settle(index)
    assert index.stats().segments <= 2
    assert (index.stats().rows, index.stats().live) == (5000, 5000)
    same(index, world)


def test_many_ended_rows_leave_the_live_segment(world):
    index = Index(24, SCORING)
    world.add(index, 0, 5000)
    settle(index)
    world.end(index, list(range(2000)))
    settle(index)
    same(index, world)
    same(index, world, at=5000)
    found = index.search(world.v[0], k=5, now_s=NOW_S)
    assert found.rows_total == 3000
    assert found.rows_scored <= 3000


def test_compact_drops_what_ended_before_the_horizon_and_nothing_else(tmp_path, world):
    index = Index(24, SCORING, tmp_path / "ns")
    world.add(index, 0, 4500)
    settle(index)
    index.save()
    world.add(index, 4500, 5000)
    world.end(index, list(range(0, 1000, 2)))
    horizon = world.last_seq - 100
    assert index.compact(horizon) == 400
    assert index.compact(horizon) == 0
    assert index.stats().rows == 4600
    same(index, world)
    same(index, world, at=horizon)
    index.save()
    index.close()
    again = Index.open(tmp_path / "ns", 24, SCORING)
    same(again, world, at=horizon)
    again.close()


def test_after_compacting_a_restart_replays_no_end_of_a_row_that_is_gone(tmp_path, world):
    index = Index(24, SCORING, tmp_path / "ns")
    world.add(index, 0, 500)
    world.end(index, [1, 2, 3])
    assert index.compact(world.last_seq) == 3
    index.close()
    again = Index.open(tmp_path / "ns", 24, SCORING)
    assert (again.seq, again.stats().rows) == (world.last_seq, 497)
    again.close()


SECRET = "the-quick-secret"


@pytest.mark.parametrize("where", ["tail", "memory", "disk"])
def test_erased_rows_leave_memory_and_files(tmp_path, world, where):
    folder = tmp_path / "ns"
    world.metadata[77] = {"n": 7, "word": SECRET, SECRET: 1}
    world.kinds[77] = SECRET
    world.ids[77] = SECRET.encode()
    index = Index(24, SCORING, folder)
    n = 600 if where == "tail" else 5000
    world.add(index, 0, n)
    if where != "tail":
        settle(index)
    if where == "disk":
        index.save()
        assert traces(folder, world.v[77])
    world.end(index, [77])
    index.erase([78])
    index.save()
    assert not traces(folder, world.v[77])
    assert index.stats().rows == n - 1
    for seq in (n, world.last_seq):
        hits = index.search(world.v[77], k=1000, now_s=NOW_S, seq=seq).hits
        assert hits and 78 not in {h.seq for h in hits}
    marked = Where(metadata=(MetaCondition(SECRET, "EXISTS"),))
    assert index.search(world.v[77], k=5, now_s=NOW_S, where=marked).hits == ()
    index.close()
    again = Index.open(folder, 24, SCORING)
    assert again.stats().rows == n - 1
    again.close()


def traces(folder, vector) -> list[str]:
    """Files that hold the secret word or the vector's bytes."""
    needles = (SECRET.encode(), vector.tobytes())
    return [
        str(path) for path in folder.rglob("*") if path.is_file() and any(n in path.read_bytes() for n in needles)
    ]  # fmt: skip


def test_an_apply_that_is_refused_changes_nothing(world):
    index = Index(24, SCORING)
    world.add(index, 0, 100)
    bad = [
        {"seq": 99}, {"seq": 200, "ended": [(5, 200), (150, 200)]}, {"seq": 120, "rows": world.rows(100, 150)},
        {"seq": 200, "rows": world.rows(50, 150)}, {"seq": 200, "rows": world.rows(100, 150), "ended": [(5000, 200)]},
    ]  # fmt: skip
    for arguments in bad:
        with pytest.raises(ValueError, match=r"seq|row"):
            index.apply(**arguments)
    assert (index.seq, index.stats().rows, index.stats().live) == (100, 100, 100)
    world.end(index, [5])
    index.apply(world.last_seq, None, [(6, world.ended[5])])
    assert index.stats().live == 99
    with pytest.raises(ValueError, match="no live row"):
        index.apply(300, None, [(6, 300)])
    same(index, World(**{**world.__dict__, **cut(world, 100)}))


def cut(world: World, n: int) -> dict:
    names = ("v", "r", "t_s", "half_life", "features", "ids", "kinds", "metadata")
    return {name: getattr(world, name)[:n] for name in names}


def test_a_row_that_begins_and_ends_in_one_apply_is_seen_only_between(world):
    index = Index(24, SCORING)
    index.apply(12, world.rows(0, 10), [(3, 12)])
    world.ended, world.last_seq = {2: 12}, 12
    small = World(**{**world.__dict__, **cut(world, 10)})
    for at in (12, 11, 3, 2):
        assert got(index, world.v[2], k=10, now_s=NOW_S, at=at) == small.want(world.v[2], k=10, now_s=NOW_S, at=at)


def test_check_says_what_differs(world):
    index = Index(24, SCORING)
    world.add(index, 0, 3)
    world.end(index, [0])
    assert index.check([(1, 4), (2, NEVER), (3, NEVER)]) == []
    assert len(index.check([(1, 5), (3, NEVER), (9, NEVER)])) == 3
    assert index.check([(1, 4), (2, NEVER), (3, NEVER), (8, 9)]) == []


def test_a_cancelled_scan_stops_between_blocks(world):
    index = Index(24, SCORING)
    world.add(index, 0, 5000)
    settle(index)
    calls = itertools.count()
    with pytest.raises(Cancelled):
        index.search(world.v[0], k=1000, now_s=NOW_S, cancelled=lambda: next(calls) >= 1)
    assert next(calls) == 2


def test_readers_beside_a_writer_and_upkeep_always_see_one_state():
    """Every answer equals the oracle's at the seq that the answer names."""
    world = make_world(6, 3000, 8, SCORING, distinct=50, noise=0.0)
    index = Index(8, SCORING)
    done = threading.Event()
    seen: list[tuple[int, int, list]] = []
    failures: list[BaseException] = []

    def guarded(work):
        def run():
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - shown by the assertion below
                failures.append(error)
                done.set()

        return threading.Thread(target=run)

    def read():
        for n in itertools.count():
            found = index.search(world.v[n % 200], k=15, now_s=NOW_S)
            if n % 4 == 0:
                seen.append((n % 200, found.seq, [(h.seq, h.log2_score) for h in found.hits]))
            if done.is_set():
                return

    def upkeep():
        while not done.is_set():
            if not index.maintain(idle=True):
                done.wait(0.001)

    threads = [guarded(read), guarded(read), guarded(upkeep)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(0)
    at, seq, made_by = 0, 0, {}
    ended: dict[int, int] = {}
    while at < 3000 and not done.is_set():
        step = int(rng.integers(1, 60))
        rows = world.rows(at, min(3000, at + step))
        count = len(rows)
        numbers = np.arange(seq + 1, seq + 1 + count)
        made_by.update({at + n: seq + 1 + n for n in range(count)})
        seq += count + 1
        live = [m for m in made_by if m not in ended and m < at]
        going = [live[int(rng.integers(len(live)))]] if live else []
        ended.update(dict.fromkeys(going, seq))
        index.apply(seq, Rows(**{**fields(rows), "seq": numbers}), [(made_by[m], seq) for m in going])
        at += count
        known = len(seen)
        while at % 4 == 0 and len(seen) == known and not done.is_set():
            done.wait(0.001)  # let the readers keep up, so that answers of many states are compared
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({s for _, s, _ in seen}) > 8
    rng.shuffle(seen)
    for n, s, hits in seen[:150]:
        visible = [m for m in made_by if made_by[m] <= s < ended.get(m, NEVER)]
        part = World(8, SCORING, world.v[visible], world.r[visible], world.t_s[visible], world.half_life[visible],
                     world.features[visible], [world.ids[m] for m in visible], ["a"] * len(visible),
                     [{}] * len(visible), {}, NEVER - 1)  # fmt: skip
        expected = [(made_by[visible[row - 1]], level) for row, level in part.want(world.v[n], k=15, now_s=NOW_S)]
        assert hits == expected
