"""What the NetworkPolicies mean, read from the manifests: who reaches which port of which pods, and nobody else."""

import pytest

from testing.charts import MODES, pod_specs

ADMITTED = {"kubernetes.io/metadata.name": "shop", "soma.sh/allow-shared-infra": "true"}
STRANGER = {"kubernetes.io/metadata.name": "elsewhere"}
SECRETS_OPERATOR = {"kubernetes.io/metadata.name": "external-secrets"}
INFRA = {"kubernetes.io/metadata.name": "soma-infra"}
APP = {"app": "shop"}


def selects(selector, labels):
    """Kubernetes' rule for matchLabels and an empty selector; other expressions are not used here."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def from_matches(peer, namespace, pod):
    """A peer with a podSelector alone means the policy's own namespace."""
    if "namespaceSelector" in peer:
        return selects(peer["namespaceSelector"], namespace) and selects(peer.get("podSelector", {}), pod)
    return namespace == INFRA and selects(peer["podSelector"], pod)


def reachable(objects, target, namespace, pod):
    """Ports of a pod labelled `target` that a pod labelled `pod` in `namespace` may open; "all" without a policy."""
    policies = [
        o["spec"] for o in objects if o["kind"] == "NetworkPolicy" and selects(o["spec"]["podSelector"], target)
    ]
    if not policies:
        return "all"
    ports = set()
    for policy in policies:
        for rule in policy.get("ingress") or []:
            if any(from_matches(peer, namespace, pod) for peer in rule["from"]):
                ports |= {p["port"] for p in rule["ports"]}
    return ports


def pods(objects):
    """component name -> labels, of everything that runs for good."""
    return {
        meta["labels"]["app.kubernetes.io/name"]: meta["labels"]
        for where, meta, _ in pod_specs(objects)
        if not where.startswith("Pod/")
    }


def everything(charts, mode):
    return charts.render(mode, "--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")


CLIENT_PORTS = {
    "postgres": {5432}, "pgpool": {5432}, "kafka": {9092}, "vault": {8200}, "opa": {8181}, "etcd": {2379},
    "prometheus": {9090}, "grafana": {3000}, "jaeger": {4317, 4318}, "qdrant": {6333, 6334},
}  # fmt: skip


@pytest.mark.parametrize("mode", ["dev", "staging", "prod"])
def test_an_admitted_namespace_reaches_exactly_the_client_ports(charts, mode):
    objects = everything(charts, mode)
    expected = dict(CLIENT_PORTS)
    if mode == "dev":
        expected["redis"] = {6379}
    else:  # with sentinels applications come through the router, which follows the primary
        expected |= {"redis": set(), "redis-sentinel": set(), "redis-router": {6379}}
    assert {n: reachable(objects, labels, ADMITTED, APP) for n, labels in pods(objects).items()} == expected


@pytest.mark.parametrize("mode", MODES)
def test_no_other_namespace_reaches_anything(charts, mode):
    objects = everything(charts, mode)
    for name, labels in pods(objects).items():
        assert reachable(objects, labels, STRANGER, APP) == set(), name
        # not even with the labels of an infra pod: those count in the infra namespace only
        for disguise in pods(objects).values():
            assert reachable(objects, labels, STRANGER, disguise) == set(), name


def test_a_pod_of_the_infra_namespace_without_a_role_reaches_nothing(charts):
    objects = everything(charts, "prod")
    assert {n: reachable(objects, labels, INFRA, APP) for n, labels in pods(objects).items() if
            reachable(objects, labels, INFRA, APP)} == {}  # fmt: skip


def test_the_operators_pods_reach_the_administration_too(charts):
    objects = everything(charts, "staging")
    own = {"soma.sh/infra-client": "true"}
    targets = pods(objects)
    assert reachable(objects, targets["kafka"], INFRA, own) == {9092, 9094}
    assert reachable(objects, targets["redis"], INFRA, own) == {6379}
    assert reachable(objects, targets["redis-sentinel"], INFRA, own) == {26379}
    # the label means nothing in an application's namespace
    assert reachable(objects, targets["kafka"], ADMITTED, own) == {9092}


def test_the_secrets_operator_reaches_vault(charts):
    objects = everything(charts, "staging")
    assert reachable(objects, pods(objects)["vault"], SECRETS_OPERATOR, APP) == {8200}


def test_components_reach_each_other_where_they_must(charts):
    objects = everything(charts, "staging")
    p = pods(objects)
    for source, target, ports in (
        ("pgpool", "postgres", {5432}),
        ("postgres", "postgres", {5432}),
        ("kafka", "kafka", {9092, 9093, 9094}),
        ("vault", "vault", {8200, 8201}),
        ("etcd", "etcd", {2379, 2380}),
        ("redis", "redis", {6379}),
        ("redis-sentinel", "redis", {6379}),
        ("redis", "redis-sentinel", {26379}),
        ("redis-router", "redis", {6379}),
        ("grafana", "prometheus", {9090}),
        ("prometheus", "etcd", {2381}),
        ("prometheus", "opa", {8282}),
        ("prometheus", "vault", {8200}),
        ("redis", "postgres", set()),
        ("grafana", "postgres", set()),
        ("prometheus", "kafka", set()),
    ):
        assert reachable(objects, p[target], INFRA, p[source]) == ports, f"{source} -> {target}"


def test_every_pod_is_under_a_policy_of_its_own(charts):
    objects = everything(charts, "prod")
    for name, labels in pods(objects).items():
        own = [o for o in objects if o["kind"] == "NetworkPolicy" and o["spec"]["podSelector"].get("matchLabels")
               and selects(o["spec"]["podSelector"], labels)]  # fmt: skip
        assert len(own) == 1, name


def test_policies_can_be_switched_off_and_others_admitted_by_name(charts):
    assert not [o for o in charts.render("dev", "--set", "global.networkPolicy.enabled=false")
                if o["kind"] == "NetworkPolicy"]  # fmt: skip
    objects = charts.render("dev", "--set", "global.networkPolicy.extraNamespaces={elsewhere}")
    assert reachable(objects, pods(objects)["opa"], STRANGER, APP) == {8181}
