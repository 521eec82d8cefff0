"""A disk that is really full: nothing acknowledged is lost, nothing dies of it, and room puts everything right."""

import math

import pytest
import structlog

from sfmd.core.index import Index
from sfmd.core.model import Scoring
from sfmd.errors import E, Refused
from sfmd.store import sqlite
from sfmd.store.check import check
from sfmd.store.open import open_store
from testing.disk import small_disk
from testing.log_rows import make_namespace, store_one
from testing.memories import DAY_S, NOW_S, got, make_world


def test_a_wal_that_cannot_be_written_back_waits_for_room(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "WAL_PAGES", 8)
    with small_disk(tmp_path / "data", mib=4) as disk:
        store = open_store(disk.folder)
        ns = make_namespace(store)
        acknowledged = []
        with structlog.testing.capture_logs() as logs:
            for number in range(200):
                try:
                    store_one(store, ns.ns_id, f"m{number}", b"p" * 50_000)
                except Refused as refusal:
                    assert refusal.code is E.STORE_DOWN
                    assert refusal.message.endswith("is full")
                    break
                acknowledged.append(f"m{number}")
        assert 10 < len(acknowledged) < 200
        assert "wal_not_written_back" in {line["event"] for line in logs}
        assert store.problem == ""
        disk.resize(mib=16)
        for number in range(20):
            store_one(store, ns.ns_id, f"n{number}", b"p" * 50_000)
        store.close()
        assert check(disk.folder).problems == []
        store = open_store(disk.folder)
        kept = [row.id for row in store.list_rows(ns.ns_id, "", 1000)]
        assert kept == sorted([*acknowledged, *(f"n{number}" for number in range(20))])
        store.close()


def test_a_segment_that_finds_no_room_is_refused_and_answers_go_on(tmp_path):
    world = make_world(3, 20_000, 64, Scoring((7 * DAY_S, math.inf)))
    with small_disk(tmp_path / "segments", mib=2) as disk:
        index = Index(64, world.scoring, disk.folder / "ns")
        world.add(index, 0, 20_000)
        question = world.v[7]
        before = got(index, question, k=20, now_s=NOW_S)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                index.save()
            assert list((disk.folder / "ns").iterdir()) == [], "what was begun takes no room"
        assert got(index, question, k=20, now_s=NOW_S) == before
        disk.resize(mib=32)
        index.save()
        index.close()
        again = Index.open(disk.folder / "ns", 64, world.scoring)
        assert (again.seq, again.problem) == (world.last_seq, "")
        assert got(again, question, k=20, now_s=NOW_S) == before
        again.close()
