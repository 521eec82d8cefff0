"""Read-only observation of the world: programs, Docker, the kind cluster, the API, the release, images, workloads.

An `Observer` only holds hands that cannot write (`ReadShell`, `Reader`). A fact that cannot be observed is recorded as
unknown with its code and reason: it never counts as absent, because absent leads to work being done.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any

from playbook import background
from playbook.kube import Reader
from playbook.model import Book, Fact
from playbook.shell import CommandFailed, ReadShell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown

Values = Mapping[str, Any]
LOOK_S = 0.2
RELEASE_TOOLS = ("helm",)
"""The programs without which no release can be deployed; the cluster itself is asked without any."""


@dataclass(slots=True)
class Observer:
    """Where facts are looked at from. It cannot change what it looks at.

    `deadline` is when the whole command is over (monotonic), for looking and for whoever changes something with it.
    """

    target: Target
    book: Book
    shell: ReadShell = field(default_factory=ReadShell)
    deadline: float = math.inf
    _reader: Reader | None = None
    _making: threading.Lock = field(default_factory=threading.Lock)

    @property
    def reader(self) -> Reader:
        """The read-only client of the target's context; Unknown while there is none."""
        with self._making:
            if self._reader is None:
                self._reader = Reader(self.target.context, self.target.kubeconfig)
            return self._reader

    def forget(self) -> None:
        """Drop the client: the cluster behind the context may be another one now."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


Group = Callable[[Observer], Values]


def tools(seen: Observer) -> Values:
    """Which required programs are missing or too old: all that this target needs, and those that a release needs."""
    from playbook.actions.tools import measured

    wanted = [tool for tool in seen.book.tools if tool.required and (seen.target.is_kind or not tool.only_kind)]
    lacking = {m.tool.name: f"{m.tool.name} {m.found or 'missing'} (needs {m.tool.minimum})"
               for m in (measured(seen.shell, tool) for tool in wanted) if not m.ok}  # fmt: skip
    return {
        "tools.wanting": list(lacking.values()),
        "tools.release": [lacking[name] for name in RELEASE_TOOLS if name in lacking],
    }


def docker(seen: Observer) -> Values:
    """Whether the Docker engine answers."""
    from playbook.actions import docker as action

    return {"docker.up": True, "docker.version": action.info(seen.shell)["ServerVersion"]}


def cluster(seen: Observer) -> Values:
    """The kind cluster of the target: absent, stopped, partial, other (made otherwise) or running."""
    from playbook.actions import kind

    if not seen.target.is_kind:
        return {"cluster.state": "foreign", "cluster.kind": False, "cluster.replace": False,
                "cluster.keep": True}  # fmt: skip
    state = kind.state(seen)
    replace = state == "partial" or (seen.target.recreate and state != "absent")
    return {"cluster.state": state, "cluster.kind": True, "cluster.replace": replace,
            "cluster.keep": seen.target.keep_cluster}  # fmt: skip


def api(seen: Observer) -> Values:
    """The API server's version and the cluster's identity."""
    return {"api.version": seen.reader.version(), "cluster.uid": seen.reader.cluster_uid()}


def nodes(seen: Observer) -> Values:
    """The nodes that are not ready, and the capacity in all."""
    from playbook.actions.kube import node_facts

    return node_facts(seen.reader)


def fit(seen: Observer) -> Values:
    """What the chart needs and the cluster lacks: storage classes, room."""
    from playbook.actions import chart
    from playbook.actions.kube import fit as judged

    return judged(seen.reader, chart.chart_needs(seen.target, seen.shell))


def namespace(seen: Observer) -> Values:
    """The state of the infra namespace: absent, Active or Terminating."""
    from playbook.actions.kube import namespace_labels

    found = seen.reader.get(f"/api/v1/namespaces/{seen.target.namespace}")
    labels = (found or {}).get("metadata", {}).get("labels", {})
    return {
        "namespace.state": found["status"]["phase"] if found else "absent",
        "namespace.labelled": all(labels.get(key) == value for key, value in namespace_labels(seen.target).items()),
    }


def asked(seen: Observer) -> Values:
    """What the person who runs it allowed, where a step concerns only those who did."""
    return {"asked.recover": seen.target.recover}


def release(seen: Observer) -> Values:
    """The helm release: its state, and whether it was made from just these charts and values."""
    from playbook.actions import helm

    return helm.release_facts(seen)


def images(seen: Observer) -> Values:
    """Which of the images that the charts run here are not built, not local, or not on every node."""
    from playbook.actions import images as action

    return action.image_facts(seen)


def workloads(seen: Observer) -> Values:
    """Which workloads of the namespace are not ready, and why."""
    from playbook.actions.workloads import unready

    return {"workloads.unready": [str(w) for w in unready(seen.reader, seen.target)]}


def vault(seen: Observer) -> Values:
    """What the release's own Vault lacks before applications can be wired."""
    from playbook.actions import vault_auth

    return vault_auth.facts(seen)


