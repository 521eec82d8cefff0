"""What a real API server says of the charts: every mode passes without a Pod Security warning, and a second upgrade
with the same values changes nothing at all.

No pod runs for it: dry runs make none, and the namespace of the upgrade test has a quota of no pods. The cluster is the
context in SFM_TEST_CONTEXT, else kind-soma where it answers, else one made for these tests and deleted after them.
"""

import json
import os
import shutil
import subprocess
import time
import uuid

import pytest

from playbook.actions import drift
from playbook.kube import Reader
from playbook.target import Target
from testing.charts import MODES, Charts

pytestmark = pytest.mark.kind

OWN = "soma-charts-test"


def run(*argv, check=True, **kw):
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300, **kw)
    assert not check or ran.returncode == 0, f"{' '.join(argv)}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return ran


@pytest.fixture(scope="module")
def context():
    """A kube context whose API server answers."""
    for tool in ("helm", "kubectl", "kind"):
        assert shutil.which(tool), f"{tool} is not installed, and these tests cannot do without it"
    for candidate in filter(None, (os.environ.get("SFM_TEST_CONTEXT"), "kind-soma")):
        if run("kubectl", "--context", candidate, "get", "--raw", "/readyz", check=False).returncode == 0:
            yield candidate
            return
    image = os.environ.get("SFM_NODE_IMAGE")
    run("kind", "delete", "cluster", "--name", OWN)  # a run that was cut off may have left it
    run("kind", "create", "cluster", "--name", OWN, "--wait", "120s", *(["--image", image] if image else []))
    yield f"kind-{OWN}"
    run("kind", "delete", "cluster", "--name", OWN)


@pytest.fixture(scope="session")
def charts(tmp_path_factory):
    return Charts.build(tmp_path_factory.mktemp("charts"))


@pytest.fixture
def namespace(context):
    """A fresh namespace that enforces and warns of "restricted"."""
    name = f"charts-{uuid.uuid4().hex[:8]}"
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": level}}
    run("kubectl", "--context", context, "apply", "-f", "-", input=json.dumps(made))
    wait_for(context, name, "serviceaccount/default")  # without which the server takes no pod
    yield name
    run("kubectl", "--context", context, "delete", "namespace", name, "--wait=false")


@pytest.fixture
def no_pods(context, namespace):
    """A quota with which no pod starts in that namespace."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-pods"},
             "spec": {"hard": {"pods": "0"}}}  # fmt: skip
    run("kubectl", "--context", context, "-n", namespace, "apply", "-f", "-", input=json.dumps(quota))


def wait_for(context, namespace, what):
    """Wait until an object is there, which a controller makes."""
    deadline = time.monotonic() + 60
    while run("kubectl", "--context", context, "-n", namespace, "get", what, check=False).returncode != 0:
        assert time.monotonic() < deadline, f"the cluster has made no {what} in {namespace}"
        time.sleep(0.2)


@pytest.mark.parametrize("mode", MODES)
def test_the_api_server_takes_every_mode_without_a_warning(context, namespace, charts, mode):
    argv = charts.arguments(mode, "--set", "jaeger.enabled=true", "--set", "qdrant.enabled=true")
    argv[argv.index("--namespace") + 1] = namespace
    text = run("helm", "template", *argv).stdout
    done = run("kubectl", "--context", context, "-n", namespace, "apply", "--dry-run=server", "-f", "-",
               input=text, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("Warning")], f"{mode}: {done.stderr}"
    assert done.stdout.count("(server dry run)") == len([d for d in text.split("\n---") if "kind:" in d])


def test_a_pod_that_is_not_restricted_is_refused_there(context, namespace, charts):
    """The check above can fail: the same server refuses a pod that lacks what the charts set."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"},
           "spec": {"containers": [{"name": "c", "image": "x"}]}}  # fmt: skip
    done = run("kubectl", "--context", context, "-n", namespace, "apply", "--dry-run=server", "-f", "-",
               input=json.dumps(pod), check=False)  # fmt: skip
    assert done.returncode != 0 and "restricted" in done.stderr


def versions(context, namespace):
    """kind/name -> (resourceVersion, generation) of everything of the release, as the server holds it."""
    kinds = "secret,configmap,service,networkpolicy,poddisruptionbudget,deployment,statefulset,serviceaccount"
    listed = json.loads(run("kubectl", "--context", context, "-n", namespace, "get", kinds, "-o", "json").stdout)
    return {
        f"{o['kind']}/{o['metadata']['name']}": o["metadata"].get("generation", o["metadata"]["resourceVersion"])
        for o in listed["items"]
        if not o["metadata"]["name"].startswith("sh.helm.")
    }


def secrets(context, namespace):
    listed = json.loads(run("kubectl", "--context", context, "-n", namespace, "get", "secret", "-o", "json").stdout)
    return {
        o["metadata"]["name"]: o["data"] for o in listed["items"] if not o["metadata"]["name"].startswith("sh.helm.")
    }


def edits(context, namespace):
    """What differs between the release and its live objects, as a second deploy would look at it."""
    manifest = run("helm", "--kube-context", context, "get", "manifest", "sharedinfra", "-n", namespace).stdout
    reader = Reader(context)
    try:
        found = drift.pairs(reader, Target(context=context, namespace=namespace), manifest)
    finally:
        reader.close()
    assert len(found) > 20
    return [*drift.missing(found), *drift.edited(found)]


@pytest.mark.parametrize("mode", ["dev", "staging", "prod"])
@pytest.mark.usefixtures("no_pods")
def test_secrets_are_made_once_and_a_second_upgrade_changes_nothing(context, namespace, charts, mode):
    argv = ["helm", "--kube-context", context, "upgrade", "--install", *charts.arguments(mode, *charts.lab())]
    argv[argv.index("--namespace") + 1] = namespace
    try:
        run(*argv)
        first, made = versions(context, namespace), secrets(context, namespace)
        assert {"sharedinfra-postgres", "sharedinfra-redis", "sharedinfra-kafka"} <= made.keys()
        assert ("sharedinfra-ca" in made) == (mode != "dev")
        assert all(value for data in made.values() for value in data.values())
        run(*argv)
        assert versions(context, namespace) == first
        assert secrets(context, namespace) == made
        assert edits(context, namespace) == [], "nobody edited anything by hand"

        run("helm", "--kube-context", context, "uninstall", "sharedinfra", "-n", namespace)
        assert secrets(context, namespace) == made, "the volumes stay, so must the passwords"
        run(*argv)
        assert secrets(context, namespace) == made
    finally:
        run("helm", "--kube-context", context, "uninstall", "sharedinfra", "-n", namespace, "--ignore-not-found")
