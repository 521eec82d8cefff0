"""Faults on a real cluster: each turns exactly the right row red, and the command that the row names mends it.

A fault is made, `sfmctl verify` is run, every row of the matrix is looked at, and then the hint is typed into a
terminal as it stands, by a person who agrees to what is asked. What is red afterwards is a wrong hint.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from playbook.actions.workloads import crashed
from playbook.kube import Writer
from playbook.wiring import access, cluster, kafka_job, objects, postgres, redis, vault
from playbook.wiring.application import application
from playbook.wiring.secrets import Sealed
from testing.terminal import typed
from testing.wired import Wired
from tests.kind.conftest import CLUSTER, CONTEXT, LEDGER, NAMESPACE, ROOT, Ran, Sfmctl

pytestmark = pytest.mark.kind
APP = LEDGER
SPACE = f"/api/v1/namespaces/{APP}"
APPS = f"/apis/apps/v1/namespaces/{APP}"
NODE = f"{CLUSTER}-control-plane"
BROKEN = "import sys; sys.exit('no configuration')"
Row = Mapping[str, Any]


def until(what: str, look: Callable[[], object], timeout_s: float = 90) -> None:
    """Wait until `look` is true."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}"
        time.sleep(0.5)


@dataclass(slots=True)
class Scene:
    """The wired application, and an administrator's hands to break it with."""

    app: Wired
    answers: list[tuple[str, str]] = field(default_factory=lambda: [("Go on? [y/N]", "y")])

    @property
    def api(self) -> Writer:
        assert isinstance(self.app.reader, Writer)
        return self.app.reader

    @contextlib.contextmanager
    def vault(self) -> Iterator[Any]:
        """An administrator's client of Vault."""
        with vault.opened(self.app.reach, self.app.at, writing=True) as client:
            yield client

    def store(self, **changed: str) -> None:
        """Change secret values in Vault, and wait until the operator has brought them into the namespace."""
        with self.vault() as client:
            values = {**vault.secrets_of(client, self.app.app).values, **changed}
            vault.write_secrets(client, self.app.app, Sealed(values))
        path = objects.path(objects.external_secret(self.app.app, "v1beta1"))
        self.api.merge(path, {"metadata": {"annotations": {"force-sync": str(time.time_ns())}}})
        until("the operator syncs", lambda: self.app.secret.values == values)

    def kafka(self, **request: Any) -> None:
        """Change Kafka as its administrator."""
        ends = time.monotonic() + 60
        kafka_job.run(self.app.reach, self.api, self.app.at, {"user": APP, **request}, lambda: ends - time.monotonic())


def label_removed(scene: Scene) -> None:
    scene.api.merge(SPACE, {"metadata": {"labels": {objects.ADMITS: None}}})


def secret_key_emptied(scene: Scene) -> None:
    scene.store(REDIS_PASSWORD="")


def policy_for_another_path(scene: Scene) -> None:
    with scene.vault() as client:
        other = 'path "secret/data/shared-infra/elsewhere/dev" { capabilities = ["read"] }'
        client.sys.create_or_update_acl_policy(APP, other)


def policy_that_reaches_a_neighbour(scene: Scene) -> None:
    """The own path and that of one other application, which is wired into the cluster."""
    neighbour = application("neighbour", "dev")
    cluster.apply(scene.api, objects.namespace(neighbour), *objects.settings(neighbour, scene.app.at))
    both = f'{access.policy(scene.app.app)}path "secret/data/shared-infra/neighbour/*" {{ capabilities = ["read"] }}'
    with scene.vault() as client:
        client.sys.create_or_update_acl_policy(APP, both)


def role_of_another_account(scene: Scene) -> None:
    with scene.vault() as client:
        client.write_data(f"auth/kubernetes/role/{APP}", data={
            "bound_service_account_names": ["default"], "bound_service_account_namespaces": [APP],
            "audience": "vault", "token_policies": [APP], "token_ttl": 86400, "token_max_ttl": 86400,
        })  # fmt: skip


def store_that_is_not_there(scene: Scene) -> None:
    path = objects.path(objects.external_secret(scene.app.app, "v1beta1"))
    scene.api.merge(path, {"spec": {"secretStoreRef": {"name": "nowhere"}}})


def role_without_login(scene: Scene) -> None:
    with postgres.administering(scene.app.reach, scene.app.at, writing=True) as connection:
        connection.execute(f"alter role {APP} nologin")


