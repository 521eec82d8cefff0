"""A release that was cut off half-way: what would free it, which mode it has, and whose change it is.

A real program stands where helm would run; it keeps its revisions in a file. A real HTTP server has the objects.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playbook.actions import helm
from playbook.actions import waiting as action
from playbook.engine import Hands
from playbook.facts import Observer
from playbook.load import packaged
from playbook.model import Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target, find_infra
from playbook.trouble import Trouble
from testing.api import Api, serving

HELM = """#!{python}
import json, sys
from pathlib import Path
kept = Path({kept!r})
revisions, verb = json.loads(kept.read_text()), sys.argv[1]
if verb == "status":
    if not revisions:
        sys.exit("Error: release: not found")
    print(json.dumps({{"info": {{"status": revisions[-1]["status"]}}, "version": revisions[-1]["revision"],
                      "manifest": revisions[-1]["manifest"]}}))
elif verb == "history":
    print(json.dumps(revisions))
elif verb == "get":
    print(next(r["manifest"] for r in revisions if str(r["revision"]) == sys.argv[5]))
elif verb == "upgrade":
    tries = kept.with_suffix(".tries")
    tries.touch()
    number = len(tries.read_text())
    tries.write_text("x" * (number + 1))
    at = (revisions[-1]["revision"] if revisions else 0) + int(kept.with_suffix(".step").read_text())
    state = "pending-upgrade" if number == 0 else "deployed"
    kept.write_text(json.dumps([*revisions, {{"revision": at, "status": state, "manifest": ""}}]))
    if number == 0:
        sys.exit("Error: etcdserver: request timed out")
elif verb == "uninstall":
    kept.write_text("[]")
elif verb == "rollback":
    at = revisions[-1]["revision"] + 1
    kept.write_text(json.dumps([*revisions, {{"revision": at, "status": "deployed", "manifest": ""}}]))
