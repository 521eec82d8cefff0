"""What Vault must have before an application can be wired: Kubernetes auth that knows its reviewer, and KV version 2.

A dev server forgets both with its pod, so a later deploy makes them again; a Vault on raft gets them once, from whoever
holds a token. Whether auth is on can be asked without any token: the login path is the only one that answers then.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from playbook.actions import vault
from playbook.actions.asking import absent
from playbook.check import Probe, Verdicts
from playbook.kube import Reader
from playbook.model import Status
from playbook.target import Target
from playbook.trouble import Unknown
from playbook.wiring import vault as administered
from playbook.wiring.reach import Reach

if TYPE_CHECKING:
    from playbook.engine import Hands
    from playbook.facts import Observer

OFF = "Kubernetes auth is off"
NO_SUCH_OPERATION = 405
"""What an auth method says to a GET of its login path; without the method Vault refuses the path itself."""
NOT_OURS_TO_SEE = frozenset({"SFM-VLT-010", "SFM-VLT-011"})


def runs_vault(reader: Reader, target: Target) -> bool:
    """Whether the release runs a Vault of its own."""
    path = f"/apis/apps/v1/namespaces/{target.namespace}/statefulsets/{target.release}-vault"
    return reader.get(path) is not None


def answers_logins(reader: Reader, target: Target) -> bool:
    """Whether the active node has Kubernetes auth; Unknown while no node is open."""
    for pod in vault.pods(reader, target):
        with vault.client(reader, target, pod) as client:
            seal = vault.asked("seal status", client.sys.read_seal_status)
            if seal["sealed"] or not seal["initialized"]:
                continue
            leader = vault.asked("leader", client.sys.read_leader_status)
            if leader.get("ha_enabled") and not leader.get("is_self"):
                continue
            ask = partial(client.adapter.get, f"/v1/auth/{administered.AUTH}/login", raise_exception=False)
            said = vault.asked("Kubernetes auth", ask)
            return bool(said.status_code == NO_SUCH_OPERATION)
    raise Unknown("SFM-VLT-001", "no node of Vault is unsealed and active")


def wanting(reader: Reader, target: Target) -> list[str]:
    """What Vault lacks. With no token, or one that may not look, only whether Kubernetes auth is on is known."""
    if not runs_vault(reader, target):
        return []
    if not answers_logins(reader, target):
        return [OFF]
    reach = Reach(target, reader)
    try:
        with administered.opened(reach, reach.endpoints()) as client:
            return administered.mounts_wanting(client)
    except Unknown as unknown:
        if unknown.code in NOT_OURS_TO_SEE:
            return []
        raise


def facts(seen: Observer) -> dict[str, Any]:
    """What Vault lacks before applications can be wired."""
    return {"vault.wanting": wanting(seen.reader, seen.target)}


def enable(hands: Hands, params: Mapping[str, Any]) -> str:
    """Enable and configure Kubernetes auth and KV version 2 where they are off; needs an administrator's token."""
    reach = Reach(hands.target, hands.api)
    with administered.opened(reach, reach.endpoints(), writing=True) as client:
        administered.make_mounts(client)
    return "Kubernetes auth is on, KV version 2 is at secret/"


def probe(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether Kubernetes auth is on."""
    target, reader = probe.target, probe.seen.reader
    if not runs_vault(reader, target):
        return absent("Vault")
    lacking = wanting(reader, target)
    if lacking:
        return Status.FAIL, "; ".join(lacking)
    return Status.PASS, "on, and it answers logins"
