"""The mode table, cell by cell, as the rendered objects have it."""

import pytest

from testing.charts import MODES

# mode: Postgres, Pgpool, synchronous, size | Redis, sentinels, size | Kafka, RF, min ISR, size | Vault, size | OPA |
#       etcd | Prometheus and Grafana | partitions, hours | storage class | TLS. A size of None is ephemeral.
TABLE = {
    "dev": (1, 1, 0, "8Gi", 1, 0, "2Gi", 1, 1, 1, "5Gi", 1, None, 1, 1, True, 3, 72, None, False),
    "test": (1, 1, 0, None, 1, 0, None, 1, 1, 1, None, 1, None, 1, 1, False, 1, 1, None, False),
    "staging": (2, 2, 0, "20Gi", 2, 3, "10Gi", 3, 3, 2, "50Gi", 3, "20Gi", 1, 3, True, 6, 72, "premium-rwo", True),
    "prod-lite": (2, 2, 0, "20Gi", 2, 3, "8Gi", 3, 3, 2, "40Gi", 3, "20Gi", 1, 3, True, 6, 72, "premium-rwo", True),
    "prod": (3, 3, 1, "100Gi", 3, 3, "50Gi", 3, 3, 2, "200Gi", 3, "50Gi", 2, 3, True, 12, 168, "premium-rwo", True),
}


def replicas(charts, objects, kind, name):
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == f"sharedinfra-{name}"]
    return found[0]["spec"]["replicas"] if found else 0


def claims(charts, objects, name):
    return charts.one(objects, "StatefulSet", name)["spec"].get("volumeClaimTemplates", [])


def size(charts, objects, name):
    found = claims(charts, objects, name)
    return found[0]["spec"]["resources"]["requests"]["storage"] if found else None


def env(charts, objects, name, variable):
    (container,) = charts.one(objects, "StatefulSet", name)["spec"]["template"]["spec"]["containers"]
    return {e["name"]: e.get("value") for e in container["env"]}[variable]


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_its_column_of_the_table(charts, mode):
    objects = charts.render(mode)
    ends = charts.one(objects, "ConfigMap", "endpoints")["data"]
    classes = {
        o["spec"]["volumeClaimTemplates"][0]["spec"].get("storageClassName")
        for o in objects
        if o["kind"] == "StatefulSet" and "volumeClaimTemplates" in o["spec"]
    }
    assert len(classes) <= 1
    assert (
        replicas(charts, objects, "StatefulSet", "postgres"),
        replicas(charts, objects, "Deployment", "postgres-pgpool"),
        int(env(charts, objects, "postgres", "SYNCHRONOUS_STANDBYS")),
        size(charts, objects, "postgres"),
        replicas(charts, objects, "StatefulSet", "redis"),
        replicas(charts, objects, "StatefulSet", "redis-sentinel"),
        size(charts, objects, "redis"),
        replicas(charts, objects, "StatefulSet", "kafka"),
        int(env(charts, objects, "kafka", "REPLICATION_FACTOR")),
        int(env(charts, objects, "kafka", "MIN_ISR")),
        size(charts, objects, "kafka"),
        replicas(charts, objects, "StatefulSet", "vault"),
        size(charts, objects, "vault"),
        replicas(charts, objects, "Deployment", "opa"),
        replicas(charts, objects, "StatefulSet", "etcd"),
        replicas(charts, objects, "StatefulSet", "prometheus") == 1
        and replicas(charts, objects, "StatefulSet", "grafana") == 1,
        int(ends["KAFKA_TOPIC_PARTITIONS"]),
        int(ends["KAFKA_TOPIC_RETENTION_HOURS"]),
        next(iter(classes), None),
        ends["TLS_ENABLED"] == "true",
    ) == TABLE[mode]


@pytest.mark.parametrize("mode", MODES)
def test_prometheus_and_grafana_come_together(charts, mode):
    objects = charts.render(mode)
    assert replicas(charts, objects, "StatefulSet", "prometheus") == replicas(charts, objects, "StatefulSet", "grafana")


def test_nothing_is_kept_in_mode_test(charts):
    objects = charts.render("test")
    assert [o for o in objects if o["kind"] == "PersistentVolumeClaim"] == []
    assert all("volumeClaimTemplates" not in o["spec"] for o in objects if o["kind"] == "StatefulSet")


@pytest.mark.parametrize("mode", ["staging", "prod-lite", "prod"])
def test_vault_is_raft_with_tls_where_it_counts(charts, mode):
    objects = charts.render(mode)
    hcl = charts.one(objects, "ConfigMap", "vault")["data"]["vault.hcl"]
    assert 'storage "raft"' in hcl
    assert 'tls_cert_file = "/tls/tls.crt"' in hcl
    assert hcl.count("retry_join") == 3
    (container,) = charts.one(objects, "StatefulSet", "vault")["spec"]["template"]["spec"]["containers"]
    assert "-dev" not in container["command"]


