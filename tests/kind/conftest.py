"""A real kind cluster for these tests, driven through `sfmctl` itself as a person would.

The cluster is called `soma`, as `sfmctl` calls it, or as SFM_CLUSTER says (with SFM_KIND_CONFIG for other host ports).
One that SFM_TEST_CLUSTER names has the infrastructure already: the tests of applications can be run on it alone. Where
no registry can be reached, SFM_KIND_VALUES, SFM_NODE_IMAGE and the SFM_BUILD_* settings say what stands in for it.
Without Docker these tests fail; none is skipped silently.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from playbook.kube import Writer

ROOT = Path(__file__).resolve().parents[2]
ADDONS = ROOT.parent / "shared" / "lab" / "addons"
LAB_VALUES = "infra/helm/soma-infra/values-lab.yaml"
CLUSTER = os.environ.get("SFM_TEST_CLUSTER") or os.environ.get("SFM_CLUSTER", "soma")
CONTEXT = f"kind-{CLUSTER}"
NAMESPACE = "soma-infra"


@dataclass(slots=True)
class Ran:
    """One run of sfmctl."""

    code: int
    out: str
    err: str
    took_s: float

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        return dict(json.loads(self.out))


@dataclass(slots=True)
class Sfmctl:
    """Runs `sfmctl` with a state folder of its own."""

    home: Path
    values: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """The process's environment, with the state and cache of these tests."""
        return {
            **os.environ,
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "NO_COLOR": "1",
        }

    def argv(self, *arguments: str) -> list[str]:
        """The command line of one run."""
        return [sys.executable, "-m", "sfmctl.app", *arguments]

    def run(self, *arguments: str, timeout_s: float = 1500, stdin: str = "", **env: str) -> Ran:
        """Run it to its end; `env` are variables of its environment."""
        started = time.monotonic()
        done = subprocess.run(
            self.argv(*arguments), cwd=ROOT, env=self.environment() | env, input=stdin, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def up(self, *more: str) -> Ran:
        """`sfmctl up --mode dev` with this machine's values."""
        return self.run("up", "--mode", "dev", *self.values, "--yes", "-o", "json", *more)

    def interrupted(self, *arguments: str, when: str, timeout_s: float = 1200) -> Ran:
        """Run it, and send ^C as soon as its progress says `when`."""
        started = time.monotonic()
        process = subprocess.Popen(
            self.argv(*arguments), cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        seen: list[str] = []
        with process:
            assert process.stderr is not None and process.stdout is not None
            for line in process.stderr:
                seen.append(line)
                if when in line:
                    process.send_signal(signal.SIGINT)
                    break
                assert time.monotonic() - started < timeout_s, "".join(seen)
            assert when in "".join(seen), f"it never said {when!r}:\n{''.join(seen)}"
            out, err = process.communicate(timeout=120)
        return Ran(process.returncode, out, "".join(seen) + err, time.monotonic() - started)


@pytest.fixture(scope="session")
def sfmctl(tmp_path_factory: pytest.TempPathFactory) -> Sfmctl:
    values = os.environ.get("SFM_KIND_VALUES", "")
    return Sfmctl(tmp_path_factory.mktemp("sfmctl"), ["-f", values] if values else [])


@pytest.fixture(scope="module")
def stack(sfmctl: Sfmctl) -> None:
    """The infrastructure in mode dev, and the External Secrets Operator; of each module, for one before may end it."""
    if "SFM_TEST_CLUSTER" not in os.environ:
        ran = sfmctl.up()
        assert ran.code == 0, ran.err
    with contextlib.closing(Writer(CONTEXT)) as api:
        if api.get("/apis/external-secrets.io") is None:
            assert ADDONS.exists(), "the cluster has no External Secrets Operator, and nothing here can install it"
            subprocess.run([str(ADDONS), CONTEXT], capture_output=True, text=True, check=True, cwd=ROOT)


LEDGER = "ledger"


@pytest.fixture(scope="module")
def ledger(stack: None, sfmctl: Sfmctl) -> Ran:
    """An application that is wired for the tests of verify; each test leaves it as it was."""
    ran = sfmctl.run("app", "wire", LEDGER, "--env", "dev", "--cluster", CLUSTER, "--yes", "-o", "json", timeout_s=400)
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture
def api() -> Any:
    """A client of the cluster, for looking and for making trouble."""
    made = Writer(CONTEXT)
    yield made
    made.close()


@pytest.fixture
def api_later() -> Any:
    """As `api`, for a test at whose beginning there is no cluster yet."""
    made: list[Writer] = []

    def make() -> Writer:
        made.append(Writer(CONTEXT))
        return made[-1]

    yield make
    for one in made:
        one.close()


def only(*names: str) -> dict[str, Any]:
    """Values with only these components switched on, and somebody else's address for what they need of others."""
    everything = ("postgres", "pgpool", "redis", "kafka", "vault", "opa", "etcd", "prometheus", "grafana")
    return {name: {"enabled": False} for name in everything if name not in names}


LEFT_OUT = frozenset({"leases", "events", "nodes", "componentstatuses"})
LIVELY = frozenset({"Pod", "Endpoints", "EndpointSlice", "Job", "ReplicaSet", "StatefulSet", "Deployment", "DaemonSet",
                    "PodDisruptionBudget", "APIService"})  # fmt: skip
"""Kinds whose status the cluster itself keeps writing: of these identity and generation (the wish) are compared."""


def versions(api: Writer) -> dict[str, tuple[str, str]]:
    """Every object of the cluster with its UID and its resourceVersion (or generation)."""
    found = {}
    for path, resource in api.kinds():
        if resource["name"] in LEFT_OUT or "list" not in resource["verbs"]:
            continue
        for item in api.items(f"{path}/{resource['name']}"):
            meta = item["metadata"]
            key = f"{resource['kind']} {meta.get('namespace', '')}/{meta['name']}"
            version = meta.get("generation" if resource["kind"] in LIVELY else "resourceVersion", "")
            found[key] = (meta.get("uid", ""), str(version))
    return found


def settled(api: Writer, within_s: float = 180) -> dict[str, tuple[str, str]]:
    """`versions`, once two looks agree and no pod is on its way out: what a change before left under way is over."""
    deadline, before = time.monotonic() + within_s, versions(api)
    while True:
        time.sleep(2)
        now, pods = versions(api), api.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
        if now == before and not any(pod["metadata"].get("deletionTimestamp") for pod in pods):
            return now
        assert time.monotonic() < deadline, sorted(set(now.items()) ^ set(before.items()))
        before = now


def outcomes(ran: Ran) -> dict[str, str]:
    """How each step of a run came out."""
    return {one["id"]: one["result"] for one in ran.document["outcomes"]}


def release_revision() -> int:
    """The revision of the release, which is deployed."""
    argv = ["helm", "--kube-context", "kind-soma", "-n", NAMESPACE, "status", "sharedinfra", "-o", "json"]
    found = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["info"]["status"] == "deployed"
    return int(json.loads(found.stdout)["version"])
