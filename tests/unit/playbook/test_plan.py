"""Plans from recorded facts: what would be done, what is left alone, what is refused, and why. No cluster is there."""

from typing import Any

import pytest

from playbook import plan as planning
from playbook.load import packaged
from playbook.model import Fact, Plan, Step, Verdict
from playbook.target import Target

READY: dict[str, Any] = {
    "tools.wanting": [],
    "tools.release": [],
    "docker.up": True,
    "cluster.kind": True,
    "cluster.state": "running",
    "cluster.replace": False,
    "cluster.keep": False,
    "cluster.uid": "uid-1",
    "api.version": "v1.33.13",
    "nodes.unready": [],
    "fit.storage": [],
    "fit.capacity": [],
    "images.unbuilt": [],
    "images.absent": [],
    "namespace.state": "Active",
    "namespace.labelled": True,
    "asked.recover": False,
    "release.state": "deployed",
    "release.stuck": "no",
    "release.mode": "dev",
    "release.current": True,
    "release.missing": [],
    "release.edited": [],
    "release.since": "2026-01-02T03:04:05",
    "workloads.unready": [],
    "vault.wanting": [],
}
"""The facts of a stack that is up, as a run recorded them."""


def unknown(name: str, code: str = "SFM-K8S-002") -> Fact:
    return Fact(name, known=False, code=code, why="no such context")


NO_CLUSTER = READY | {"cluster.state": "absent", "images.absent": ["redis:7.2.4-alpine"]}
BEHIND_THE_API = ("cluster.uid", "api.version", "nodes.unready", "fit.storage", "fit.capacity", "namespace.state",
                  "namespace.labelled", "release.state", "release.stuck", "release.mode",
                  "release.current", "release.missing", "release.edited", "workloads.unready",
                  "vault.wanting")  # fmt: skip


def made(play: str, values: dict[str, Any], target: Target | None = None, lost: tuple[str, ...] = ()) -> Plan:
    """The plan of a play from recorded values; the facts in `lost` could not be observed."""
    book = packaged()
    steps: list[Step] = [book.steps[name] for name in book.plays[play]]
    facts = {name: Fact(name, value) for name, value in values.items()} | {name: unknown(name) for name in lost}
    facts |= planning.refusals(target or Target(), facts, steps)
    return planning.plan(play, steps, facts, target="kind-soma")


def verdicts(plan: Plan) -> dict[str, str]:
    return {item.step.id: item.verdict.value for item in plan.items}


def test_a_stack_that_is_up_needs_nothing() -> None:
    plan = made("up", READY)
    assert not plan.pending
    assert not plan.refusals
    assert set(verdicts(plan).values()) == {"done", "skip"}
    assert plan.cluster_uid == "uid-1"


def test_from_nothing_the_cluster_is_made_and_the_rest_looked_at_then() -> None:
    plan = made("up", NO_CLUSTER, lost=BEHIND_THE_API)
    assert verdicts(plan) == {
        "tools.ready": "done",
        "docker.ready": "done",
        "cluster.remove": "done",
        "cluster.create": "do",
        "nodes.ready": "later",
        "nodes.room": "later",
        "storage.ready": "later",
        "images.build": "done",
        "images.preload": "do",
        "namespace.create": "later",
        "release.free": "skip",
        "release.clear": "skip",
        "release.deploy": "later",
        "workloads.ready": "later",
        "vault.auth": "later",
    }
    assert not plan.destructive
    assert plan.cluster_uid == ""


def test_images_build_makes_the_image_of_the_jobs_too() -> None:
    stale = {"images.unbuilt": [], "jobs.unbuilt": ["soma/sfmctl:0.1.0"]}
    assert verdicts(made("images-build", READY | stale))["jobs.build"] == "do"
    assert not made("images-build", READY | stale | {"jobs.unbuilt": []}).pending
    assert verdicts(made("images-rebuild", READY))["jobs.rebuild"] == "do"


def test_changed_values_touch_the_release_and_what_comes_after_it_only() -> None:
    plan = made("up", READY | {"release.current": False})
    assert [item.step.id for item in plan.pending] == ["release.deploy", "workloads.ready", "vault.auth"]


