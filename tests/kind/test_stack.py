"""From nothing to a ready stack and back to an empty cluster, in the order in which a person would meet it.

Each test builds on the one before: the stack takes minutes to come up, so it is brought up once. What is asserted is
what the API server and the nodes say, not only what sfmctl says.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from playbook.actions.image_names import canonical
from playbook.kube import Writer
from testing.screen import INTERRUPT, Terminal
from tests.kind.conftest import CONTEXT, NAMESPACE, ROOT, Sfmctl, outcomes, release_revision, settled, versions

pytestmark = pytest.mark.kind


def test_from_nothing_a_dry_run_says_what_would_be_done_and_does_nothing(sfmctl: Sfmctl) -> None:
    gone = sfmctl.run("down", "--yes", "--force-finalizers", "--wait", "30", "-o", "json")
    assert gone.code == 0, gone.err
    ran = sfmctl.run("up", "--mode", "dev", *sfmctl.values, "--dry-run", "--exit-code", "-o", "json")
    assert ran.code == 10, ran.err
    verdicts = {step["id"]: step["verdict"] for step in ran.document["steps"]}
    assert verdicts["cluster.create"] == "do"
    listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True)
    assert "soma" not in listed.stdout.split()


def test_interrupted_while_the_cluster_is_made_it_leaves_nothing_half_made(sfmctl: Sfmctl) -> None:
    ran = sfmctl.interrupted("cluster", "create", "--yes", when="Starting control-plane")
    assert ran.code == 130, ran.err
    assert nodes_left() == ""


def nodes_left() -> str:
    """The node containers, running or not, of a cluster that should be gone."""
    argv = ["docker", "ps", "-aq", "--filter", "label=io.x-k8s.kind.cluster=soma"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def below_the_question(lines: list[str]) -> list[str]:
    """What a terminal shows after the question whether to go on."""
    asked = next((n for n, line in enumerate(lines) if line.startswith("Go on?")), len(lines))
    return [line for line in lines[asked + 1 :] if line]


def test_on_a_terminal_it_is_one_screen_and_the_interrupt_key_leaves_it_as_it_was(sfmctl: Sfmctl) -> None:
    planned = sfmctl.run("cluster", "create", "--dry-run", "-o", "json").document["steps"]
    titles = [step["title"] for step in planned]
    with Terminal(sfmctl.argv("cluster", "create"), cwd=ROOT, env=sfmctl.environment()) as terminal:
        terminal.until(lambda lines: any("Go on?" in line for line in lines))
        terminal.type("y\n")
        lines = below_the_question(terminal.until(lambda lines: any("Preparing nodes" in line for line in lines)))
        assert [sum(title in line for line in lines) for title in titles] == [1] * len(titles), lines
        assert terminal.scrolled == 0
        terminal.type(INTERRUPT)
        assert terminal.end() == 130
        assert below_the_question(terminal.shown)[-1:] == ["interrupted"]
        assert not any(title in line for title in titles for line in below_the_question(terminal.shown))
        assert terminal.cursor_is_shown
        assert terminal.settings == terminal.settings_before
    assert nodes_left() == ""


def test_up_brings_everything_up_and_checks_it(sfmctl: Sfmctl, api_later: Any) -> None:
    first = sfmctl.interrupted("up", "--mode", "dev", *sfmctl.values, "--yes", when="workloads.ready: Wait until")
    assert first.code == 130, first.err
    assert release_revision() == 1

    ran = sfmctl.up()
    assert ran.code == 0, ran.out + ran.err
    assert "the run before stopped at workloads.ready" in ran.err
    results = outcomes(ran)
    assert results["cluster.create"] == "unchanged"
    assert results["release.deploy"] == "unchanged"
    assert results["workloads.ready"] == "changed"
    checks = {check["id"]: check for check in ran.document["checks"]}
    not_well = {name: c["observed"] for name, c in checks.items() if c["status"] not in ("pass", "skip")}
    assert set(not_well) <= {"pods.restarts"}, not_well
    for name in (
        "postgres.ha",
        "postgres.pgpool",
        "kafka.brokers",
        "redis.ping",
        "vault.health",
        "vault.auth",
        "etcd.query",
    ):
        assert checks[name]["status"] == "pass", checks[name]
    assert release_revision() == 1
    api = api_later()
    for kind in ("statefulsets", "deployments"):
        for item in api.items(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}"):
            assert item["status"].get("readyReplicas", 0) == item["spec"]["replicas"], item["metadata"]["name"]


def test_every_image_is_on_every_node(sfmctl: Sfmctl) -> None:
    listed = sfmctl.run("images", "list", *sfmctl.values, "-o", "json").document["images"]
    raw = subprocess.run(
        ["docker", "exec", "soma-control-plane", "crictl", "images", "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    there = {canonical(tag) for image in json.loads(raw.stdout)["images"] for tag in image["repoTags"]}
    assert listed
    assert {canonical(image["ref"]) for image in listed} <= there


def test_a_second_up_changes_nothing(sfmctl: Sfmctl, api: Writer) -> None:
    before = versions(api)
    ran = sfmctl.up()
    assert ran.code == 0, ran.out + ran.err
    assert ran.document["changed"] == 0
    assert versions(api) == before
    assert release_revision() == 1


def test_helm_asks_each_server_from_inside_the_cluster() -> None:
    argv = ["helm", "--kube-context", CONTEXT, "-n", NAMESPACE, "test", "sharedinfra", "--timeout", "3m"]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    suites = re.findall(r"^TEST SUITE: +sharedinfra-test-(\S+)$", ran.stdout, re.MULTILINE)
    assert sorted(suites) == ["http", "kafka", "postgres", "redis"]
    assert ran.stdout.count("Phase:          Succeeded") == len(suites)


def test_a_dev_vault_that_forgot_its_auth_is_told_again(sfmctl: Sfmctl, api: Writer) -> None:
    pod = f"/api/v1/namespaces/{NAMESPACE}/pods/sharedinfra-vault-0"
    uid = (api.get(pod) or {})["metadata"]["uid"]
    assert api.delete(pod)
    deadline = time.monotonic() + 120
    while (found := api.get(pod)) is None or found["metadata"]["uid"] == uid or not is_ready(found):
        assert time.monotonic() < deadline, found
        time.sleep(1)
    assert sfmctl.run("verify", *sfmctl.values, "--only", "vault.*").code == 3
    ran = sfmctl.run("deploy", *sfmctl.values, "--yes", "-o", "json")
    assert ran.code == 0, ran.err
    assert [step for step, result in outcomes(ran).items() if result == "changed"] == ["vault.auth"]
    assert sfmctl.run("verify", *sfmctl.values, "--only", "vault.*").code == 0


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def test_what_was_edited_by_hand_is_named_and_put_back(sfmctl: Sfmctl, api: Writer) -> None:
    apps, core = f"/apis/apps/v1/namespaces/{NAMESPACE}", f"/api/v1/namespaces/{NAMESPACE}"
    opa, endpoints = f"{apps}/deployments/sharedinfra-opa", f"{core}/configmaps/sharedinfra-endpoints"
    before = {path: api.get(path) or {} for path in (opa, endpoints)}
    kubectl = ["kubectl", "--context", "kind-soma", "-n", NAMESPACE]
    for edit in (
        ["scale", "deployment", "sharedinfra-opa", "--replicas=2"],
        ["set", "env", "deployment/sharedinfra-opa", "BY_HAND=a value of its own"],
        ["patch", "configmap", "sharedinfra-endpoints", "--patch", json.dumps({"data": {"BY_HAND": "x"}})],
    ):
        subprocess.run([*kubectl, *edit], check=True, capture_output=True)

    seen = sfmctl.run("verify", *sfmctl.values, "--only", "release.live", "-o", "json")
    assert (seen.code, "SFM-HELM-009" in seen.out) == (3, True), seen.out
    planned = sfmctl.run("up", *sfmctl.values, "--dry-run", "-o", "json")
    why = next(step["why"] for step in planned.document["steps"] if step["id"] == "release.deploy")
    assert "Deployment sharedinfra-opa: spec.replicas is 2, the release has 1" in why
    assert "data.BY_HAND was added" in why
    assert "a value of its own" not in planned.out + seen.out

    ran = sfmctl.run("deploy", *sfmctl.values, "--yes", "-o", "json")
    assert ran.code == 0, ran.out + ran.err
    after = {path: api.get(path) or {} for path in (opa, endpoints)}
    assert after[opa]["spec"] == before[opa]["spec"]
    assert after[endpoints]["data"] == before[endpoints]["data"]
    assert sfmctl.run("deploy", *sfmctl.values, "--yes", "-o", "json").document["changed"] == 0


def test_on_a_small_terminal_what_is_waited_for_is_drawn_over(sfmctl: Sfmctl, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("opa: {replicas: 2}\n")
    argv = sfmctl.argv("deploy", *sfmctl.values, "-f", str(values))
    with Terminal(argv, cwd=ROOT, env=sfmctl.environment(), columns=80, lines=24) as terminal:
        terminal.until(lambda lines: any("Go on?" in line for line in lines))
        terminal.type("y\n")
        done = "[=] The API server answers"
        terminal.until(lambda lines: any(done in line for line in lines))
        scrolled, drawn = set(), set()
        while count := sum(done in line for line in terminal.shown):
            drawn.add(count)
            scrolled.add(terminal.scrolled)
        assert terminal.end(timeout_s=300) == 0
        assert drawn == {1}, "every redraw goes over the one before"
        assert max(scrolled) - min(scrolled) < 24, "it takes its room once, however often it is drawn"
        said = [line for line in terminal.shown if line]
        assert said[-1].startswith("deploy on kind-soma/soma-infra (dev): "), said
        assert terminal.cursor_is_shown
    assert sfmctl.run("rollback", "--yes").code == 0


def test_dry_runs_write_nothing(sfmctl: Sfmctl, api: Writer, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("opa: {replicas: 2}\n")
    before = settled(api)
    for command in (
        ["deploy", *sfmctl.values, "-f", str(values)],
        ["up", *sfmctl.values, "-f", str(values)],
        ["reset"],
        ["down"],
        ["rollback"],
        ["cluster", "delete"],
    ):
        ran = sfmctl.run(*command, "--dry-run", "-o", "json")
        assert ran.code == 0, ran.err
        assert ran.document["changes"] > 0, command
    assert versions(api) == before
