"""What `sfmctl verify` and the parts of a wire-up do besides the matrix, seen on a real cluster."""

from __future__ import annotations

import contextlib
import datetime
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from playbook.kube import Writer
from playbook.wiring import postgres, redis
from testing.wired import Wired
from tests.kind.conftest import CLUSTER, CONTEXT, LEDGER, NAMESPACE, Ran, Sfmctl

pytestmark = pytest.mark.kind
CANARY = "canary-7f3a9c51d2e8"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{LEDGER}/deployments/talker"
ENDPOINTS = f"/api/v1/namespaces/{NAMESPACE}/configmaps/sharedinfra-endpoints"


@pytest.fixture
def app(ledger: Ran) -> Iterator[Wired]:
    with Wired.on(CONTEXT, LEDGER) as wired:
        yield wired


def writer(app: Wired) -> Writer:
    assert isinstance(app.reader, Writer)
    return app.reader


def run(sfmctl: Sfmctl, *arguments: str) -> Ran:
    return sfmctl.run(*arguments, "--cluster", CLUSTER, "-o", "json", timeout_s=300)


def rows(ran: Ran) -> dict[str, Any]:
    return {row["id"]: row for row in ran.document["checks"]}


def suite_of(report: Path) -> ElementTree.Element:
    return ElementTree.fromstring(report.read_text())  # noqa: S314 - our own report


@contextlib.contextmanager
def login_taken(app: Wired) -> Iterator[None]:
    """The application's role may not log in."""
    with postgres.administering(app.reach, app.at, writing=True) as connection:
        connection.execute(f"alter role {LEDGER} nologin")
    try:
        yield
    finally:
        with postgres.administering(app.reach, app.at, writing=True) as connection:
            connection.execute(f"alter role {LEDGER} login")


def test_another_environment_than_the_clusters_is_one_red_row(ledger: Ran, sfmctl: Sfmctl) -> None:
    ran = run(sfmctl, "verify", LEDGER, "--env", "staging", "--only", "app")
    red = {name: row["hint"] for name, row in rows(ran).items() if row["status"] in ("fail", "error")}
    assert (ran.code, list(red)) == (3, ["app.env"])
    assert red["app.env"].startswith(f"SFM-APP-006: sfmctl verify {LEDGER} --env dev")


def test_a_waiver_demotes_to_a_warning_until_its_day_and_junit_tells(
    app: Wired, sfmctl: Sfmctl, tmp_path: Path
) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    waivers, report = tmp_path / "waivers.yaml", tmp_path / "verify.xml"
    asked = ("verify", LEDGER, "--env", "dev", "--only", "app.database", "--junit", str(report))
    with login_taken(app):
        waivers.write_text(f"- {{check: app.database, reason: it is being moved, until: {today}}}\n")
        waived = run(sfmctl, *asked, "--waivers", str(waivers))
        assert (waived.code, rows(waived)["app.database"]["status"]) == (0, "warn"), waived.out
        assert f"(waived until {today}: it is being moved)" in rows(waived)["app.database"]["observed"]
        assert suite_of(report).get("failures") == "0"
        waivers.write_text(f"- {{check: app.*, reason: moved, until: {today - datetime.timedelta(days=2)}}}\n")
        ended = run(sfmctl, *asked, "--waivers", str(waivers))
        assert (ended.code, rows(ended)["app.database"]["status"]) == (3, "fail"), ended.out
        assert "its waiver ended" in rows(ended)["app.database"]["observed"]
    suite = suite_of(report)
    [failure] = suite.iter("failure")
    assert (failure.get("type"), suite.get("failures")) == ("SFM-DB-004", "1")
    assert "sfmctl db provision" in (failure.text or "")
    assert {case.get("name") for case in suite.iter("testcase")} == set(rows(ended))


def test_a_waiver_file_that_is_wrong_is_told_in_the_report_too(ledger: Ran, sfmctl: Sfmctl, tmp_path: Path) -> None:
    report = tmp_path / "verify.xml"
    ran = run(sfmctl, "verify", LEDGER, "--waivers", str(tmp_path / "none"), "--junit", str(report))
    assert (ran.code, ran.document["error"]["code"]) == (2, "SFM-CLI-030")
    [error] = suite_of(report).iter("error")
    assert error.get("type") == "SFM-CLI-030"


