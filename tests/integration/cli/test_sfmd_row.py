"""The daemon's row of the verification matrix, on a real daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from playbook.model import Status
from sfmctl import sfmd_row
from sfmd.rpc.client import CallFailed, Client
from testing.daemon import DaemonProcess


def test_a_marker_is_stored_recalled_and_deleted_and_nothing_is_left(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path).start()
    try:
        with Client(daemon.profile()) as client:
            for _ in range(2):  # the second time the scratch namespace is there already
                took = sfmd_row.round_trips_ms(client)
                assert len(took) == 3 * sfmd_row.ROUNDS
                assert all(ms > 0 for ms in took)
            assert client.stats(sfmd_row.SCRATCH).namespaces[0].live == 0
            assert sfmd_row.judge(client.health(), took)[0] in (Status.PASS, Status.WARN)
            with pytest.raises(CallFailed, match="not recalled"):
                sfmd_row.recalled([], "marker")
    finally:
        daemon.stop()


def test_the_verdict_follows_health_and_the_95th_percentile() -> None:
    quick = [1.0] * 19
    assert sfmd_row.judge("SERVING", [*quick, 900.0])[0] is Status.PASS
    slow = sfmd_row.judge("SERVING", [1.0] * 18 + [900.0, 900.0])
    assert (slow[0], slow[2:]) == (Status.WARN, ("SFM-SFMD-003",))
    away = sfmd_row.judge("NOT_SERVING", [])
    assert (away[0], away[2:]) == (Status.FAIL, ("SFM-SFMD-001",))