def test_an_object_deleted_by_hand_is_brought_back() -> None:
    plan = made("deploy", READY | {"release.missing": ["StatefulSet sharedinfra-kafka"]})
    assert verdicts(plan)["release.deploy"] == "do"
    assert "StatefulSet sharedinfra-kafka" in next(i.why for i in plan.items if i.step.id == "release.deploy")


def test_an_object_edited_by_hand_is_put_back_and_the_plan_says_what_differs() -> None:
    edit = "Deployment sharedinfra-opa: spec.replicas is 3, the release has 1"
    plan = made("up", READY | {"release.edited": [edit]})
    assert verdicts(plan)["release.deploy"] == "do"
    assert edit in next(i.why for i in plan.items if i.step.id == "release.deploy")


def test_a_vault_that_lost_its_auth_is_told_again_and_nothing_else_is_done() -> None:
    plan = made("up", READY | {"vault.wanting": ["Kubernetes auth is off"]})
    assert [item.step.id for item in plan.pending] == ["vault.auth"]


def test_an_interrupted_wait_goes_on() -> None:
    plan = made("up", READY | {"workloads.unready": ["StatefulSet sharedinfra-kafka 0/1: starting"]})
    assert [item.step.id for item in plan.pending] == ["workloads.ready", "vault.auth"]


def test_a_half_made_cluster_is_replaced_and_the_plan_says_so() -> None:
    plan = made("up", NO_CLUSTER | {"cluster.state": "partial", "cluster.replace": True}, lost=BEHIND_THE_API)
    assert verdicts(plan)["cluster.remove"] == "do"
    assert verdicts(plan)["cluster.create"] == "do"
    assert plan.destructive


@pytest.mark.parametrize(
    ("change", "step", "code"),
    [
        ({"tools.wanting": ["kind 0.20.0 (needs 0.22)"]}, "tools.ready", "SFM-TOOL-002"),
        ({"tools.wanting": ["helm missing (needs 3.13)"]}, "tools.ready", "SFM-TOOL-001"),
        ({"cluster.state": "other"}, "cluster.create", "SFM-KIND-003"),
        ({"cluster.state": "dead"}, "cluster.create", "SFM-KIND-006"),
        ({"release.state": "pending-upgrade", "release.stuck": "rollback"}, "release.deploy", "SFM-HELM-004"),
        ({"release.state": "uninstalling", "release.stuck": "uninstall"}, "release.deploy", "SFM-HELM-004"),
        ({"release.mode": "prod", "release.current": False}, "release.deploy", "SFM-HELM-010"),
        ({"namespace.state": "Terminating"}, "namespace.create", "SFM-K8S-006"),
        ({"fit.storage": ["premium-rwo"]}, "storage.ready", "SFM-K8S-008"),
        ({"fit.capacity": ["12 GiB of memory are asked for, the nodes have 7.6"]}, "nodes.room", "SFM-K8S-007"),
        ({"nodes.unready": ["soma-control-plane is not ready"]}, "nodes.ready", "SFM-K8S-007"),
    ],
)
def test_what_must_not_go_on_is_refused_with_its_code(change: dict[str, Any], step: str, code: str) -> None:
    plan = made("up", READY | change)
    assert {(item.step.id, item.code) for item in plan.refusals} == {(step, code)}


def test_a_release_is_deployed_from_a_machine_without_docker_and_kind() -> None:
    lacking = READY | {"tools.wanting": ["kind missing (needs 0.22)"], "release.state": "absent"}
    away = ("docker.up", "cluster.kind", "cluster.state")
    plan = made("deploy", lacking, Target(context="gke_prod"), lost=away)
    assert not plan.refusals
    assert [item.step.id for item in plan.pending] == ["release.deploy", "workloads.ready", "vault.auth"]


def test_a_release_is_not_deployed_without_helm() -> None:
    plan = made("deploy", READY | {"tools.release": ["helm missing (needs 3.13)"]}, Target(context="gke_prod"))
    assert {(item.step.id, item.code) for item in plan.refusals} == {("tools.helm", "SFM-TOOL-001")}


def test_no_docker_is_not_taken_for_no_cluster() -> None:
    plan = made("up", {"tools.wanting": []}, lost=("docker.up", "cluster.kind", "cluster.state"))
    assert plan.refusals
    assert not plan.pending


def test_a_forbidden_read_refuses_rather_than_installs() -> None:
    plan = made("deploy", READY, lost=("release.state",))
    assert verdicts(plan)["release.deploy"] == Verdict.REFUSED