def test_a_run_ends_with_its_time_and_names_what_was_not_finished(ledger: Ran, sfmctl: Sfmctl) -> None:
    ran = run(sfmctl, "verify", LEDGER, "--env", "dev", "--timeout", "1")
    assert ran.code == 6, ran.out
    late = [row for row in ran.document["checks"] if row["hint"].startswith("SFM-CLI-025")]
    assert "app.inside" in {row["id"] for row in late}
    assert {row["status"] for row in late} == {"error"}


def talker() -> dict[str, Any]:
    """A pod that prints a value of a Secret and crashes."""
    script = "import os, sys; print('connecting with', os.environ['KEY']); sys.exit(1)"
    container = {
        "name": "talker", "image": "soma/sfmctl:0.1.0", "command": ["/opt/sfmctl/bin/python", "-c", script],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "canary", "key": "key"}}}],
    }  # fmt: skip
    labels = {"app": "talker"}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "talker"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}}  # fmt: skip


def test_a_bundle_is_written_when_a_check_fails_and_holds_no_secret(app: Wired, sfmctl: Sfmctl, tmp_path: Path) -> None:
    api, folder = writer(app), tmp_path / "bundle"
    secret = f"/api/v1/namespaces/{LEDGER}/secrets/canary"
    api.apply(secret, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canary"},
                       "stringData": {"key": CANARY}})  # fmt: skip
    api.apply(DEPLOYMENT, talker())
    try:
        pods = f"/api/v1/namespaces/{LEDGER}/pods"
        deadline = time.monotonic() + 60
        while not any(s.get("restartCount") for p in api.items(pods, labelSelector="app=talker")
                      for s in p["status"].get("containerStatuses", [])):  # fmt: skip
            assert time.monotonic() < deadline, "the pod did not crash"
            time.sleep(0.5)
        ran = run(sfmctl, "verify", LEDGER, "--env", "dev", "--only", "app.pods", "--bundle-on-failure", str(folder))
        assert ran.code == 3, ran.out
    finally:
        api.delete(DEPLOYMENT)
        api.delete(secret)
    files = [path for path in folder.rglob("*") if path.is_file()]
    texts = {str(path.relative_to(folder)): path.read_text() for path in files}
    logs = [text for name, text in texts.items() if name.startswith(f"{LEDGER}/logs/talker-")]
    assert any("connecting with <secret>" in log for log in logs), logs
    values = [CANARY, *app.secret.values.values()]
    assert not [name for name, text in texts.items() if any(value in text for value in values)]
    assert json.loads(texts["checks.json"])[-1]["id"] == "app.pods"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_nothing_is_bundled_when_all_is_well(ledger: Ran, sfmctl: Sfmctl, tmp_path: Path) -> None:
    ran = run(sfmctl, "verify", LEDGER, "--only", "app.settings", "--bundle-on-failure", str(tmp_path / "bundle"))
    assert ran.code == 0, ran.out
    assert not (tmp_path / "bundle").exists()


def test_a_namespace_whose_quota_refuses_the_jobs_pod_says_so(app: Wired, sfmctl: Sfmctl) -> None:
    api, quota = writer(app), f"/api/v1/namespaces/{LEDGER}/resourcequotas/none"
    api.apply(quota, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
                      "spec": {"hard": {"pods": "0"}}})  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not ((api.get(quota) or {}).get("status") or {}).get("hard"):
            assert time.monotonic() < deadline, "the cluster does not count for the quota"
            time.sleep(0.2)
        ran = run(sfmctl, "verify", LEDGER, "--env", "dev", "--only", "app.inside")
    finally:
        api.delete(quota)
    row = rows(ran)["app.inside"]
    assert (ran.code, row["status"], row["hint"].partition(":")[0]) == (3, "fail", "SFM-APP-009"), row
    assert "exceeded quota: none" in row["observed"] and f"-n {LEDGER} get events" in row["hint"]