"""
UPGRADE = ["helm", "upgrade", "sharedinfra"]


def endpoints(mode: str) -> str:
    return json.dumps({"kind": "ConfigMap", "metadata": {"name": "sharedinfra-endpoints"}, "apiVersion": "v1",
                       "data": {"SOMA_INFRA_MODE": mode}})  # fmt: skip


def revision(number: int, status: str, manifest: str = "") -> dict[str, Any]:
    return {"revision": number, "status": status, "manifest": manifest}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path / "kubeconfig", "kind-soma") as server:
        server.put("/api/v1/namespaces", {"metadata": {"name": "soma-infra"}, "status": {"phase": "Active"}})
        yield server


@pytest.fixture
def hands(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    monkeypatch.setattr(action, "POLL_S", 0.1)
    monkeypatch.setattr(helm, "RETRY_S", 0.1)
    (tmp_path / "helm").write_text(HELM.format(python=sys.executable, kept=str(tmp_path / "revisions.json")))
    (tmp_path / "helm").chmod(0o755)
    (tmp_path / "revisions.step").write_text("1")
    monkeypatch.setenv("PATH", str(tmp_path))
    aim = Target(kubeconfig=tmp_path / "kubeconfig", state=tmp_path, infra=find_infra(None))
    made = Hands(aim, packaged(), Observer(aim, packaged()), Shell(), time.monotonic() + 60, lambda text: None)
    yield made
    made.forget()


def keep(folder: Path, *revisions: dict[str, Any]) -> None:
    (folder / "revisions.json").write_text(json.dumps(revisions))


def states(folder: Path) -> list[tuple[int, str]]:
    return [(one["revision"], one["status"]) for one in json.loads((folder / "revisions.json").read_text())]


@pytest.mark.parametrize(
    ("revisions", "stuck", "mode"),
    [
        ([revision(1, "deployed", endpoints("staging"))], "no", "staging"),
        ([revision(1, "deployed", endpoints("dev")), revision(2, "pending-upgrade", endpoints("prod"))], "rollback",
         "dev"),
        ([revision(1, "pending-install", endpoints("prod"))], "uninstall", ""),
        ([revision(1, "superseded", endpoints("dev")), revision(2, "uninstalling", endpoints("dev"))], "uninstall", ""),
    ],
)  # fmt: skip
def test_what_frees_a_release_and_its_mode_are_facts(
    hands: Hands, tmp_path: Path, revisions: list[dict[str, Any]], stuck: str, mode: str
) -> None:
    keep(tmp_path, *revisions)
    found = helm.release_facts(hands.seen)
    assert (found["release.stuck"], found["release.mode"]) == (stuck, mode)


def test_a_release_is_freed_by_going_back_to_the_last_revision_that_was_deployed(hands: Hands, tmp_path: Path) -> None:
    keep(tmp_path, revision(1, "superseded"), revision(2, "deployed"), revision(3, "pending-upgrade"))
    assert helm.free(hands, {}) == "rolled back to revision 2"
    assert states(tmp_path)[-1] == (4, "deployed")


def test_a_release_that_was_cut_off_while_it_was_removed_is_removed(hands: Hands, tmp_path: Path) -> None:
    keep(tmp_path, revision(1, "uninstalling"))
    helm.clear(hands, {})
    assert helm.release_facts(hands.seen)["release.state"] == "absent"


def test_what_this_runs_own_try_left_pending_is_freed_and_tried_again(hands: Hands, tmp_path: Path) -> None:
    keep(tmp_path, revision(1, "deployed"))
    helm.insistent(hands, UPGRADE)
    assert states(tmp_path) == [(1, "deployed"), (2, "pending-upgrade"), (3, "deployed"), (4, "deployed")]


def test_a_pending_revision_that_this_run_did_not_make_is_left_alone(hands: Hands, tmp_path: Path) -> None:
    keep(tmp_path, revision(1, "deployed"))
    (tmp_path / "revisions.step").write_text("2")  # as when others made a revision meanwhile
    with pytest.raises(Trouble) as caught:
        helm.insistent(hands, UPGRADE)
    assert (caught.value.code, "revision 3 is pending-upgrade" in caught.value.why) == ("SFM-HELM-004", True)
    assert states(tmp_path) == [(1, "deployed"), (3, "pending-upgrade")]


SHRUNK = [
    'cannot patch "sharedinfra-kafka" with kind StatefulSet: StatefulSet.apps "sharedinfra-kafka" is invalid: '
    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' "
    "and 'minReadySeconds' are forbidden",
    'The PersistentVolumeClaim "data-sharedinfra-kafka-0" is invalid: spec.resources.requests.storage: Forbidden: '
    "field can not be less than status.capacity",
]
"""What the API server of Kubernetes 1.33 says to a smaller volume."""


@pytest.mark.parametrize("said", SHRUNK)
def test_a_volume_that_was_to_shrink_is_told_by_the_upgrade_and_by_the_row_afterwards(hands: Hands, said: str) -> None:
    failed = CommandFailed(UPGRADE, 1, "", f"Error: UPGRADE FAILED: {said}")
    assert helm.upgrade_trouble(hands, failed, frozenset()).code == "SFM-HELM-008"
    info = {"status": "failed", "description": f'Upgrade "sharedinfra" failed: {said}'}
    status, observed, code = helm.judge_release({"info": info, "version": 3})  # type: ignore[misc]
    assert (status, code) == (Status.FAIL, "SFM-HELM-008") and said in observed


def test_a_release_that_failed_otherwise_has_the_rows_own_code() -> None:
    info = {"status": "failed", "description": 'Upgrade "sharedinfra" failed: timed out waiting for the condition'}
    assert helm.judge_release({"info": info, "version": 3})[2:] == ("",)
    assert helm.judge_release({"info": info | {"status": "deployed"}, "version": 3})[0] is Status.PASS