GROUPS: Mapping[str, Group] = {
    "tools": tools,
    "docker": docker,
    "cluster": cluster,
    "api": api,
    "nodes": nodes,
    "fit": fit,
    "namespace": namespace,
    "asked": asked,
    "release": release,
    "images": images,
    "workloads": workloads,
    "vault": vault,
}
"""One line per group of facts; a fact `group.name` is observed by its group."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "tools": ("tools.wanting", "tools.release"),
    "docker": ("docker.up", "docker.version"),
    "cluster": ("cluster.state", "cluster.kind", "cluster.replace", "cluster.keep"),
    "api": ("api.version", "cluster.uid"),
    "nodes": ("nodes.unready", "nodes.names"),
    "fit": ("fit.storage", "fit.capacity"),
    "namespace": ("namespace.state", "namespace.labelled"),
    "asked": ("asked.recover",),
    "release": (
        "release.state",
        "release.stuck",
        "release.mode",
        "release.current",
        "release.missing",
        "release.edited",
        "release.revision",
        "release.since",
    ),
    "images": ("images.unbuilt", "images.absent", "images.wanted"),
    "workloads": ("workloads.unready",),
    "vault": ("vault.wanting",),
}


def known() -> tuple[Mapping[str, Group], Mapping[str, tuple[str, ...]]]:
    """Every group and its facts, with those of an application's wire-up, which build on this module."""
    from playbook.wiring import facts as wiring

    return {**GROUPS, **wiring.GROUPS}, {**NAMES, **wiring.NAMES}


def group_of(fact: str) -> str:
    """The group that observes `fact`."""
    for group, names in known()[1].items():
        if fact in names:
            return group
    raise KeyError(fact)


def observe_group(seen: Observer, group: str) -> dict[str, Fact]:
    """The facts of one group; unknown ones keep the reason."""
    groups, names = known()
    try:
        return {name: Fact(name, value) for name, value in groups[group](seen).items()}
    except Trouble as trouble:
        why = trouble.what + (f" ({trouble.why})" if trouble.why else "")
        return {name: Fact(name, known=False, code=trouble.code, why=why) for name in names[group]}
    except CommandFailed as failed:
        return {name: Fact(name, known=False, code="SFM-TOOL-003", why=str(failed)) for name in names[group]}


def observe(seen: Observer, wanted: Iterable[str]) -> dict[str, Fact]:
    """The facts named in `wanted`, with what else their groups see; groups are looked at side by side.

    A group that hangs keeps neither ^C nor the deadline of the whole command from ending it.
    """
    groups = sorted({group_of(fact) for fact in wanted} | ({"api"} if seen.target.context else set()))
    running = {group: background.started(observe_group, seen, group) for group in groups}
    while not all(future.done() for future in running.values()):
        seen.shell.check_cancelled()
        left_s = seen.deadline - time.monotonic()
        if left_s <= 0:
            late = ", ".join(group for group, future in running.items() if not future.done())
            why = f"the time for the whole command is over; not known yet: {late}"
            raise Trouble("SFM-CLI-025", f"looking at {seen.target.name} took too long", why=why)
        wait(running.values(), timeout=min(LOOK_S, left_s))
    return {name: fact for future in running.values() for name, fact in future.result().items()}


def recorded(facts: Mapping[str, Fact]) -> str:
    """The facts as JSON: what the journal and the planner's tests keep."""
    shown = {f.id: ({"value": f.value} if f.known else {"unknown": f.why, "code": f.code}) for f in facts.values()}
    return json.dumps(shown, sort_keys=True, default=str)


__all__ = ["Observer", "Unknown", "group_of", "observe", "observe_group", "recorded"]
