"""The daemon's reach, as one more check that the command line hands to the playbook: the two do not know each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from playbook.model import CheckSpec, Status
from sfmctl import connection
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from playbook.check import Probe, Verdicts

SPEC = CheckSpec(
    id="daemon.reach", category="daemon", title="Memory daemon", probe="daemon", params={},
    command="sfmctl daemon status", criterion="SERVING, when one is to run", needs=(), hint="SFM-MEM-034",
    timeout_s=5.0, attempts=1, only_when=(),
)  # fmt: skip


def probe(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Ask the daemon's health service. A daemon that does not run is a warning: not every machine has one."""
    try:
        from sfmd.rpc.client import CallFailed, Client

        found = connection.resolve({}, os.environ)
    except ImportError as missing:
        return Status.WARN, f"the client is not installed ({missing.name})", "SFM-CLI-005"
    except Fault as fault:
        return Status.FAIL, fault.what, fault.code, fault.next_step
    address = found.profile.address
    try:
        with Client(found.profile).within(3.0) as client:
            state = client.health()
    except CallFailed as failed:
        return Status.WARN, f"{address}: {failed}", failed.code, failed.next_step
    return (Status.PASS if state == "SERVING" else Status.WARN), f"{address} is {state}"
