"""Renders the charts with the real helm, for tests that read manifests: by mode, cached, without a network.

The chart is copied first: its dependencies are built in the copy, so a test never writes into the work tree.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
HELM = ROOT / "infra" / "helm"
MODES = ("dev", "test", "staging", "prod-lite", "prod")
NAMESPACE = "soma-infra"
RELEASE = "sharedinfra"
WORKLOADS = ("Deployment", "StatefulSet", "Pod")

Object = Mapping[str, Any]


class Refused(Exception):
    """Helm refused to render; the text is what it said."""


@dataclass
class Charts:
    """The umbrella chart in a folder of its own, with its dependencies built from the lock."""

    folder: Path
    _made: dict[tuple[str, ...], list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def build(cls, folder: Path) -> Charts:
        """Copy the charts below `folder` and build their dependencies, which are all local."""
        shutil.copytree(HELM, folder / "helm", ignore=shutil.ignore_patterns("*.tgz"))
        chart = folder / "helm" / "soma-infra"
        done = subprocess.run(["helm", "dependency", "build", str(chart)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return cls(chart)

    def arguments(self, mode: str | None, *more: str) -> list[str]:
        """helm's options for a mode; more is passed on (`--set`, `-f`)."""
        chosen = ["-f", str(self.folder / f"values-{mode}.yaml")] if mode else []
        return [RELEASE, str(self.folder), "--namespace", NAMESPACE, *chosen, *more]

    def lab(self) -> tuple[str, str]:
        """The options that put the laboratory's images in."""
        return "-f", str(self.folder / "values-lab.yaml")

    def text(self, mode: str | None, *more: str) -> str:
        """What helm template prints. Raises Refused."""
        done = subprocess.run(
            ["helm", "template", *self.arguments(mode, *more)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout

    def render(self, mode: str | None, *more: str) -> list[dict[str, Any]]:
        """Every object that the charts make; the same call is rendered once."""
        key = (mode or "", *more)
        if key not in self._made:
            self._made[key] = [o for o in yaml.safe_load_all(self.text(mode, *more)) if o]
        return self._made[key]

    def one(self, objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
        """The one object of this kind and name (without the release's prefix)."""
        (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == f"{RELEASE}-{name}"]
        return found


def pod_specs(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(kind/name, pod metadata, pod spec) of everything that makes pods."""
    for o in objects:
        if o["kind"] in WORKLOADS:
            pod = o if o["kind"] == "Pod" else o["spec"]["template"]
            yield f"{o['kind']}/{o['metadata']['name']}", pod["metadata"], pod["spec"]


def containers(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind/name, container) of every container, init containers too."""
    for where, _, spec in pod_specs(objects):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield where, container


SOURCES = {
    "secret": ("Secret", "secretName"), "secretRef": ("Secret", "name"), "secretKeyRef": ("Secret", "name"),
    "configMap": ("ConfigMap", "name"), "configMapRef": ("ConfigMap", "name"), "configMapKeyRef": ("ConfigMap", "name"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}  # fmt: skip
"""Fields that name an object which a pod needs: its kind, and the field of its name (`name` in a projected volume)."""


def references(spec: Object) -> Iterator[tuple[str, str, str]]:
    """(kind, name, key) of everything that a pod needs to start; the key is empty where any will do."""
    yield "ServiceAccount", spec.get("serviceAccountName", "default"), ""
    yield from (("Secret", secret["name"], "") for secret in spec.get("imagePullSecrets", []))
    volumes = spec.get("volumes", [])
    sources = [*volumes, *(source for v in volumes for source in v.get("projected", {}).get("sources", []))]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        sources += [*container.get("envFrom", []), *(v.get("valueFrom", {}) for v in container.get("env", []))]
    for source in sources:
        for field_, (kind, name) in SOURCES.items():
            one = source.get(field_, {"optional": True})
            if not one.get("optional"):
                keys = [item["key"] for item in one.get("items", [])] or [one.get("key", "")]
                yield from ((kind, one.get(name) or one["name"], key) for key in keys)


def unresolved(objects: list[dict[str, Any]]) -> set[str]:
    """What pods need and `objects` do not make, each as who: kind/name [key]."""
    made = {(o["kind"], o["metadata"]["name"]): {*o.get("data", {}), *o.get("stringData", {})} for o in objects}
    made[("ServiceAccount", "default")] = set()
    for o in objects:
        if o["kind"] == "Certificate":
            made[("Secret", o["spec"]["secretName"])] = {"tls.crt", "tls.key", "ca.crt"}
    return {
        f"{where}: {kind}/{name} {key}"
        for where, _, spec in pod_specs(objects)
        for kind, name, key in references(spec)
        if (kind, name) not in made or (key and key not in made[(kind, name)])
    }
