"""A server that somebody else runs is told about and left alone; what is ours is wired all the same."""

import contextlib
import json
import socketserver
import threading

import hvac
import psycopg
import pytest
import redis as client

from playbook import plan as planning
from playbook.check import Probe
from playbook.facts import Observer, observe_group
from playbook.load import packaged
from playbook.model import Verdict
from playbook.shell import Shell
from playbook.target import Target
from playbook.wiring import checks, postgres, probe_job, redis, vault
from playbook.wiring.application import application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach
from sfmctl import app
from testing.api import serving
from tests.unit.wiring.conftest import DEV

APP = application("shop", "dev")
CONFIG_MAPS = "/api/v1/namespaces/soma-infra/configmaps"
KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "b-1.example:9096,b-2.example:9096", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}


@pytest.fixture
def api(tmp_path):
    """A server that answers as a cluster's API server and as a Vault would."""
    with serving(tmp_path / "kubeconfig", "prod-eu") as made:
        yield made


@pytest.fixture
def published(api, tmp_path):
    """A cluster that publishes DEV with what a test lays over it; gives the target that is about it."""

    def publish(**other):
        api.objects["/version"] = {"gitVersion": "v1.31.0"}
        api.put("/api/v1/namespaces", {"metadata": {"name": "kube-system", "uid": "one"}})
        api.put(CONFIG_MAPS, {"metadata": {"name": "sharedinfra-endpoints"}, "data": DEV | other})
        return Target(context="prod-eu", kubeconfig=tmp_path / "kubeconfig", app=APP)

    return publish


def planned(aim, group, *steps):
    """What a plan says about some steps, from one group of facts as it is observed."""
    seen = Observer(aim, packaged())
    try:
        facts = observe_group(seen, group)
    finally:
        seen.forget()
    return [planning.verdict(packaged().steps[step], facts, False) for step in steps]


def test_a_kafka_that_is_run_elsewhere_is_reported_and_left_alone(published):
    items = planned(published(**KAFKA), "app.kafka", "app.kafka", "app.topics", "app.remove_kafka", "app.erase_topics")
    assert {item.verdict for item in items} == {Verdict.SKIP}
    assert all(item.why.startswith("app.kafka.elsewhere is b-1.example, whose operator makes") for item in items)


