"""The local Docker engine: whether it answers, how it keeps images, and which it has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playbook.actions.image_names import canonical, held_as
from playbook.check import Probe, Verdicts
from playbook.model import Status
from playbook.shell import CommandFailed, Shell
from playbook.trouble import Unknown

SOURCE_LABEL = "sh.soma.source"
CONTAINERD = "io.containerd.snapshotter"
PLATFORM_API = (1, 48)


@dataclass(frozen=True, slots=True)
class Local:
    """One image of the local Docker: its id, and the label that says from which source it was built."""

    id: str
    source: str = ""


def info(shell: Shell) -> dict[str, Any]:
    """What the Docker engine says of itself; Unknown when it does not answer."""
    try:
        said = dict(json.loads(shell.run(["docker", "info", "--format", "{{json .}}"], timeout_s=15).stdout))
    except CommandFailed as failed:
        raise Unknown("SFM-TOOL-004", "the Docker engine does not answer", why=failed.gist) from failed
    if said.get("ServerErrors") or not said.get("ServerVersion"):
        why = "; ".join(said.get("ServerErrors") or [])
        raise Unknown("SFM-TOOL-004", "the Docker engine does not answer", why=why)
    return said


def keeps_in_containerd(said: Mapping[str, Any]) -> bool:
    """Whether the engine keeps images in containerd's store, whose ids are not those that a node shows."""
    return any(str(value).startswith(CONTAINERD) for _, value in said.get("DriverStatus") or [])


def only_platform(said: Mapping[str, Any], version: Mapping[str, Any]) -> list[str]:
    """What `docker save` needs beside the names, given what `docker info` and `docker version` say.

    Of an image for several platforms containerd's store holds one, and a plain save names them all: kind's import into
    a node then fails on the first that is not there. From API 1.48 on (Docker 28) the save can be of one alone.
    """
    api = tuple(int(part) for part in version["Client"]["ApiVersion"].split("."))
    if not keeps_in_containerd(said) or api < PLATFORM_API:
        return []
    return ["--platform", f"{version['Server']['Os']}/{version['Server']['Arch']}"]


def save(shell: Shell, names: Iterable[str], path: Path, timeout_s: float) -> None:
    """Write images of the local Docker into one archive, for the engine's platform: kind's nodes have the same."""
    version = json.loads(shell.run(["docker", "version", "--format", "{{json .}}"], timeout_s=15).stdout)
    only = only_platform(info(shell), version)
    shell.run(["docker", "save", *only, "--output", str(path), *names], timeout_s=timeout_s)


def inspected(shell: Shell, refs: Iterable[str]) -> dict[str, Local]:
    """Those of `refs` that the local Docker has; one question for all of them."""
    names = {ref: held_as(ref) for ref in refs}
    if not names:
        return {}
    form = "[{{json .RepoTags}},{{json .Id}},{{with .Config}}{{json .Labels}}{{else}}null{{end}}]"
    try:
        out = shell.run(["docker", "image", "inspect", "--format", form, *names.values()], timeout_s=30).stdout
    except CommandFailed as failed:
        if "no such image" not in failed.stderr.lower():
            raise Unknown("SFM-TOOL-004", "the Docker engine does not answer", why=failed.gist) from failed
        out = failed.stdout  # it still prints those that are there
    known = read_inspected(out)
    return {ref: known[canonical(name)] for ref, name in names.items() if canonical(name) in known}


def read_inspected(out: str) -> dict[str, Local]:
    """What `inspected` was answered, by canonical reference."""
    known: dict[str, Local] = {}
    for line in out.splitlines():
        if line.strip():
            tags, image_id, labels = json.loads(line)
            known |= {canonical(tag): Local(image_id, (labels or {}).get(SOURCE_LABEL, "")) for tag in tags or []}
    return known


def probe(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether the Docker engine answers."""
    return Status.PASS, f"engine {info(probe.seen.shell)['ServerVersion']}"
