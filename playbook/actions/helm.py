"""The release: charts put together offline in our own cache, rendered, installed, watched, rolled back, removed.

The chart folder itself is never written to: it is copied under the digest of its content, and its dependencies are
built there from local files. That digest, with the values', is kept in the release's description, so a second run
knows that nothing changed without asking the cluster for more.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from playbook.actions import workloads
from playbook.actions.kube import gib, processors
from playbook.check import Probe, Verdicts
from playbook.kube import Json, Reader
from playbook.model import Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown

if TYPE_CHECKING:
    from playbook.engine import Hands
    from playbook.facts import Observer

MARK = "sfmctl inputs "
POD_OWNERS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"})
HISTORY = 10
ATTEMPTS = 3
RETRY_S = 5.0
TRANSIENT = (
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "etcdserver: too many requests",
    "TLS handshake timeout",
    "connection reset by peer",
    "http2: client connection lost",
    "the server is currently unable to handle the request",
    "net/http: request canceled",
    "unexpected EOF",
)
"""What helm says when the API server was busy and the same command may well succeed a moment later."""


def files(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that makes the chart, in a fixed order; built archives and locks of others apart."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".tgz" and "__pycache__" not in path.parts:
            yield path


def check_values(target: Target) -> None:
    """Refuse a values file that is not there or is no mapping, before anything else is done."""
    for path in target.value_files:
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Trouble("SFM-CLI-028", f"the values file {path} cannot be read", why=error.strerror or "") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise Trouble("SFM-CLI-028", f"the values file {path} is no YAML", why=str(error)) from error
        if found is not None and not isinstance(found, dict):
            raise Trouble("SFM-CLI-028", f"the values file {path} is no YAML mapping")


def charts_digest(target: Target) -> str:
    """SHA-256 over the content of all charts."""
    folder = target.infra / "helm"
    if not (target.chart / "Chart.yaml").is_file():
        raise Trouble("SFM-CLI-021", f"there is no chart in {target.chart}")
    total = hashlib.sha256()
    for path in files(folder):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def inputs_digest(target: Target) -> str:
    """What the release is made from, as 16 hex digits: charts, mode and values."""
    check_values(target)
    total = hashlib.sha256(charts_digest(target).encode())
    for path in target.value_files:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    total.update(f"{target.mode}\0{target.release}\0{target.namespace}".encode())
    return total.hexdigest()[:16]


def staged(target: Target, shell: Shell) -> Path:
    """The chart, copied to the cache with its dependencies built from local files; made once per content."""
    place = target.cache / "charts" / charts_digest(target)[:24]
    chart = place / target.chart.relative_to(target.infra / "helm")
    if chart.is_dir():
        return chart
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=place.parent))
    try:
        source = target.infra / "helm"
        shutil.copytree(source, work / "helm", ignore=shutil.ignore_patterns("*.tgz", "__pycache__"))
        try:
            shell.run(["helm", "dependency", "build", "--skip-refresh", str(work / "helm" / target.chart.name)],
                      timeout_s=120)  # fmt: skip
        except CommandFailed as failed:
            raise Trouble("SFM-HELM-003", "the chart cannot be put together", why=failed.gist) from failed
        (work / "helm").rename(place)
    except OSError:
        if not chart.is_dir():  # another run may have been quicker, with the same content
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for old in sorted(place.parent.iterdir(), key=lambda p: p.stat().st_mtime)[:-5]:
        shutil.rmtree(old, ignore_errors=True)
    return chart


def value_arguments(target: Target) -> list[str]:
    """The `-f` of helm, in their order."""
    return [argument for path in target.value_files for argument in ("-f", str(path))]


def rendered(target: Target, shell: Shell) -> list[Json]:
    """The objects that the chart makes with the target's values, tests and hooks too. Kept nowhere: it has secrets."""
    check_values(target)
    argv = ["helm", "template", target.release, str(staged(target, shell)), "--namespace", target.namespace,
            *value_arguments(target)]  # fmt: skip
    try:
        out = shell.run(argv, timeout_s=60).stdout
    except CommandFailed as failed:
        raise render_trouble(failed) from failed
    return [item for item in yaml.load_all(out, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if item]


def render_trouble(failed: CommandFailed) -> Trouble:
    """The code for what helm said about chart and values."""
    said = failed.stderr
    if "values don't meet the specifications" in said or "additional properties" in said or "additionalProp" in said:
        kept = [
            line for line in said.splitlines() if line.strip().startswith("-") or "schema" in line or line.endswith(":")
        ]
        return Trouble("SFM-HELM-001", "the values do not fit the chart", why="\n".join(kept) or failed.gist)
    if "execution error at" in said:  # a template's own refusal of values that contradict each other
        return Trouble("SFM-HELM-001", "the values do not fit the chart", why=failed.gist)
    if "error converting YAML" in said or "cannot load values" in said or "failed to parse" in said:
        return Trouble("SFM-CLI-028", "a values file cannot be used", why=failed.gist)
    return Trouble("SFM-HELM-003", "the chart does not render with these values", why=failed.gist)


def pod_specs(objects: list[Json]) -> Iterator[Json]:
    """The pod specification of every object that makes pods."""
    for item in objects:
        if item.get("kind") not in POD_OWNERS:
            continue
        spec = item["spec"]
        if item["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        yield spec if item["kind"] == "Pod" else spec["template"]["spec"]


def image_refs(objects: list[Json]) -> list[str]:
    """Every image that `objects` run, sorted, each once."""
    return sorted(
        {c["image"] for spec in pod_specs(objects) for c in [*spec.get("initContainers", []), *spec["containers"]]}
    )


def requests(objects: list[Json]) -> dict[str, float]:
    """Memory (GiB) and processors that the pods of `objects` ask for together; Jobs and tests come and go."""
    memory = cpus = 0.0
    for item in objects:
        if item.get("kind") not in ("Deployment", "StatefulSet", "DaemonSet"):
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            asked = container.get("resources", {}).get("requests", {})
            memory += item["spec"].get("replicas", 1) * gib(str(asked.get("memory", "0")))
            cpus += item["spec"].get("replicas", 1) * processors(str(asked.get("cpu", "0")))
    return {"memory_gib": round(memory, 3), "cpus": round(cpus, 3)}


def storage_classes(objects: list[Json]) -> list[str]:
    """The storage classes that volume claims name; "" where one relies on the cluster's default."""
    sets = [item for item in objects if item.get("kind") == "StatefulSet"]
    claims = [claim for item in sets for claim in item["spec"].get("volumeClaimTemplates", [])]
    return sorted({claim["spec"].get("storageClassName") or "" for claim in claims})


def wanted_images(target: Target, shell: Shell) -> list[str]:
    """The images that the chart runs with the target's values."""
    return list(chart_needs(target, shell)["images"])


def chart_needs(target: Target, shell: Shell) -> Json:
    """What the chart needs of a cluster: images, storage classes, room. Remembered by the inputs' digest."""
    path = target.cache / "needs" / f"{inputs_digest(target)}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    objects = rendered(target, shell)
    found = {"images": image_refs(objects), "classes": storage_classes(objects), "requests": requests(objects)}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(f".{threading.get_ident()}")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.rename(path)
    return found


def cluster_flags(target: Target) -> list[str]:
    """Which cluster and namespace a helm command is for: always said, never the current context."""
    kubeconfig = ["--kubeconfig", str(target.kubeconfig)] if target.kubeconfig else []
    return ["--kube-context", target.context, *kubeconfig, "--namespace", target.namespace]


def status(target: Target, shell: Shell) -> Json | None:
    """The release as helm has it; None when there is none."""
    argv = ["helm", "status", target.release, *cluster_flags(target), "-o", "json"]
    try:
        return dict(json.loads(shell.run(argv, timeout_s=20).stdout))
    except CommandFailed as failed:
        if "not found" in failed.stderr and "release" in failed.stderr:
            return None
        raise unreachable(failed) from failed


def unreachable(failed: CommandFailed) -> Trouble:
    """helm could not ask the cluster: which of the reasons it is."""
    said = failed.stderr
    if "context" in said and "does not exist" in said:
        return Unknown("SFM-K8S-002", "the kubeconfig does not have this context", why=failed.gist)
    if "forbidden" in said.lower():
        return Unknown("SFM-K8S-003", "the API server refuses this to helm", why=failed.gist)
    if any(words in said for words in ("connection refused", "unreachable", "timeout", "EOF", "no such host")):
        return Unknown("SFM-K8S-001", "the API server does not answer helm", why=failed.gist)
    return Unknown("SFM-TOOL-003", "helm ended with an error", why=failed.told)


def resource_path(reader: Reader, item: Json, namespace: str, known: dict[str, Json]) -> str | None:
    """Where the API server has this object; None when its kind is not served."""
    version = item["apiVersion"]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    if base not in known:
        known[base] = {r["kind"]: r for r in (reader.get(base) or {}).get("resources", []) if "/" not in r["name"]}
    resource = known[base].get(item["kind"])
    if resource is None:
        return None
    place = f"/namespaces/{item['metadata'].get('namespace') or namespace}" if resource["namespaced"] else ""
    return f"{base}{place}/{resource['name']}/{item['metadata']['name']}"


def missing_objects(reader: Reader, target: Target, manifest: str) -> list[str]:
    """The objects of the release that are no longer in the cluster."""
    known: dict[str, Json] = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    items = [item for item in yaml.load_all(manifest, Loader=loader) if item]
    found = []
    for item in items:
        path = resource_path(reader, item, target.namespace, known)
        if path is None or reader.get(path) is None:
            found.append(f"{item['kind']} {item['metadata']['name']}")
    return found


def release_facts(seen: Observer) -> dict[str, Any]:
    """The release's state, whether it is made from today's charts and values, and what of it is gone."""
    target = seen.target
    absent = {"release.state": "absent", "release.current": False, "release.missing": [], "release.revision": 0}
    if seen.reader.get(f"/api/v1/namespaces/{target.namespace}") is None:
        return absent
    found = status(target, seen.shell)
    if found is None:
        return absent
    info = found["info"]
    return {
        "release.state": info["status"],
        "release.current": info.get("description", "") == MARK + inputs_digest(target),
        "release.missing": missing_objects(seen.reader, target, found.get("manifest", "")),
        "release.revision": found["version"],
    }


def recover(hands: Hands) -> str:
    """Free a release that is stuck pending: back to the last good revision, or removed when there is none."""
    target = hands.target
    argv = ["helm", "history", target.release, *cluster_flags(target), "-o", "json"]
    history = json.loads(hands.shell.run(argv, timeout_s=20).stdout)
    good = [h["revision"] for h in history if h["status"] in ("deployed", "superseded")]
    if good:
        hands.tell(f"the release is stuck: rolling back to revision {max(good)}")
        hands.shell.run(["helm", "rollback", target.release, str(max(good)), *cluster_flags(target)], timeout_s=120)
        return f"rolled back to revision {max(good)}, then "
    hands.tell("the release is stuck and was never deployed: removing it")
    hands.shell.run(["helm", "uninstall", target.release, *cluster_flags(target), "--no-hooks"], timeout_s=120)
    return "removed an install that never ended, then "


def upgrade(hands: Hands, params: Mapping[str, Any]) -> str:
    """`helm upgrade --install`, watched: helm's hooks may wait, and a state that cannot mend itself ends that early."""
    target = hands.target
    rendered(target, hands.shell)  # schema and template errors before the cluster is touched
    before = status(target, hands.shell)
    recovered = ""
    if before and before["info"]["status"].startswith("pending"):
        recovered = recover(hands)
    argv = [
        "helm", "upgrade", "--install", target.release, str(staged(target, hands.shell)), *cluster_flags(target),
        *value_arguments(target), "--description", MARK + inputs_digest(target), "--history-max", str(HISTORY),
        "--timeout", f"{max(30, int(hands.left_s) - 10)}s",
    ]  # fmt: skip
    insistent(hands, argv)
    after = status(target, hands.shell)
    return f"{recovered}revision {after['version']} deployed" if after else "deployed"


def insistent(hands: Hands, argv: list[str]) -> None:
    """Run an upgrade again when the API server was only busy; what a cut-off try left pending is ours to free."""
    for attempt in range(ATTEMPTS):
        try:
            watched(hands, argv)
            return
        except Trouble as trouble:
            said = f"{trouble.what} {trouble.why}"
            if attempt == ATTEMPTS - 1 or not any(words in said for words in TRANSIENT):
                raise
            hands.tell(f"the API server was busy, trying again: {trouble.why.splitlines()[-1]}")
        time.sleep(RETRY_S)
        left = status(hands.target, hands.shell)
        if left and left["info"]["status"].startswith("pending"):
            recover(hands)


def watched(hands: Hands, argv: list[str]) -> None:
    """Run a helm command while looking at the workloads; ends it when one will never become ready."""
    inner = hands.shell.child()
    with ThreadPoolExecutor(max_workers=1) as pool:
        running: Future[Any] = pool.submit(inner.run, argv, timeout_s=hands.left_s)
        try:
            workloads.watch(hands, running.done, ready_ends=False)
        except BaseException:
            inner.cancelled.set()
            raise
        try:
            running.result()
        except CommandFailed as failed:
            raise upgrade_trouble(hands, failed) from failed


def upgrade_trouble(hands: Hands, failed: CommandFailed) -> Trouble:
    """The code for what helm said while it changed the release."""
    said = failed.stderr
    if "another operation" in said:
        return Trouble("SFM-HELM-004", "the release is stuck half-way", why=failed.gist)
    if "Forbidden: updates to statefulset spec" in said or "can not be less than" in said:
        return Trouble("SFM-HELM-008", "a volume claim cannot be changed", why=failed.gist)
    terminal = workloads.terminal_trouble(hands.api, hands.target.namespace, workloads.unready(hands.api, hands.target))
    if terminal:
        return terminal
    known = unreachable(failed)
    if known.code != "SFM-TOOL-003":
        return known
    return Trouble("SFM-HELM-002", "helm could not install or upgrade the release", why=failed.told)


def uninstall(hands: Hands, params: Mapping[str, Any]) -> str:
    """Remove the release while its operators still run; absent is success."""
    argv = ["helm", "uninstall", hands.target.release, *cluster_flags(hands.target), "--ignore-not-found",
            "--timeout", f"{max(30, int(hands.left_s) - 10)}s"]  # fmt: skip
    try:
        hands.shell.run(argv, timeout_s=hands.left_s)
    except CommandFailed as failed:
        raise Trouble("SFM-HELM-005", "the release could not be uninstalled", why=failed.told) from failed
    return f"uninstalled {hands.target.release}"


def rollback(hands: Hands, params: Mapping[str, Any]) -> str:
    """Go back to the newest earlier revision that was once deployed."""
    target = hands.target
    argv = ["helm", "history", target.release, *cluster_flags(target), "-o", "json"]
    try:
        history = json.loads(hands.shell.run(argv, timeout_s=20).stdout)
    except CommandFailed as failed:
        if "not found" in failed.stderr:
            raise Trouble("SFM-HELM-006", f"there is no release {target.release}") from failed
        raise unreachable(failed) from failed
    earlier = [h["revision"] for h in history[:-1] if h["status"] in ("deployed", "superseded")]
    if not earlier:
        raise Trouble("SFM-HELM-006", "there is no revision to go back to", why=f"revisions: {len(history)}")
    watched(hands, ["helm", "rollback", target.release, str(max(earlier)), *cluster_flags(target)])
    return f"rolled back to revision {max(earlier)}"


def probe_release(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether the release is deployed."""
    found = status(probe.target, probe.seen.shell)
    if found is None:
        return Status.FAIL, "absent"
    state = found["info"]["status"]
    if state.startswith("pending"):
        return Status.FAIL, state, "SFM-HELM-004"
    observed = f"{state}, revision {found['version']}"
    return (
        (Status.PASS, observed) if state == "deployed" else (Status.FAIL, f"{observed}: {found['info']['description']}")
    )
