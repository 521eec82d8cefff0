"""The rights that the how-to gives a pipeline are those that `sfmctl verify` uses."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from sfmctl import app
from testing.api import Api, serving
from tests.unit.wiring.conftest import DEV

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "verify-in-ci.md"
VERBS = {"PATCH": "patch", "POST": "create", "DELETE": "delete"}
FOR_ALL = re.compile(r"/(version|api|apis|livez|readyz)(/|$)")
"""What every user of a cluster may read: its version and what it serves."""


def roles() -> list[dict]:
    """The objects of the page's block."""
    [block] = re.findall(r"^```yaml\n(apiVersion: rbac.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return list(yaml.safe_load_all(block))


def allowed(method: str, path: str) -> bool:
    """Whether one of the page's rules covers a request."""
    first, *parts = path.strip("/").split("/")
    group, rest = ("", parts[1:]) if first == "api" else (parts[0] if parts else "", parts[2:])
    if not rest:
        return bool(FOR_ALL.match(path))
    namespace, rest = (rest[1], rest[2:]) if rest[0] == "namespaces" and len(rest) > 2 else ("", rest)
    resource, named = "/".join([rest[0], *rest[2:]]), len(rest) > 1
    verb = VERBS.get(method) or ("get" if named else "list")
    return any(
        group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
        for role in roles()
        for rule in role["rules"]
        if role["kind"] == "ClusterRole" or role["metadata"]["namespace"] == namespace
    )


def infrastructure(api: Api) -> None:
    """A namespace with some of the servers, none of which can really be reached."""
    names = ("etcd", "prometheus", "redis")
    marks = {"app.kubernetes.io/instance": "sharedinfra"}
    state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    for name in names:
        made = {"metadata": {"name": f"sharedinfra-{name}-0", "labels": {**marks, "app.kubernetes.io/name": name}}}
        api.put(
            "/api/v1/namespaces/soma-infra/pods", {**made, "spec": {"containers": [{"name": name}]}, "status": state}
        )
        held = {"metadata": {"name": f"sharedinfra-{name}"}, "spec": {"replicas": 1}, "status": {}}
        api.put("/apis/apps/v1/namespaces/soma-infra/statefulsets", held)
    for space in ("shop", "soma-infra"):
        api.put("/api/v1/namespaces", {"metadata": {"name": space}, "status": {"phase": "Active"}})
    api.put("/api/v1/namespaces/soma-infra/configmaps", {"metadata": {"name": "sharedinfra-endpoints"}, "data": DEV})


def test_whatever_verify_asks_of_the_api_server_is_covered(tmp_path, capsys):
    rows = ["app.settings", "app.secrets"]  # what is asked from inside, and before it
    roots = ["cluster.api", "namespace.active", "app.env", "app.namespace", "release.deployed"]
    run = ["verify", "shop", "--env", "dev", "--context", "prod-eu", "--kubeconfig", str(tmp_path / "kubeconfig"), "-o",
           "json", "--timeout", "4"]  # fmt: skip
    with serving(tmp_path / "kubeconfig", "prod-eu") as api:
        infrastructure(api)
        for chosen in ([("--only", row) for row in rows], [("--skip", row) for row in rows]):
            left = [("--skip", root) for root in roots]
            assert app.run([*run, *(word for pair in (*chosen, *left) for word in pair)]) in (3, 5, 6)
        asked = {(method, urlsplit(path).path) for method, path, _ in api.asked}
    capsys.readouterr()
    asked.add(("GET", "/api/v1/namespaces/soma-infra/secrets"))  # helm's look at its release, which is a root
    assert [one for one in sorted(asked) if not allowed(*one)] == []
    used = {path.rpartition("/")[2] for _, path in asked}
    assert used >= {
        "nodes",
        "storageclasses",
        "exec",
        "portforward",
        "shop-runtime",
        "events",
        "persistentvolumeclaims",
    }
    assert {method for method, _ in asked} == {"GET", "PATCH", "DELETE"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v1/namespaces/kube-system/secrets/x"), ("DELETE", "/api/v1/namespaces/shop/pods/x"),
     ("POST", "/api/v1/namespaces/shop/pods/x/exec"), ("PATCH", "/api/v1/namespaces/soma-infra/configmaps/x")],
)  # fmt: skip
def test_a_right_that_is_not_given_is_seen_to_be_lacking(method, path):
    assert not allowed(method, path)
