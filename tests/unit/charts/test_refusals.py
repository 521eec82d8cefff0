"""Values that render but cannot work in a cluster are refused, with the reason and what to set instead."""

import pytest

from testing.api import serving
from testing.charts import NAMESPACE, RELEASE, Refused

GROUPS = {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
VERSIONS = {"kind": "APIVersions", "versions": ["v1"]}
SETS = {
    "name": "statefulsets",
    "singularName": "statefulset",
    "namespaced": True,
    "kind": "StatefulSet",
    "verbs": ["get"],
}
SECRETS = {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret", "verbs": ["get"]}


@pytest.fixture
def running(tmp_path):
    """A function that puts a StatefulSet of the release into an API server, and gives helm the options to ask it."""
    kubeconfig = tmp_path / "kubeconfig"
    with serving(kubeconfig, "here") as api:

        def run(name, replicas):
            api.objects["/version"] = {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
            api.objects |= {"/api": VERSIONS, "/apis": GROUPS}
            for version, resource in (("/apis/apps/v1", SETS), ("/api/v1", SECRETS)):
                kinds = {"kind": "APIResourceList", "groupVersion": version.split("/", 2)[2], "resources": [resource]}
                api.objects[version] = kinds
            here = {"metadata": {"name": f"{RELEASE}-{name}", "namespace": NAMESPACE}, "spec": {"replicas": replicas}}
            api.put(f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
                    {"apiVersion": "apps/v1", "kind": "StatefulSet"} | here)  # fmt: skip
            return "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", str(kubeconfig)

        yield run


@pytest.mark.parametrize("name", ["etcd", "kafka"])
def test_a_quorum_is_not_resized_by_a_number(charts, running, name):
    more = f"{name}.replicas=3"
    with pytest.raises(Refused, match=rf"{name}.replicas is 3, but this release runs 1.*keep {name}.replicas=1"):
        charts.text("dev", *running(name, 1), "--set", more)
    charts.text("dev", *running(name, 1))
    charts.text("dev", *running(name, 0), "--set", more)
    charts.text("dev", *running(name, 1), "--set", f"{more},{name}.persistence.ephemeral=true")
    charts.text("dev", "--set", more)


def test_an_etcd_member_may_join_what_is_there(charts, running):
    joining = ("--set", "etcd.replicas=3,etcd.initialClusterState=existing")
    for given, state in ((joining, "existing"), ((), "new")):
        (member,) = charts.one(charts.render("dev", *given), "StatefulSet", "etcd")["spec"]["template"]["spec"][
            "containers"
        ]
        assert f"--initial-cluster-state={state}" in member["command"]
    charts.text("dev", *running("etcd", 1), *joining)


@pytest.mark.parametrize("mode", ["staging", "prod"])
def test_several_postgres_nodes_need_something_that_leads_to_the_primary(charts, mode):
    with pytest.raises(Refused, match="without Pgpool nothing leads to the primary"):
        charts.text(mode, "--set", "pgpool.enabled=false")
    given = "pgpool.enabled=false,pgpool.external.host=pool.example"
    ends = charts.one(charts.render(mode, "--set", given), "ConfigMap", "endpoints")["data"]
    assert ends["POSTGRES_HOST"] == "pool.example"
    charts.render(mode, "--set", "pgpool.enabled=false,global.postgresNodes=1,postgres.synchronousStandbys=0")


@pytest.mark.parametrize(
    ("mode", "given", "said"),
    [
        ("prod", "redis.sentinel.quorum=4", "quorum is 4 of 3 sentinels.* set it to 2"),
        ("staging", "redis.sentinel.quorum=0", "quorum is 0 of 3 sentinels"),
        ("staging", "postgres.synchronousStandbys=2", "beside the primary there are 1 nodes"),
        ("dev", "postgres.synchronousStandbys=1", "beside the primary there are 0 nodes"),
        (
            "prod",
            "postgres.maxConnections=213",
            r"pgpool may open 204 connections \(replicas x \(numInitChildren \+ 2\)",
        ),
        ("dev", "global.postgresNodes=0", "global/postgresNodes"),
        ("dev", "redis.maxmemory=200mb", "redis.maxmemory gives the server 200mb, but the limit of its pod is 256Mi"),
        ("dev", "redis.maxmemory=8GB", "redis.maxmemory"),
        ("dev", "redis.maxmemory=0", "redis/maxmemory"),
        ("dev", "redis.maxmemory=2Gi", "redis/maxmemory"),
        ("dev", "redis.resources.limits.memory=150M", "redis.maxmemory"),
        ("dev", "redis.resources.limits.memory=150000000", "redis.maxmemory"),
        ("dev", "kafka.heapOpts=-Xmx8g", "kafka.heapOpts gives the server 8g, but the limit of its pod is 640Mi"),
        ("dev", "kafka.heapOpts=-Xmx256m -Xmx640m", "kafka.heapOpts gives the server 640m"),
        ("staging", "global.tls.enabled=false,vault.enabled=false,vault.external.address=v", "in clear.* mode staging"),
        ("prod", "global.tls.enabled=false,vault.enabled=false,vault.external.address=v", "in clear.* mode prod"),
    ],
)
def test_what_would_hang_or_be_killed_is_refused(charts, mode, given, said):
    with pytest.raises(Refused, match=said):
        charts.text(mode, "--set", given)


@pytest.mark.parametrize("component", ["postgres", "redis", "kafka", "etcd", "qdrant"])
def test_data_is_kept_from_staging_on(charts, component):
    given = ("--set", f"{component}.enabled=true,{component}.persistence.ephemeral=true")
    for mode in ("staging", "prod-lite", "prod"):
        with pytest.raises(Refused, match=rf"{component}.persistence.ephemeral .* not in mode {mode}"):
            charts.text(mode, *given)
    charts.render("dev", *given)


def test_what_fits_and_can_be_confirmed_is_let_in(charts):
    charts.render("dev", "--set", "redis.maxmemory=192mb,kafka.heapOpts=-Xms64m -Xmx480m")
    charts.render("dev", "--set", "redis.resources.limits.memory=null,redis.maxmemory=8gb,kafka.heapOpts=-server")
    charts.render("staging", "--set", "postgres.synchronousStandbys=1,redis.sentinel.quorum=3")
    charts.render("prod", "--set", "postgres.synchronousStandbys=2")
