"""A daemon whose disk fails a sync: no caller is told OK from then on, reading goes on, and a restart has it all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfmd.errors import E
from sfmd.rpc.client import CallFailed
from testing.crash.callers import DIM, NAMESPACE, Callers, connect, state_over, store
from testing.crash.plan import Expected, Kind, Operation
from testing.crash.trace import SYNCS, strace
from testing.daemon import DaemonProcess


@pytest.mark.slow
def test_after_a_failed_sync_nobody_is_told_ok(tmp_path: Path) -> None:
    failing = (strace(), "-f", "--seccomp-bpf", "-o", str(tmp_path / "syncs"), "-e", f"trace={SYNCS}",
               "-e", "inject=fdatasync:error=EIO:when=12")  # fmt: skip
    broken, expected = DaemonProcess(tmp_path, wrap=failing).start(), Expected()
    try:
        with connect(broken.profile()) as client:
            client.create_namespace(NAMESPACE, dim=DIM)
            callers = Callers(client, expected, "sync", 4)
            callers.join_when_refused()
            assert callers.unexpected == []
            assert set(callers.refusals) == {E.STORE_DOWN.code}
            for number in range(5):
                late = Operation("late", number, Kind.STORE, f"late-{number}", b"late %d" % number)
                with pytest.raises(CallFailed) as failed:
                    store(client, late, 0)
                assert failed.value.code == E.STORE_DOWN.code
            living = [id_ for id_, state in expected.states.items() if state.startswith("live")]
            assert [state_over(client, id_) for id_ in living] == [expected.states[id_] for id_ in living]
    finally:
        broken.kill()
    assert "(INJECTED)" in (tmp_path / "syncs").read_text()
    assert expected.acknowledged > 0
    mended = DaemonProcess(tmp_path).start()
    try:
        with connect(mended.profile()) as client:
            found = {id_: state_over(client, id_) for id_ in expected.ids()}
            assert expected.lost(found) == []
            assert state_over(client, "late-0") == "absent"
            store(client, Operation("after", 1, Kind.STORE, "after", b"after"), 0)
    finally:
        assert mended.stop() == 0
