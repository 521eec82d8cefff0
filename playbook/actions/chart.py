"""The chart before it meets a cluster: put together offline in our own cache, rendered, and asked what it needs.

The chart folder itself is never written to: it is copied under the digest of its content, and its dependencies are
built there from local files. What is kept of a rendering are names and sums; it holds generated secrets.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml

from playbook.actions.kube import gib, processors
from playbook.kube import Json
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, unwritable, writing

POD_OWNERS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"})
NEEDS = "needs-2"
"""The folder of remembered needs: its number grows when there is more to remember."""


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
    with writing(target.cache, "XDG_CACHE_HOME"):
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
        os.utime(work / "helm")  # the copy has its source's time, and the oldest go
        (work / "helm").rename(place)
    except OSError as error:
        if not chart.is_dir():  # another run may have been quicker, with the same content
            raise unwritable(target.cache, "XDG_CACHE_HOME", error) from error
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
    return documents(out)


def documents(text: str) -> list[Json]:
    """The objects of a manifest; by libyaml where it is there, which is quicker."""
    return [item for item in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if item]


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


def apart(objects: list[Json]) -> dict[str, int]:
    """Workload to number of nodes, where its replicas never share one."""
    found = {}
    for item in objects:
        if item.get("kind") in ("Deployment", "StatefulSet"):
            affinity = item["spec"]["template"]["spec"].get("affinity", {}).get("podAntiAffinity", {})
            terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
            if any(term["topologyKey"] == "kubernetes.io/hostname" for term in terms):
                found[item["metadata"]["name"]] = int(item["spec"].get("replicas", 1))
    return found


def storage_classes(objects: list[Json]) -> list[str]:
    """The storage classes that volume claims name; "" where one relies on the cluster's default."""
    sets = [item for item in objects if item.get("kind") == "StatefulSet"]
    claims = [claim for item in sets for claim in item["spec"].get("volumeClaimTemplates", [])]
    return sorted({claim["spec"].get("storageClassName") or "" for claim in claims})


def wanted_images(target: Target, shell: Shell) -> list[str]:
    """The images that the chart runs with the target's values."""
    return list(chart_needs(target, shell)["images"])


def chart_needs(target: Target, shell: Shell) -> Json:
    """What the chart needs of a cluster: images, storage classes, room, nodes. Remembered by the inputs' digest."""
    path = target.cache / NEEDS / f"{inputs_digest(target)}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    objects = rendered(target, shell)
    found = {"images": image_refs(objects), "classes": storage_classes(objects), "requests": requests(objects),
             "apart": apart(objects)}  # fmt: skip
    with writing(target.cache, "XDG_CACHE_HOME"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(f".{threading.get_ident()}")
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.rename(path)
    return found
