"""Values: a misspelt key is refused, every image and service can be replaced, and the reference is what they say."""

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml

from playbook.actions.image_names import mirrored
from testing.charts import HELM, MODES, ROOT, Refused, containers, unresolved

COMPONENTS = [d["name"] for d in yaml.safe_load((HELM / "soma-infra" / "Chart.yaml").read_text())["dependencies"]]


def test_schemas_and_reference_are_made_from_the_values():
    done = subprocess.run([sys.executable, "docs/generate/values.py", "--check"], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_is_the_chart(charts):
    lock = yaml.safe_load((HELM / "soma-infra" / "Chart.lock").read_text())
    assert [d["name"] for d in lock["dependencies"]] == COMPONENTS
    assert all(d["repository"].startswith("file://") for d in lock["dependencies"])


@pytest.mark.parametrize("name", ["soma-infra", *(f"components/{c}" for c in COMPONENTS)])
def test_a_schema_is_one_and_refuses_every_unknown_key(name):
    schema = json.loads((HELM / name / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    defaults = yaml.safe_load((HELM / name / "values.yaml").read_text())
    jsonschema.validate(defaults, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**defaults, "misspelt": 1}, schema)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("enabled", ["true", "false"])
def test_helm_refuses_a_misspelt_key_of_a_component_on_or_off(charts, component, enabled):
    with pytest.raises(Refused, match="imgae"):
        charts.text("dev", "--set", f"{component}.imgae.tag=1,{component}.enabled={enabled}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("globl.mode=dev", "globl"),
        ("global.tls.enbled=true", "enbled"),
        ("global.mode=production", "global/mode"),
        ("redis.maxmemoryPolicy=lru", "maxmemoryPolicy"),
        ("kafka.replicas=2", "kafka/replicas"),
        ("postgres.persistence.size=8", "persistence/size"),
        ("kafka.replicationFactor=3", "only 1 nodes"),
        ("redis.replicas=2", "sentinel"),
        ("vault.server=raft", "global.tls.enabled"),
        ("postgres.enabled=false", "pgpool.enabled needs postgres.enabled"),
        ("pgpool.numInitChildren=200", "maxConnections"),
    ],
)
def test_helm_refuses_what_cannot_work_and_says_why(charts, given, said):
    with pytest.raises(Refused, match=said):
        charts.text("dev", "--set", given)


@pytest.mark.parametrize("mode", ["staging", "prod-lite", "prod"])
def test_a_vault_dev_server_is_refused_from_staging_on(charts, mode):
    with pytest.raises(Refused, match="dev server forgets"):
        charts.text(mode, "--set", "vault.server=dev")
    with pytest.raises(Refused, match="ephemeral"):
        charts.text(mode, "--set", "vault.persistence.ephemeral=true")


@pytest.mark.parametrize("mode", ["dev", "prod"])
def test_every_image_can_be_replaced_by_values_alone(charts, mode):
    images = {}
    for component in COMPONENTS:
        defaults = yaml.safe_load((HELM / "components" / component / "values.yaml").read_text())
        images[component] = {"enabled": True, "image": {"repository": f"mirror/{component}", "tag": "t", "digest": ""}}
        if "router" in defaults:
            images[component]["router"] = {"image": {"repository": "mirror/router", "tag": "t", "digest": ""}}
    file = charts.folder / "replaced.json"
    file.write_text(json.dumps(images))
    used = {c["image"] for _, c in containers(charts.render(mode, "-f", str(file)))}
    assert used and all(ref.startswith("mirror/") and ref.endswith(":t") for ref in used), used


def test_a_mirror_goes_before_every_image_and_a_digest_wins(charts):
    digest = "sha256:" + "a" * 64
    objects = charts.render(
        "dev", "--set", "global.imageRegistry=mirror.example:5000/", "--set", f"opa.image.digest={digest}"
    )
    used = {c["image"] for _, c in containers(objects)}
    assert all(ref.startswith("mirror.example:5000/") for ref in used)
    assert f"mirror.example:5000/openpolicyagent/opa@{digest}" in used


@pytest.mark.parametrize(
    "repository", ["redis", "quay.io/coreos/etcd", "localhost/a", "localhost:5000/a/b", "soma/x", ""]
)
def test_the_charts_and_the_playbook_look_for_an_image_at_one_place_of_a_mirror(charts, repository):
    given = ["--set", f"redis.image.repository={repository},redis.image.tag=t"] if repository else []
    mirror = "mirror.example/of/ours"
    theirs = [c["image"] for _, c in containers(charts.render("dev", *given))]
    ours = [c["image"] for _, c in containers(charts.render("dev", *given, "--set", f"global.imageRegistry={mirror}"))]
    assert ours == [mirrored(ref, mirror) for ref in theirs]


def test_every_container_starts_with_a_command_of_its_own(charts):
    for where, c in containers(charts.render("prod", "--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")):
        assert c.get("command"), where


def test_the_lab_uses_only_stand_ins_and_own_images(charts):
    for mode in ("dev", "prod"):
        used = {c["image"] for _, c in containers(charts.render(mode, *charts.lab()))}
        assert all(ref.startswith(("lab/", "soma/")) for ref in used), used


NAMES = {
    "POSTGRES_HOST": "sharedinfra-postgres-pgpool.soma-infra.svc.cluster.local",
    "POSTGRES_PORT": "5432",
    "POSTGRES_DIRECT_HOST": "sharedinfra-postgres.soma-infra.svc.cluster.local",
    "REDIS_URL": "redis://sharedinfra-redis-master.soma-infra.svc.cluster.local:6379",
    "KAFKA_BOOTSTRAP_SERVERS": "sharedinfra-kafka.soma-infra.svc.cluster.local:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "VAULT_ADDR": "http://sharedinfra-vault.soma-infra.svc.cluster.local:8200",
    "OPA_URL": "http://sharedinfra-opa.soma-infra.svc.cluster.local:8181",
    "ETCD_ENDPOINTS": "http://sharedinfra-etcd.soma-infra.svc.cluster.local:2379",
    "PROMETHEUS_URL": "http://sharedinfra-prometheus.soma-infra.svc.cluster.local:9090",
    "GRAFANA_URL": "http://sharedinfra-grafana.soma-infra.svc.cluster.local:3000",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://sharedinfra-jaeger.soma-infra.svc.cluster.local:4317",
}


def test_the_endpoints_are_the_names_of_the_contract(charts):
    ends = charts.one(charts.render("dev", "--set", "jaeger.enabled=true"), "ConfigMap", "endpoints")["data"]
    assert {k: ends[k] for k in NAMES} == NAMES


def test_every_endpoint_names_a_service_and_port_that_exist(charts):
    for mode in MODES:
        objects = charts.render(mode, "--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")
        services = {
            o["metadata"]["name"]: {p["port"] for p in o["spec"]["ports"]} for o in objects if o["kind"] == "Service"
        }
        ends = charts.one(objects, "ConfigMap", "endpoints")["data"]
        addresses = [v.split("//")[-1] for v in ends.values() if ".svc." in v and ":" in v.split("//")[-1]]
        assert len(addresses) >= 7
        for address in addresses:
            host, port = address.rsplit(":", 1)
            assert int(port) in services[host.split(".")[0]], (mode, address)
        assert ends["REDIS_URL"].startswith("rediss://" if ends["TLS_ENABLED"] == "true" else "redis://")


PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
EXTERNAL = {
    "pgpool": (
        {"host": "pool.example", "port": 6432, "sslmode": "require"},
        {"POSTGRES_HOST": "pool.example", "POSTGRES_PORT": "6432", "POSTGRES_SSLMODE": "require"},
    ),
    "postgres": (
        {"host": "pg.example", "port": 5433, "ca": PEM},
        {
            "POSTGRES_DIRECT_HOST": "pg.example",
            "POSTGRES_DIRECT_PORT": "5433",
            "POSTGRES_HOST": "pg.example",
            "POSTGRES_SSLMODE": "verify-full",
            "POSTGRES_CA": PEM,
        },
    ),
    "redis": (
        {"host": "r.example", "port": 6380, "ca": PEM},
        {"REDIS_HOST": "r.example", "REDIS_URL": "rediss://r.example:6380", "REDIS_CA": PEM},
    ),
    "kafka": (
        {"bootstrapServers": "k1.example:9093,k2.example:9093", "securityProtocol": "SASL_SSL", "ca": PEM},
        {
            "KAFKA_BOOTSTRAP_SERVERS": "k1.example:9093,k2.example:9093",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_CA": PEM,
        },
    ),
    "vault": ({"address": "https://v.example", "ca": PEM}, {"VAULT_ADDR": "https://v.example", "VAULT_CA": PEM}),
    "opa": ({"url": "https://o.example"}, {"OPA_URL": "https://o.example"}),
    "etcd": ({"endpoints": "https://e.example:2379"}, {"ETCD_ENDPOINTS": "https://e.example:2379"}),
    "prometheus": ({"url": "https://p.example"}, {"PROMETHEUS_URL": "https://p.example"}),
    "grafana": ({"url": "https://g.example"}, {"GRAFANA_URL": "https://g.example"}),
    "jaeger": ({"otlpEndpoint": "https://j.example:4317"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://j.example:4317"}),
    "qdrant": ({"url": "https://q.example:6334"}, {"QDRANT_URL": "https://q.example:6334"}),
}


def elsewhere(component):
    """Values for which `component` is run elsewhere."""
    external, _ = EXTERNAL[component]
    values = {component: {"enabled": False, "external": external}}
    if component == "postgres":
        values["pgpool"] = {"enabled": False}
    if component == "prometheus":
        values["grafana"] = {"prometheusUrl": external["url"]}
    return values


def written(charts, name, values):
    file = charts.folder / f"{name}.json"
    file.write_text(json.dumps(values))
    return "-f", str(file)


ASKED_OVER_HTTP = ("opa", "vault", "etcd", "prometheus", "grafana")


def http_test(charts, objects):
    """The container that `helm test` asks over HTTP with, and what it asks."""
    (container,) = charts.one(objects, "Pod", "test-http")["spec"]["containers"]
    return container, container["command"][-1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("component", ["", *COMPONENTS])
def test_whatever_is_run_elsewhere_every_pod_finds_what_it_needs(charts, mode, component):
    more = {"jaeger": {"enabled": True}, "qdrant": {"enabled": True}} | (elsewhere(component) if component else {})
    issued = (
        ("--set", "global.tls.source=cert-manager") if component else ()
    )  # the chart's own authority takes its time
    objects = charts.render(mode, *written(charts, f"off-{component}", more), *issued)
    assert unresolved(objects) == set()
    container, asked = http_test(charts, objects)
    here = {o["metadata"]["name"] for o in objects if o["kind"] == "Service"}
    for name in ASKED_OVER_HTTP:
        assert (f"//sharedinfra-{name}." in asked) is (f"sharedinfra-{name}" in here), name
    assert ("/tls/ca.crt" in asked) is ("tls" in [m["name"] for m in container["volumeMounts"]])
    assert ("https://" in asked) <= ("/tls/ca.crt" in asked)


def test_what_asks_over_http_is_opas_image_here_or_not_and_is_gone_when_nothing_is_left_to_ask(charts):
    values = yaml.safe_load((HELM / "soma-infra" / "values.yaml").read_text())
    assert values["tests"]["image"] == yaml.safe_load((HELM / "components/opa/values.yaml").read_text())["image"]
    named = {"opa": {"enabled": False}, "tests": {"image": {"repository": "mirror/opa", "tag": "t"}}}
    container, _ = http_test(charts, charts.render("dev", *written(charts, "http-image", named)))
    assert container["image"] == "mirror/opa:t"
    for mode in ("dev", "staging"):
        off = written(charts, "no-http", {name: {"enabled": False} for name in ASKED_OVER_HTTP})
        left = charts.render(mode, *off)
        assert "sharedinfra-test-http" not in {o["metadata"]["name"] for o in left}
        assert unresolved(left) == set()
    tls = charts.render("staging", "--set", "etcd.enabled=false,vault.enabled=false")
    assert "/tls/ca.crt" not in http_test(charts, tls)[1]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_gives_way_to_an_existing_service(charts, component):
    _, expected = EXTERNAL[component]
    objects = charts.render("dev", *written(charts, f"external-{component}", elsewhere(component)))
    names = {o["metadata"]["labels"].get("app.kubernetes.io/name") for o in objects}
    assert component not in names
    ends = charts.one(objects, "ConfigMap", "endpoints")["data"]
    assert {k: ends[k] for k in expected} == expected


@pytest.mark.parametrize(("mode", "sslmode"), [("dev", "disable"), ("staging", "verify-full")])
def test_what_is_external_does_not_follow_the_releases_own_tls(charts, mode, sslmode):
    ours = charts.one(charts.render(mode), "ConfigMap", "endpoints")["data"]
    assert ours["POSTGRES_SSLMODE"] == sslmode
    assert not [key for key in ours if key.endswith("_CA")]
    plain = ("redis.enabled=false,redis.external.host=r.example,redis.external.tls=false,pgpool.enabled=false,"
             "postgres.enabled=false,postgres.external.host=pg.example,postgres.external.sslmode=disable")  # fmt: skip
    theirs = charts.one(charts.render(mode, "--set", plain), "ConfigMap", "endpoints")["data"]
    assert (theirs["POSTGRES_SSLMODE"], theirs["REDIS_URL"]) == ("disable", "redis://r.example:6379")


def test_without_pgpool_the_database_is_reached_directly(charts):
    ends = charts.one(charts.render("dev", "--set", "pgpool.enabled=false"), "ConfigMap", "endpoints")["data"]
    assert ends["POSTGRES_HOST"] == "sharedinfra-postgres.soma-infra.svc.cluster.local"