RECOVER = READY | {"asked.recover": True, "release.current": False}


def test_recover_goes_back_to_a_good_revision_and_takes_nothing_away() -> None:
    plan = made("up", RECOVER | {"release.state": "pending-upgrade", "release.stuck": "rollback"}, Target(recover=True))
    assert [item.step.id for item in plan.pending][:2] == ["release.free", "release.deploy"]
    assert not plan.destructive


@pytest.mark.parametrize("state", ["pending-install", "uninstalling"])
def test_recover_says_that_it_takes_away_what_has_no_good_revision(state: str) -> None:
    facts = RECOVER | {"release.state": state, "release.stuck": "uninstall", "release.mode": ""}
    plan = made("deploy", facts, Target(recover=True))
    assert [item.step.id for item in plan.pending][:2] == ["release.clear", "release.deploy"]
    assert plan.destructive
    elsewhere = made("deploy", facts, Target(context="gke_prod", recover=True))
    assert {(item.step.id, item.code) for item in elsewhere.refusals} == {("release.clear", "SFM-CLI-023")}


def test_a_reset_that_was_cut_off_in_helm_goes_on() -> None:
    plan = made("reset", READY | {"cluster.keep": True, "release.state": "uninstalling", "release.stuck": "uninstall"})
    assert [item.step.id for item in plan.pending] == ["release.remove", "namespace.remove"]
    assert not plan.refusals


def test_another_mode_is_deployed_when_it_is_meant_or_nothing_is_there() -> None:
    meant = made("up", READY | {"release.mode": "prod", "release.current": False}, Target(change_mode=True))
    assert verdicts(meant)["release.deploy"] == "do"
    gone = {"release.state": "absent", "release.mode": "", "namespace.state": "absent"}
    assert not made("deploy", READY | gone, Target(mode="staging")).refusals


def test_recreate_replaces_a_cluster_that_runs_and_says_so() -> None:
    plan = made("up", READY | {"cluster.replace": True}, Target(recreate=True))
    assert verdicts(plan)["cluster.remove"] == "do"
    assert verdicts(plan)["cluster.create"] == "later"
    assert plan.destructive


def test_a_context_off_the_allow_list_is_never_reset() -> None:
    facts = READY | {"cluster.kind": False, "cluster.state": "foreign", "cluster.keep": True}
    plan = made("reset", facts, Target(context="gke_prod"))
    assert {item.code for item in plan.refusals} == {"SFM-CLI-023"}
    allowed = made("reset", facts, Target(context="gke_prod", allowed=("kind-*", "gke_prod")))
    assert not allowed.refusals
    assert allowed.destructive


def test_reset_of_what_is_absent_is_success() -> None:
    gone = {"cluster.keep": True, "release.state": "absent", "namespace.state": "absent"}
    plan = made("reset", READY | gone)
    assert verdicts(plan) == {"api.ready": "done", "release.remove": "done", "namespace.remove": "done"}
    assert not plan.pending
    assert not plan.refusals


def test_down_deletes_a_kind_cluster_as_a_whole_and_empties_one_that_is_kept() -> None:
    assert [item.step.id for item in made("down", READY).pending] == ["cluster.delete"]
    kept = made("down", READY | {"cluster.keep": True})
    assert [item.step.id for item in kept.pending] == ["release.remove", "namespace.remove"]
    assert kept.destructive


def test_a_foreign_cluster_is_neither_made_nor_filled() -> None:
    facts = READY | {"cluster.kind": False, "cluster.state": "foreign", "release.state": "absent"}
    plan = made("up", facts, Target(context="gke_prod"))
    skipped = {name for name, verdict in verdicts(plan).items() if verdict == "skip"}
    unless_recovering = {"release.free", "release.clear"}
    about_kind = {"docker.ready", "cluster.remove", "cluster.create", "images.build", "images.preload"}
    assert skipped == about_kind | unless_recovering
    assert [item.step.id for item in plan.pending] == ["release.deploy", "workloads.ready", "vault.auth"]


def test_a_plan_as_json_counts_its_changes() -> None:
    body = made("up", READY | {"release.current": False}).as_dict()
    assert body["changes"] == 3
    assert {step["verdict"] for step in body["steps"]} == {"done", "do", "later", "skip"}