def test_what_the_operator_of_another_kafka_has_to_make_is_named(published, capsys):
    kubeconfig = published(**KAFKA).kubeconfig
    asked = ["topics", "plan", "shop", "--context", "prod-eu", "--kubeconfig", str(kubeconfig), "--exit-code"]
    assert app.run([*asked, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["elsewhere"], found["user"], found["changes"]) == ("b-1.example", "shop", 0)
    assert {t["topic"]: (t["action"], t["wanted"]["partitions"]) for t in found["topics"]} == {
        "shop.events": ("elsewhere", 3), "shop.events.dlq": ("elsewhere", 3),
    }  # fmt: skip
    assert "READ on TOPIC shop.*" in found["acls"]
    assert app.run(asked) == 0
    said = capsys.readouterr().out
    assert "its operator makes these topics" in said and "secret/shared-infra/shop/dev" in said


def verdict(aim, ask, code):
    """The row about one question, to which the Job's answer was a failure with this code."""
    probe = Probe(aim, packaged(), Observer(aim, packaged()), Shell())
    failed = {"status": "fail", "observed": "it was not as it should be", "code": code, "ms": 5}
    probe.kept[checks.ANSWERS] = probe_job.Answers({ask: failed}, 0, 5)
    try:
        return checks.found_inside(probe, {"ask": ask})
    finally:
        probe.close()


@pytest.mark.parametrize(("names", "code"), [(KAFKA, "SFM-KAF-014"), ({}, "SFM-KAF-015")])
def test_a_topic_that_lacks_is_ours_to_make_only_in_our_kafka(published, names, code):
    assert verdict(published(**names), "kafka", "SFM-KAF-015")[2] == code


OTHERS = {"POSTGRES_HOST": "db.example", "REDIS_HOST": "cache.example", "VAULT_ADDR": "https://vault.example:8200"}
DOWN = [("database", "SFM-DB-001", "db"), ("redis", "SFM-RED-001", "cache"), ("vault", "SFM-VLT-002", "vault")]


@pytest.mark.parametrize(("ask", "code", "name"), DOWN)
def test_for_a_server_that_is_run_elsewhere_nobody_is_sent_to_ours(published, ask, code, name):
    _, _, told, mend, _ = verdict(published(**OTHERS), ask, code)
    assert told == code
    assert mend.startswith("sfmctl app show APP --env ENV (") and f"at {name}.example:" in mend
    assert verdict(published(), ask, code)[3] == ""


def test_a_run_that_only_skips_says_why(published, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    aim = published(**KAFKA)
    app.run(["topics", "apply", "shop", "--context", "prod-eu", "--kubeconfig", str(aim.kubeconfig)])
    said = " ".join(capsys.readouterr().out.split())
    assert "app.topics is skipped: app.kafka.elsewhere is b-1.example, whose operator makes" in said


THEIRS = "https://10.0.0.1:6443"


def mounted(api, *, auth=True, asks=THEIRS, kv="2"):
    """Put on the server what a Vault says of its mounts, as Vault words it."""
    api.objects["/v1/sys/leader"] = {"ha_enabled": False}
    api.objects["/v1/sys/mounts"] = {"data": {"secret/": {"type": "kv", "options": {"version": kv}}}}
    api.objects["/v1/sys/auth"] = {"data": {"kubernetes/": {"type": "kubernetes"}} if auth else {}}
    if asks:
        api.objects["/v1/auth/kubernetes/config"] = {"data": {"kubernetes_host": asks}}


def test_an_auth_method_that_somebody_configured_is_never_turned_to_this_cluster(api):
    mounted(api)
    client = hvac.Client(url=api.url, token="t")
    assert vault.mounts_wanting(client) == []
    vault.make_mounts(client)
    assert [asked for asked in api.asked if asked[0] != "GET"] == []


def test_an_auth_method_that_nobody_configured_is_wanting_and_gets_its_reviewer(api):
    mounted(api, asks="")
    client = hvac.Client(url=api.url, token="t")
    assert vault.mounts_wanting(client) == ["Kubernetes auth knows no reviewer"]
    api.answer = (204, {})
    vault.make_mounts(client)
    [(method, path, body)] = [asked for asked in api.asked if asked[0] != "GET"]
    assert (method, path) == ("POST", "/v1/auth/kubernetes/config")
    assert json.loads(body)["kubernetes_host"] == vault.REVIEWER


@pytest.fixture
def outside(api, published, monkeypatch):
    """A cluster whose Vault is run elsewhere, with a token for it."""
    monkeypatch.setenv("VAULT_TOKEN", "a-token")
    return published(VAULT_ADDR=api.url)


def test_the_mounts_of_a_vault_that_is_run_elsewhere_are_reported_and_left_alone(api, outside):
    mounted(api)
    mounts, role, secrets = planned(outside, "app.secrets", "app.mounts", "app.role", "app.secrets")
    assert mounts.verdict is Verdict.SKIP
    assert mounts.why.endswith(f"127.0.0.1, whose owner keeps secret/ and auth/kubernetes (which asks {THEIRS})")
    assert (role.verdict, secrets.verdict) == (Verdict.DO, Verdict.DO)


@pytest.mark.parametrize(
    ("lacks", "why"),
    [
        ({"auth": False}, "Kubernetes auth is off"),
        ({"asks": ""}, "Kubernetes auth knows no reviewer"),
        ({"kv": "1"}, "no KV version 2"),
    ],
)
def test_a_vault_that_is_run_elsewhere_is_not_made_ready_by_us(api, outside, lacks, why):
    mounted(api, **lacks)
    for item in planned(outside, "app.secrets", "app.mounts", "app.role"):
        assert (item.verdict, item.code) == (Verdict.REFUSED, "SFM-VLT-020")
        assert why in item.why


def bound(api, namespace):
    """Put on the server a role of the application that lets this namespace in."""
    mounted(api)
    api.objects["/v1/auth/kubernetes/role/shop"] = {"data": {"bound_service_account_namespaces": [namespace]}}


@pytest.mark.parametrize("command", [("wire",), ("unwire",), ("unwire", "--delete-data")])
def test_an_application_that_is_wired_into_another_namespace_is_not_touched_in_this_one(api, outside, capsys, command):
    bound(api, "shops")
    labels = {"app.kubernetes.io/part-of": "shop"}
    api.put("/api/v1/namespaces/shops/configmaps", {"metadata": {"name": "sharedinfra-endpoints", "labels": labels}})
    verb, *more = command
    aim = ["--context", "prod-eu", "--kubeconfig", str(outside.kubeconfig), "--yes", "-o", "json"]
    allow = ["--allow-context", "prod-eu"] if verb == "unwire" else []
    assert app.run(["app", verb, "shop", *more, *aim, *allow]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["why"]) == (
        "SFM-APP-021", "app.elsewhere is shop is wired into the namespace shops (--namespace shops)",
    )  # fmt: skip
    assert {method for method, *_ in api.asked} == {"GET"}


@pytest.mark.parametrize("namespace", ["shop", "gone"])
def test_a_role_for_this_namespace_or_for_one_without_the_application_stands_in_nobodys_way(api, outside, namespace):
    bound(api, namespace)
    place, role = planned(outside, "app.secrets", "app.place", "app.role")
    assert (place.verdict, role.verdict) == (Verdict.DONE, Verdict.DO)


@contextlib.contextmanager
def listening():
    """A server that keeps the first bytes of what each client says, and hangs up."""
    said = []

    class Keep(socketserver.BaseRequestHandler):
        def handle(self):
            said.append(self.request.recv(8))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1], said
        finally:
            server.shutdown()
            thread.join()


SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
HANDSHAKE = b"\x16"


@pytest.mark.parametrize("infra", ["dev", "staging"])
@pytest.mark.parametrize("tls", [True, False])
def test_a_server_that_is_run_elsewhere_is_spoken_to_as_it_asks_whatever_ours_do(infra, tls, request):
    ours = request.getfixturevalue(infra)
    with listening() as (port, said):
        names = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(port), "REDIS_HOST": "127.0.0.1",
                 "REDIS_PORT": str(port), "REDIS_URL": f"redis{'s' * tls}://127.0.0.1:{port}",
                 "POSTGRES_SSLMODE": "verify-full" if tls else "disable"}  # fmt: skip
        at, reach = Endpoints({**ours.values, **names}, "soma-infra", ours.ca), Reach(Target(), None)
        with pytest.raises(psycopg.OperationalError), postgres.connected(reach, at, "shop", "shop", "x"):
            pass
        assert (said[0] == SSL_REQUEST) is tls
        said.clear()
        with pytest.raises(client.RedisError), redis.connected(reach, at, "", "shop", "x") as one:
            one.role()
        assert (said[0][:1] == HANDSHAKE) is tls
