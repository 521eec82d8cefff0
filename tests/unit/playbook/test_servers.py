"""What servers say, and whether it is as it should be: judged from recorded answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playbook.actions import servers, waiting
from playbook.actions.postgres import NodeView, judge_nodes, judge_pgpool
from playbook.actions.servers import judge_etcd, judge_kafka, judge_redis, judge_vault
from playbook.actions.workloads import Unready
from playbook.check import Probe
from playbook.model import Status
from playbook.target import Target
from sfmctl.playrun import probing
from testing.api import Api, serving
from tests.unit.wiring.conftest import DEV

P0, P1 = "sharedinfra-postgres-0", "sharedinfra-postgres-1"


def registered(primary: str, *standbys: str) -> tuple[dict[str, Any], ...]:
    nodes = [{"name": primary, "type": "primary", "active": True}]
    return (*nodes, *({"name": s, "type": "standby", "active": True} for s in standbys))


def primary_view(lag: int = 0, **more: Any) -> NodeView:
    followers = ({"name": P1, "state": "streaming", "lag": lag},)
    return NodeView(P0, followers=followers, **({"nodes": registered(P0, P1)} | more))


def standby_view(**more: Any) -> NodeView:
    return NodeView(P1, standby=True, **({"streaming": True, "nodes": registered(P0, P1)} | more))


def test_nodes_that_agree_pass() -> None:
    status, observed = judge_nodes([primary_view(), standby_view()], 2)[:2]
    assert status is Status.PASS
    assert P0 in observed


@pytest.mark.parametrize(
    ("views", "says"),
    [
        ([primary_view()], "1 of 2 nodes"),
        ([primary_view(), NodeView(P1, problem="psql: could not connect")], "could not connect"),
        ([primary_view(), NodeView(P1, nodes=registered(P1, P0))], "2 nodes say that they are the primary"),
        ([standby_view(), standby_view()], "0 nodes say"),
        ([primary_view(), standby_view(nodes=registered(P1, P0))], f"takes {P1} for the primary"),
        ([primary_view(), standby_view(streaming=False)], "not streaming"),
        ([primary_view(nodes=registered(P0)), standby_view()], f"does not know {P1}"),
    ],
)
def test_nodes_that_disagree_fail_and_say_how(views: list[NodeView], says: str) -> None:
    verdict = judge_nodes(views, 2)
    assert verdict[0] is Status.FAIL
    assert says in verdict[1]


def test_a_standby_far_behind_warns() -> None:
    verdict = judge_nodes([primary_view(lag=10**9), standby_view()], 2)
    assert verdict[0] is Status.WARN
    assert "1000000000 bytes behind" in verdict[1]


def test_pgpool_must_have_the_one_primary_up_and_real() -> None:
    assert judge_pgpool([("a.b", "up", "primary", "primary"), ("c.b", "up", "standby", "standby")])[0] is Status.PASS
    assert judge_pgpool([("a.b", "up", "standby", "standby")])[0] is Status.FAIL
    assert judge_pgpool([("a.b", "down", "primary", "primary")])[0] is Status.FAIL
    assert judge_pgpool([("a.b", "up", "primary", "standby"), ("c.b", "up", "standby", "primary")])[0] is Status.FAIL
    verdict = judge_pgpool([("a.b", "up", "primary", "primary"), ("c.b", "down", "standby", "standby")])
    assert verdict[0] is Status.WARN
    assert "c" in verdict[1]


def test_kafka_wants_its_brokers_a_controller_and_every_partition_led_and_in_sync() -> None:
    assert judge_kafka(3, 3, 1, [("t/0", 0, 3, 3)])[0] is Status.PASS
    assert judge_kafka(2, 3, 1, [])[2:] == ("SFM-KAF-002",)
    assert judge_kafka(3, 3, -1, [])[0] is Status.FAIL
    assert judge_kafka(3, 3, 1, [("t/0", -1, 3, 2)])[0] is Status.FAIL
    assert judge_kafka(3, 3, 1, [("t/0", 0, 3, 2)])[0] is Status.WARN


def test_redis_wants_pong_from_all_and_one_master() -> None:
    assert judge_redis({"r-0": ("PONG", "master"), "r-1": ("PONG", "slave")}, 2)[0] is Status.PASS
    loading = judge_redis({"r-0": ("LOADING Redis is loading the dataset in memory", "")}, 1)
    assert (loading[0], loading[2:]) == (Status.FAIL, ("SFM-RED-002",))
    assert judge_redis({"r-0": ("", "")}, 1)[0] is Status.FAIL
    assert judge_redis({"r-0": ("PONG", "master"), "r-1": ("PONG", "master")}, 2)[0] is Status.FAIL
    assert judge_redis({"r-0": ("PONG", "master")}, 3)[0] is Status.FAIL


def test_vault_must_be_open_everywhere_and_active_once() -> None:
    well = {"initialized": True, "sealed": False, "standby": False, "version": "2.7.2"}
    assert judge_vault({"v-0": well, "v-1": well | {"standby": True}}, 2)[0] is Status.PASS
    sealed = judge_vault({"v-0": well | {"sealed": True}}, 1)
    assert (sealed[0], sealed[2:]) == (Status.FAIL, ("SFM-VLT-001",))
    assert "not initialised" in judge_vault({"v-0": {"initialized": False, "sealed": True}}, 1)[1]
    assert judge_vault({"v-0": well, "v-1": well}, 2)[0] is Status.FAIL


def test_etcd_wants_every_member() -> None:
    assert judge_etcd({"e-0": (200, '{"health":"true"}')}, 1)[0] is Status.PASS
    assert judge_etcd({"e-0": (503, '{"health":"false"}')}, 1)[0] is Status.FAIL
    assert judge_etcd({"e-0": (200, '{"health":"true"}')}, 3)[0] is Status.FAIL


RECORDED = Path(__file__).parent / "recorded"
"""What Kafka 3.8.0 wrote as it started on a file that it may not read, on somebody else's folder, and on records
that it cuts off and goes on without."""
BROKER, CORE = "sharedinfra-kafka-0", "/api/v1/namespaces/soma-infra"


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Api, Probe]]:
    """A cluster whose one broker ends as it starts, and what looks at it."""
    monkeypatch.setenv("SFM_KAFKA_ADMIN_PASSWORD", "admin")
    kubeconfig = tmp_path / "kubeconfig"
    labels = {"app.kubernetes.io/name": "kafka", "app.kubernetes.io/instance": "sharedinfra"}
    ended = {"name": "kafka", "ready": False, "restartCount": 1, "state": {"running": {}},
             "lastState": {"terminated": {"exitCode": 1}}}  # fmt: skip
    status = {"phase": "Running", "containerStatuses": [ended]}
    with serving(kubeconfig, "kind-soma") as api:
        api.put(f"{CORE}/configmaps", {"metadata": {"name": "sharedinfra-endpoints"}, "data": DEV})
        api.put("/apis/apps/v1/namespaces/soma-infra/statefulsets",
                {"metadata": {"name": "sharedinfra-kafka"}, "spec": {"replicas": 1}})  # fmt: skip
        api.put(f"{CORE}/pods", {"metadata": {"name": BROKER, "labels": labels}, "status": status})
        with probing(Target(kubeconfig=kubeconfig)) as probe:
            yield api, probe


def logged(api: Api, name: str) -> None:
    """The broker was just started again; what it wrote before it ended is the log of the container before."""
    log = f"{CORE}/pods/{BROKER}/log"
    api.texts[log] = "INFO starting again (kafka)\n"
    api.texts[f"{log}?previous"] = (RECORDED / f"kafka-{name}.txt").read_text()


def backs_off(api: Api) -> None:
    """The broker is not started again yet: the log of its container is that of its end."""
    log, status = f"{CORE}/pods/{BROKER}/log", api.objects[f"{CORE}/pods/{BROKER}"]["status"]
    status["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    api.texts[log] = api.texts.pop(f"{log}?previous")


@pytest.mark.parametrize(
    ("name", "says"),
    [("unreadable", "java.io.IOException: Could not read file /data/kafka/t-0/00000000000000000000.log"),
     ("garbage", "KafkaException: Found directory /data/kafka/garbage, 'garbage' is not in the form of")],
)  # fmt: skip
def test_a_broker_that_stops_over_its_log_folder_is_told_as_that_with_the_commands(
    crashing: tuple[Api, Probe], name: str, says: str
) -> None:
    api, probe = crashing
    logged(api, name)
    status, observed, code, mend = servers.kafka(probe, {})[:4]  # type: ignore[misc]
    backs_off(api)
    assert servers.kafka(probe, {}) == (status, observed, code, mend)
    assert (status, code) == (Status.FAIL, "SFM-KAF-003")
    assert observed.startswith(f"{BROKER} stops as it loads its log folder: ") and says in observed
    assert mend.startswith(f"kubectl -n soma-infra delete persistentvolumeclaim data-{BROKER} ")
    assert f", then kubectl -n soma-infra delete pod {BROKER}, then " in mend
    one = Unready("StatefulSet", "sharedinfra-kafka", 0, 1, "", "SFM-K8S-009", BROKER, "kafka", previous=True)
    trouble = waiting.terminal_trouble(probe.seen.reader, "soma-infra", [one])
    assert trouble is not None and trouble.code == "SFM-KAF-003" and says in trouble.why


def test_a_broker_that_stops_for_another_reason_is_told_with_its_words_and_not_restarted(
    crashing: tuple[Api, Probe],
) -> None:
    api, probe = crashing
    logged(api, "cut-off")
    status, observed, code, mend = servers.kafka(probe, {})[:4]  # type: ignore[misc]
    assert (status, code) == (Status.FAIL, "SFM-K8S-009")
    assert observed.startswith(f"{BROKER} stops as it starts: ")
    assert mend.startswith(f"kubectl -n soma-infra logs {BROKER} --previous ")