@pytest.mark.parametrize("mode", MODES)
def test_every_pod_has_probes_resources_and_a_disruption_budget(charts, mode):
    objects = charts.render(mode, "--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")
    budgets = [o["spec"]["selector"]["matchLabels"] for o in objects if o["kind"] == "PodDisruptionBudget"]
    for o in objects:
        if o["kind"] not in ("Deployment", "StatefulSet"):
            continue
        labels = o["spec"]["template"]["metadata"]["labels"]
        assert sum(b.items() <= labels.items() for b in budgets) == 1, o["metadata"]["name"]
        for c in o["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= c.keys(), c["name"]
            assert c["livenessProbe"] != c["readinessProbe"], "liveness must not ask what readiness asks"
            assert c["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in c["resources"]["limits"]


@pytest.mark.parametrize("name", ["postgres", "kafka"])
def test_a_start_that_would_begin_anew_has_hours(charts, name):
    (container,) = charts.one(charts.render("prod"), "StatefulSet", name)["spec"]["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 4 * 3600
    assert probe["periodSeconds"] <= 3  # and is noticed at once when it is done


def test_replicas_stay_apart(charts):
    for mode, key in (
        ("staging", "preferredDuringSchedulingIgnoredDuringExecution"),
        ("prod", "requiredDuringSchedulingIgnoredDuringExecution"),
    ):
        for o in charts.render(mode):
            if o["kind"] in ("Deployment", "StatefulSet") and o["spec"]["replicas"] > 1:
                assert key in o["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"], o["metadata"]["name"]


def test_a_rollout_needs_no_node_more_than_there_are_replicas(charts):
    for mode in MODES:
        rollouts = [
            (
                o["spec"]["strategy"]["rollingUpdate"],
                "requiredDuring" in str(o["spec"]["template"]["spec"].get("affinity")),
            )
            for o in charts.render(mode)
            if o["kind"] == "Deployment"
        ]
        assert len(rollouts) >= 2
        for rollout, apart in rollouts:
            assert rollout == {"maxUnavailable": int(apart), "maxSurge": int(not apart)}
    assert apart  # the last mode is prod, where replicas are kept apart


@pytest.mark.parametrize("mode", ["staging", "prod-lite", "prod"])
def test_a_postgres_node_has_memory_for_every_session_that_pgpool_may_open(charts, mode):
    objects = charts.render(mode)
    pgpool = charts.one(objects, "Deployment", "postgres-pgpool")["spec"]
    given = {e["name"]: e.get("value") for e in pgpool["template"]["spec"]["containers"][0]["env"]}
    sessions = pgpool["replicas"] * (int(given["NUM_INIT_CHILDREN"]) + 2) * int(given["MAX_POOL"])
    (node,) = charts.one(objects, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    limit = node["resources"]["limits"]["memory"]
    mib = int(limit[:-2]) * {"Mi": 1, "Gi": 1024}[limit[-2:]]
    assert (mib - 128) / sessions >= 8  # beside the shared buffers


def test_parallel_queries_share_memory_up_to_the_limit_of_the_pod(charts):
    for mode in MODES:
        spec = charts.one(charts.render(mode), "StatefulSet", "postgres")["spec"]["template"]["spec"]
        (name,) = [m["name"] for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/dev/shm"]  # noqa: S108
        assert {"name": name, "emptyDir": {"medium": "Memory"}} in spec["volumes"]


def test_kafka_knows_all_its_voters(charts):
    voters = env(charts, charts.render("prod"), "kafka", "QUORUM_VOTERS").split(",")
    assert [v.split("@")[0] for v in voters] == ["0", "1", "2"]
    assert all(v.endswith(".sharedinfra-kafka-hl.soma-infra.svc.cluster.local:9093") for v in voters)


def test_pgpool_knows_every_postgres_node_by_its_repmgr_name(charts):
    (container,) = charts.one(charts.render("prod"), "Deployment", "postgres-pgpool")["spec"]["template"]["spec"][
        "containers"
    ]
    backends = {e["name"]: e.get("value") for e in container["env"]}["BACKENDS"].split(",")
    assert [b.split("=")[0] for b in backends] == [f"sharedinfra-postgres-{n}" for n in range(3)]
    assert all(b.split("=")[1].startswith(b.split("=")[0] + ".sharedinfra-postgres-hl.") for b in backends)