def test_each_row_of_the_job_tells_its_own_time(ledger: Ran, sfmctl: Sfmctl) -> None:
    found = rows(run(sfmctl, "verify", LEDGER, "--env", "dev", "--only", "app"))
    took = {name: row["duration_ms"] for name, row in found.items()}
    asked = {"app.database", "app.kafka", "app.redis", "app.vault"}
    assert {found[name]["status"] for name in asked} == {"pass"}
    assert all(0 < took[name] < took["app.inside"] for name in asked), took
    assert "s until its pod could ask" in found["app.inside"]["observed"]


def test_topics_that_are_only_to_be_reported_are_left_as_they_are(app: Wired, sfmctl: Sfmctl) -> None:
    api = writer(app)
    has = dict((api.get(ENDPOINTS) or {})["data"])
    other = {"KAFKA_TOPIC_REPLICATION_FACTOR": "3", "KAFKA_TOPIC_PARTITIONS": "2", "KAFKA_TOPIC_RETENTION_HOURS": "24"}
    api.merge(ENDPOINTS, {"data": other})  # as after a change of the mode
    try:
        plan = run(sfmctl, "topics", "plan", LEDGER, "--exit-code")
        assert plan.code == 10, plan.err
        assert run(sfmctl, "topics", "plan", LEDGER, "--fail-on", "warning").code == 4
        applied = run(sfmctl, "topics", "apply", LEDGER, "--yes")
        assert applied.code == 0, applied.err
        after = run(sfmctl, "topics", "plan", LEDGER, "--exit-code")
    finally:
        api.merge(ENDPOINTS, {"data": {key: has[key] for key in other}})
    events = {topic["topic"]: topic for topic in plan.document["topics"]}[f"{LEDGER}.events"]
    assert [one["code"] for one in events["unfit"]] == ["SFM-KAF-011", "SFM-KAF-012"]
    assert (events["action"], events["partitionGrowth"]) == ("change", 0)
    assert events["configChanges"] == {"retention.ms": {"current": "259200000", "wanted": "86400000"}}
    left = {topic["topic"]: topic for topic in after.document["topics"]}[f"{LEDGER}.events"]
    assert (left["action"], left["configChanges"], left["unfit"]) == ("keep", {}, events["unfit"])
    assert (left["current"]["partitions"], left["current"]["replicationFactor"]) == (3, 1)
    back = run(sfmctl, "topics", "apply", LEDGER, "--yes")
    assert (back.code, back.document["changed"]) == (0, 1), back.err


@pytest.mark.parametrize("part", [("vault", "policy", "apply"), ("vault", "role", "apply"), ("db", "provision")])
def test_a_part_that_is_as_it_should_be_is_not_changed(ledger: Ran, sfmctl: Sfmctl, part: tuple[str, ...]) -> None:
    ran = run(sfmctl, *part, LEDGER, "--env", "dev", "--yes")
    assert (ran.code, ran.document["changed"]) == (0, 0), ran.out


def test_a_redis_user_that_goes_right_after_it_came_stays_gone(app: Wired) -> None:
    from redis.exceptions import AuthenticationError

    [pod] = redis.nodes(app.reach, app.at)
    password = app.secret.get("REDIS_PASSWORD")
    mount = ["test", "-e", f"/users/{app.app.redis_file}"]
    try:
        redis.remove(app.reach, writer(app), app.at)
        redis.apply(app.reach, writer(app), app.at, password)
        redis.remove(app.reach, writer(app), app.at)
        deadline = time.monotonic() + 30
        while inside(pod, mount) == 0:  # the node's copy of the users is renewed at once, not within a minute
            assert time.monotonic() < deadline, "the node still has the user's file"
            time.sleep(0.5)
        time.sleep(6)  # one round of the node's own look at that copy
        with pytest.raises(AuthenticationError), app.cache() as client:
            client.ping()
    finally:
        redis.apply(app.reach, writer(app), app.at, password)


def inside(pod: str, argv: list[str]) -> int:
    """The exit code of a command in the Redis container."""
    from playbook import reach

    return reach.inside(CONTEXT, None, NAMESPACE, pod, "redis", argv, timeout_s=15).code