def dsn_with_a_wrong_password(scene: Scene) -> None:
    has = scene.app.secret
    scene.store(POSTGRES_DSN=has.get("POSTGRES_DSN").replace(has.get("POSTGRES_PASSWORD"), "not-the-password"))


def topic_deleted(scene: Scene) -> None:
    scene.kafka(delete=[f"{APP}.events.dlq"])


def topic_with_fewer_partitions(scene: Scene) -> None:
    scene.kafka(delete=[f"{APP}.events"])
    small = {"name": f"{APP}.events", "partitions": 1, "replicationFactor": 1, "config": {}}
    scene.kafka(create=[small])


def redis_password_changed(scene: Scene) -> None:
    reach, at = scene.app.reach, scene.app.at
    [pod] = redis.nodes(reach, at)
    with redis.connected(reach, at, pod, redis.ADMIN, redis.admin_password(reach), writing=True) as client:
        assert client.execute_command("ACL", "SETUSER", APP, "resetpass", ">somebody-elses")


def redis_user_loosened(scene: Scene) -> None:
    reach, at = scene.app.reach, scene.app.at
    [pod] = redis.nodes(reach, at)
    with redis.connected(reach, at, pod, redis.ADMIN, redis.admin_password(reach), writing=True) as client:
        assert client.execute_command("ACL", "SETUSER", APP, "~*", "+config|get")


def broker_hangs(scene: Scene) -> None:
    pod = scene.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/sharedinfra-kafka-0")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    stop = "kill -STOP $(ctr -n k8s.io tasks ls | awk -v id=$0 '$1 == id {print $2}')"
    subprocess.run(["docker", "exec", NODE, "sh", "-c", stop, container], check=True, capture_output=True)


def broker_that_cannot_load_its_log(scene: Scene) -> None:
    """A folder that is none of Kafka's among its logs: the broker ends each time it starts."""
    pod = f"/api/v1/namespaces/{NAMESPACE}/pods/sharedinfra-kafka-0"
    ours = ["kubectl", "--context", CONTEXT, "-n", NAMESPACE]
    for argv in (["exec", "sharedinfra-kafka-0", "-c", "kafka", "--", "mkdir", "/data/kafka/garbage"],
                 ["delete", "pod", "sharedinfra-kafka-0", "--grace-period=10"]):  # fmt: skip
        subprocess.run([*ours, *argv], check=True, capture_output=True)

    def crashes() -> bool:
        found = (scene.api.get(pod) or {}).get("status", {}).get("containerStatuses", [])
        return any(one.get("restartCount", 0) >= 2 for one in found)

    until("the broker ends a second time", crashes, 120)


def unseal_key() -> str:
    """The key of the dev server, which says it once when it starts."""
    with contextlib.closing(Writer(CONTEXT)) as api:
        log = api.text(f"/api/v1/namespaces/{NAMESPACE}/pods/sharedinfra-vault-0/log")
    return str(re.findall(r"^Unseal Key: (\S+)$", log, re.MULTILINE)[-1])


def vault_sealed(scene: Scene) -> None:
    key = unseal_key()
    prompt = "unseal key (empty when there are no more): "
    scene.answers = [(prompt, key), (prompt, "")]  # a person who holds the key
    with scene.vault() as client:
        client.sys.seal()


def policies(scene: Scene, **changed: str | None) -> dict[str, str]:
    """Change the ConfigMap of OPA's policies (None takes one away); what it held before."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/sharedinfra-opa-policies"
    held = (scene.api.get(path) or {}).get("data", {})
    scene.api.merge(path, {"data": changed})
    return {str(name): str(text) for name, text in held.items()}


def rollout_of_opa(*words: str) -> None:
    argv = ["kubectl", "--context", CONTEXT, "-n", NAMESPACE, "rollout", words[0], "deployment/sharedinfra-opa"]
    subprocess.run([*argv, *words[1:]], check=True, capture_output=True)


def opa_without_its_policy(scene: Scene) -> None:
    """OPA was started when the cluster did not have the policy, which is back since."""
    held = policies(scene, **{"memory.rego": None})
    rollout_of_opa("restart")
    rollout_of_opa("status", "--timeout=180s")
    policies(scene, **{"memory.rego": held["memory.rego"]})


def opa_without_any_policy(scene: Scene) -> None:
    """OPA was started while the cluster had none: the new one answers nobody and never gets ready."""
    held = policies(scene)
    policies(scene, **dict.fromkeys(held))
    rollout_of_opa("restart")

    def started() -> bool:
        found = [p for p in scene.api.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
                 if p["metadata"]["name"].startswith("sharedinfra-opa-")]  # fmt: skip
        running = [s for p in found for s in p["status"].get("containerStatuses", []) if "running" in s["state"]]
        return len(running) == len(found) == 2

    until("the new OPA runs beside the old one", started)
    policies(scene, **held)


def web(script: str) -> dict[str, Any]:
    """The application's Deployment, running a script."""
    image = "soma/sfmctl:0.1.0"
    container = {"name": "web", "image": image, "command": ["/opt/sfmctl/bin/python", "-c", script]}
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
    }  # fmt: skip


def pods_of_web(scene: Scene) -> list[dict[str, Any]]:
    return scene.api.items(f"{SPACE}/pods", labelSelector="app=web")


def pod_that_crashes(scene: Scene) -> None:
    scene.api.apply(f"{APPS}/deployments/web", web("import time; time.sleep(1e6)"))
    until("web is ready", lambda: (scene.api.get(f"{APPS}/deployments/web") or {})["status"].get("readyReplicas"))
    scene.api.apply(f"{APPS}/deployments/web", web(BROKEN))

    def crashed() -> bool:
        return any(s.get("lastState", {}).get("terminated") for p in pods_of_web(scene)
                   for s in p["status"].get("containerStatuses", []))  # fmt: skip

    until("the new pod crashes", crashed)


def namespace_terminating(scene: Scene) -> None:
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    scene.api.apply(f"{SPACE}/configmaps/held", held)
    scene.api.delete(SPACE)
    until("it is Terminating", lambda: (scene.api.get(SPACE) or {})["status"]["phase"] == "Terminating")


def api_unreachable(scene: Scene) -> None:
    subprocess.run(["docker", "pause", NODE], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken, the row that turns red for it, with which code, and what the row says to a person."""

    inject: Callable[[Scene], None]
    row: str
    code: str
    says: str
    status: str = "fail"
    then: tuple[str, ...] = ()


WIRED_ANEW = ("app", "wire", APP, "--env", "dev", "--cluster", CLUSTER, "--yes")
FAULTS = [
    Fault(pod_that_crashes, "app.pods", "SFM-K8S-009", "web-"),
    Fault(label_removed, "app.namespace", "SFM-APP-007", objects.ADMITS),
    Fault(secret_key_emptied, "app.secrets", "SFM-ESO-003", "REDIS_PASSWORD missing or empty"),
    Fault(policy_for_another_path, "app.vault", "SFM-VLT-017", f"secret/shared-infra/{APP}/dev"),
    Fault(
        policy_that_reaches_a_neighbour, "app.vault", "SFM-VLT-018", "secret/shared-infra/neighbour/dev is not denied"
    ),
    Fault(role_of_another_account, "app.vault", "SFM-VLT-016", f"role {APP}"),
    Fault(store_that_is_not_there, "app.secrets", "SFM-ESO-003", "secretStoreRef"),
    Fault(role_without_login, "app.database", "SFM-DB-004", "may not log in"),
    Fault(dsn_with_a_wrong_password, "app.database", "SFM-DB-005", "refused"),
    Fault(topic_deleted, "app.kafka", "SFM-KAF-015", f"{APP}.events.dlq"),
    Fault(topic_with_fewer_partitions, "app.kafka", "SFM-KAF-016", "1 partitions, wanted 3"),
    Fault(redis_password_changed, "app.redis", "SFM-RED-010", "refused"),
    Fault(redis_user_loosened, "app.redis", "SFM-RED-012", f"may read keys outside {APP}:*"),
    Fault(opa_without_its_policy, "opa.query", "SFM-OPA-002", "no package soma"),
    Fault(opa_without_any_policy, "opa.query", "SFM-OPA-002", "refuses every question"),
    Fault(broker_hangs, "kafka.brokers", "SFM-KAF-001", "sharedinfra-kafka-0"),
    Fault(
        broker_that_cannot_load_its_log, "kafka.brokers", "SFM-KAF-003", "'garbage' is not in the form", then=WIRED_ANEW
    ),
    Fault(vault_sealed, "vault.health", "SFM-VLT-001", "sharedinfra-vault-0 is sealed"),
    Fault(namespace_terminating, "app.namespace", "SFM-APP-015", "ConfigMap held (finalizers: example.com/hold)"),
    Fault(api_unreachable, "cluster.api", "SFM-K8S-001", "does not answer", status="error"),
]


@pytest.fixture
def scene(ledger: Ran) -> Iterator[Scene]:
    with Wired.on(CONTEXT, APP) as app:
        made = Scene(app)
        yield made
        made.api.delete("/api/v1/namespaces/neighbour")


def verify(sfmctl: Sfmctl, *more: str) -> tuple[Ran, dict[str, Row]]:
    """`sfmctl verify` of the application; the run, and its rows by id."""
    ran = sfmctl.run("verify", APP, "--env", "dev", "--cluster", CLUSTER, "-o", "json", *more, timeout_s=200)
    assert "checks" in ran.document, ran.out
    return ran, {row["id"]: row for row in ran.document["checks"]}


def environment(sfmctl: Sfmctl) -> dict[str, str]:
    """A person's: with our program on the PATH, and no default cluster, so that a hint has to name it."""
    env = {k: v for k, v in sfmctl.environment().items() if k not in ("SFM_CLUSTER", "SFM_CONTEXT")}
    return {**env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "TERM": "xterm"}


def commands(hint: str) -> list[str]:
    """The commands of a hint, without its code and without what stands in parentheses."""
    words = hint.partition(": ")[2]
    return [one.partition(" (")[0] for one in words.split(", then ")]


def explained(row: Row, root: str) -> bool:
    """Whether a row is well, or not asked because of the root (or of what the release does not have)."""
    if row["status"] in ("pass", "warn"):
        return True
    why = row["observed"]
    not_there = why.startswith(("the release has no ", "not deployed: "))
    return bool(row["status"] == "skip") and (not_there or why.partition(":")[0] == f"because of {root}")


def repair(sfmctl: Sfmctl) -> None:
    """Whatever a failed test leaves must not make the next ones fail: the node goes on, the rest is made anew."""
    subprocess.run(["docker", "unpause", NODE], capture_output=True, check=False)
    sfmctl.run("vault", "unseal", "--cluster", CLUSTER, stdin=unseal_key())
    with contextlib.closing(Writer(CONTEXT)) as api:
        api.delete(f"{APPS}/deployments/web")
        broker = api.get(f"/api/v1/namespaces/{NAMESPACE}/pods/sharedinfra-kafka-0")
        if broker and crashed(broker):  # it would not get ready, however often it is deployed
            api.delete(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/data-sharedinfra-kafka-0")
            api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/sharedinfra-kafka-0")
    sfmctl.run("deploy", "--cluster", CLUSTER, *sfmctl.values, "--yes", timeout_s=400)
    sfmctl.run("app", "wire", APP, "--env", "dev", "--cluster", CLUSTER, "--yes", timeout_s=400)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.inject.__name__)
def test_a_fault_turns_its_row_red_and_its_hint_mends_it(fault: Fault, scene: Scene, sfmctl: Sfmctl) -> None:
    try:
        fault.inject(scene)
        ran, rows = verify(sfmctl)
        seen = {name: (row["status"], row["observed"], row["hint"]) for name, row in rows.items()}
        red = rows[fault.row]
        assert red["status"] == fault.status, seen
        assert red["hint"].startswith(f"{fault.code}: "), seen
        assert fault.says in red["observed"], seen
        wrong = [name for name, row in rows.items() if name != fault.row and not explained(row, fault.row)]
        assert not wrong, {name: seen[name] for name in wrong}
        assert ran.code == (3 if fault.status == "fail" else 5)
        assert red["doc"].partition("#")[2].startswith(fault.code.lower())
        for command in commands(red["hint"]):
            done = typed(command, env=environment(sfmctl), cwd=ROOT, answers=scene.answers)
            assert done.code == 0, f"{command}\n{done.screen}"
        if fault.then:
            ran = sfmctl.run(*fault.then, timeout_s=400)
            assert ran.code == 0, ran.err
        ran, rows = verify(sfmctl, "--only", fault.row)
        assert ran.code == 0, [(n, r["observed"]) for n, r in rows.items() if r["status"] in ("fail", "error")]
        assert rows[fault.row]["status"] == "pass"
    except BaseException:
        repair(sfmctl)
        raise


def test_after_all_of_it_the_whole_matrix_is_green(ledger: Ran, sfmctl: Sfmctl) -> None:
    ran, rows = verify(sfmctl)
    assert ran.code == 0, {n: (r["observed"], r["hint"]) for n, r in rows.items() if r["status"] in ("fail", "error")}
    asked = {name for name, row in rows.items() if row["status"] in ("pass", "warn")}
    assert asked >= {fault.row for fault in FAULTS} | {"app.inside", "app.settings"}
    assert ran.document["duration_ms"] >= max(row["duration_ms"] for row in rows.values())
