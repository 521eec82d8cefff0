"""The kind cluster: its state, making it, deleting it.

A cluster that this program was making when it was cut off leaves a marker behind; only such a half-made one, known by
its age and by having no context yet, is replaced without `--recreate`, and the plan says so before. On ^C what was
begun is taken away at once.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from playbook.actions import archive, docker
from playbook.actions.kube import node_facts
from playbook.kube import Reader, configuration
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown, writing

if TYPE_CHECKING:
    from playbook.engine import Hands
    from playbook.facts import Observer

LABEL = "io.x-k8s.kind.cluster"
STRAGGLER_S = 3.0
"""How long nothing may appear before a half-made cluster counts as gone."""
CLEANING_S = 60.0
MAKING_S = 600.0
"""How long after its marker a node may have been made that belongs to the run of the marker."""
CLOCKS_S = 5.0
"""How far the engine's clock may be from ours."""


def marker(state: Path, cluster: str) -> Path:
    """The file that exists while a cluster of that name is being made."""
    return state / f"making-{cluster}"


def containers(shell: Shell, cluster: str) -> list[dict[str, Any]]:
    """The node containers of a kind cluster, as `docker inspect` shows them; empty when there is none."""
    try:
        listed = shell.run(["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}={cluster}"], timeout_s=20)
        ids = listed.stdout.split()
        return list(json.loads(shell.run(["docker", "inspect", *ids], timeout_s=20).stdout)) if ids else []
    except CommandFailed as failed:
        raise Unknown("SFM-TOOL-004", "the Docker engine does not answer", why=failed.gist) from failed


def wanted_ports(config: Path) -> set[str]:
    """The host ports that the cluster's configuration maps."""
    nodes = wanted_nodes(config)
    try:
        return {str(mapping["hostPort"]) for node in nodes for mapping in node.get("extraPortMappings") or []}
    except (AttributeError, KeyError, TypeError) as error:
        why = "extraPortMappings is a list of mappings, each with a hostPort"
        raise Trouble("SFM-KIND-008", f"the kind configuration {config} cannot be used", why=why) from error


def wanted_nodes(config: Path) -> list[dict[str, Any]]:
    """The nodes of the cluster's configuration."""
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        why = "it is no mapping with a list of nodes"
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found, why = None, str(error)
    nodes = (found.get("nodes") or []) if isinstance(found, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise Trouble("SFM-KIND-008", f"the kind configuration {config} cannot be used", why=why)
    return nodes


def mapped_ports(nodes: list[dict[str, Any]]) -> set[str]:
    """The host ports that the node containers have, the API server's apart."""
    bound = [b for node in nodes for b in (node["HostConfig"].get("PortBindings") or {}).items()]
    return {str(one["HostPort"]) for port, hosts in bound if port != "6443/tcp" for one in hosts or []}


def node_image(target: Target, shell: Shell) -> str:
    """The image that the cluster's nodes are made of: as told, as configured, as in the cluster that is there, else
    kind's own."""
    told = [target.node_image, *(str(node.get("image") or "") for node in wanted_nodes(target.kind_config))]
    if not any(told):
        told = [str(node["Config"]["Image"]) for node in containers(shell, target.cluster)
                if node["Config"]["Labels"].get("io.x-k8s.kind.role") == "control-plane"]  # fmt: skip
    found = next(filter(None, told), "") or default_node_image()
    return found.partition("@")[0]  # an image that was loaded from a file has no digest


def default_node_image() -> str:
    """The node image that kind takes when none is named. No command tells it, but it stands in the program."""
    program = shutil.which("kind")
    found = re.search(rb"kindest/node:v\d+\.\d+\.\d+(?=@sha256:)", Path(program).read_bytes()) if program else None
    if found is None:
        step = "name it with --node-image kindest/node:TAG, or leave it out with --charts-only"
        raise Trouble("SFM-KIND-007", "which image kind makes its nodes of is not known", next_step=step)
    return found[0].decode()


def supplied_node_image(hands: Hands) -> str:
    """The image to make the nodes of, loaded from the archive folder where there is one; empty for kind's own."""
    target = hands.target
    if target.images.kind != "archive":
        return target.node_image
    folder = Path(target.images.where)
    index = archive.read(folder)
    ref = target.node_image or index.roles.get(archive.NODE, "")
    if index.id_of(ref) and ref not in docker.inspected(hands.shell, [ref]):
        hands.tell(f"loading {ref}")
        archive.load(hands.shell, folder, ref, hands.left_s)
    return ref


def half_made(target: Target, nodes: list[dict[str, Any]]) -> bool:
    """Whether these nodes are what a run of ours was making when it was cut off.

    kind writes the context last, so a cluster that has one came to its end, whoever made it; and a node that was made
    before that run, or long after it, is somebody else's.
    """
    flag = marker(target.state, target.cluster)
    if not flag.exists():
        return False
    try:
        configuration(target.context, target.kubeconfig)
        return False
    except Unknown as unknown:
        if unknown.code != "SFM-K8S-002":
            raise
    began = flag.stat().st_mtime
    made = [datetime.fromisoformat(node["Created"]).timestamp() for node in nodes]
    return any(began - CLOCKS_S <= at <= began + MAKING_S for at in made)


def state(seen: Observer) -> str:
    """absent, stopped, partial (ours, half-made), other (made with other settings), dead, no-context or running."""
    target = seen.target
    ports = wanted_ports(target.kind_config)  # first of all: a configuration that is none is told before any change
    nodes = containers(seen.shell, target.cluster)
    if not nodes:
        return "absent"
    if half_made(target, nodes):
        return "partial"
    if not ports <= mapped_ports(nodes):
        return "other"
    if not all(node["State"]["Running"] and not node["State"]["Paused"] for node in nodes):
        return "stopped"
    reader = None
    try:
        reader = Reader(target.context, target.kubeconfig)
        reader.version()
    except Unknown as unknown:
        if unknown.code == "SFM-K8S-018":
            raise
        return "no-context" if unknown.code == "SFM-K8S-002" else "dead"
    finally:
        if reader:
            reader.close()
    return "running"


def kubeconfig_flags(target: Target) -> list[str]:
    """Which kubeconfig kind writes a context to, or takes it from."""
    return ["--kubeconfig", str(target.kubeconfig)] if target.kubeconfig else []


def create(hands: Hands, params: Mapping[str, Any]) -> str:
    """Make the cluster, start a stopped one, or write the context of one whose context is missing."""
    target, now = hands.target, state(hands.seen)
    kubeconfig = kubeconfig_flags(target)
    flag = marker(target.state, target.cluster)
    if now in ("stopped", "no-context"):  # it is no half-made one, so a marker is left over from another
        flag.unlink(missing_ok=True)
    if now == "stopped":
        return start(hands)
    if now == "no-context":
        try:
            hands.shell.run(["kind", "export", "kubeconfig", "--name", target.cluster, *kubeconfig], timeout_s=30)
        except CommandFailed as failed:
            what = "the cluster that is there has no kubeconfig to give: it was never made whole"
            anew = "sfmctl cluster create --recreate (deletes it)"
            raise Trouble("SFM-KIND-002", what, why=failed.gist, next_step=anew) from failed
        return f"wrote the context {target.context}"
    told = supplied_node_image(hands)
    image = ["--image", told] if told else []
    with writing(flag.parent, "XDG_STATE_HOME"):
        flag.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flag.touch(mode=0o600)
    try:
        hands.shell.run(
            ["kind", "create", "cluster", "--name", target.cluster, "--config", str(target.kind_config), *image,
             *kubeconfig, "--wait", f"{max(30, int(hands.left_s) - 20)}s"],
            timeout_s=hands.left_s, on_line=progress(hands),
        )  # fmt: skip
    except CommandFailed as failed:
        raise not_made(hands, flag, failed) from failed
    except KeyboardInterrupt:
        hands.tell("interrupted: taking the half-made cluster away")
        clean_up(hands, flag)
        raise
    flag.unlink(missing_ok=True)
    wait_for_api(hands)
    return f"made the cluster {target.cluster}, context {target.context}"


def start(hands: Hands) -> str:
    """Start the nodes that are stopped, let those go on that were paused, and wait for the API server."""
    nodes = containers(hands.shell, hands.target.cluster)
    for command, state in (("unpause", "Paused"), ("start", "Running")):
        names = [n["Name"].lstrip("/") for n in nodes if n["State"][state] is (state == "Paused")]
        if names:
            hands.shell.run(["docker", command, *names], timeout_s=60)
    wait_for_api(hands)
    return f"started {', '.join(node['Name'].lstrip('/') for node in nodes)}"


def progress(hands: Hands) -> Callable[[str], None]:
    """Passes on kind's steps, without its signs, its advice for its own users, and the whole log after an error."""
    advice = ("You can now use", "kubectl ", "Not sure what", "Thanks for", "Have a", "cgroup v1")
    failed = False

    def tell(line: str) -> None:
        nonlocal failed
        text = "".join(c for c in line if c.isascii()).strip(" .")
        if text and not failed and not text.startswith(advice):
            hands.tell(text)
        failed = failed or line.startswith(("ERROR:", "Command Output:"))

    return tell


def not_made(hands: Hands, flag: Path, failed: CommandFailed) -> Trouble:
    """The trouble of a create that failed, after taking away what it began; a cluster of somebody else stays."""
    trouble = create_trouble(failed)
    if trouble.code == "SFM-KIND-009":
        flag.unlink(missing_ok=True)
    else:
        clean_up(hands, flag)
    return trouble


def clean_up(hands: Hands, flag: Path) -> None:
    """Delete what a failed create began, until nothing of it comes any more; the marker goes only then.

    The engine goes on making a container whose client was cut off, so one may appear after the first delete.
    """
    shell, cluster, deadline = Shell(env=hands.shell.env), hands.target.cluster, time.monotonic() + CLEANING_S
    quiet_since = None
    while quiet_since is None or time.monotonic() - quiet_since < STRAGGLER_S:
        if time.monotonic() > deadline:
            hands.tell("something of the cluster keeps coming back: the next run takes it away")
            return
        try:
            if quiet_since is None or containers(shell, cluster):
                shell.run(
                    ["kind", "delete", "cluster", "--name", cluster, *kubeconfig_flags(hands.target)], timeout_s=60
                )
                quiet_since = time.monotonic()
        except (CommandFailed, Unknown):  # a container that is just being made, or just went, refuses a question
            quiet_since = None
        time.sleep(0.3)
    flag.unlink(missing_ok=True)


def create_trouble(failed: CommandFailed) -> Trouble:
    """The code for what kind said."""
    said = failed.stderr + failed.stdout
    if "already exist for a cluster with the name" in said:
        return Trouble("SFM-KIND-009", "a cluster of that name was made meanwhile", why=failed.gist)
    if "port is already allocated" in said or "address already in use" in said:
        return Trouble("SFM-KIND-005", "a port that the cluster needs is taken", why=failed.gist)
    if "No such image" in said or "failed to pull image" in said or "pull access denied" in said:
        return Trouble("SFM-KIND-007", "the node image is not there", why=failed.gist)
    if "no space left on device" in said:
        return Trouble("SFM-TOOL-005", "there is no disk space for the cluster", why=failed.gist)
    said_so = [line for line in said.splitlines() if line.startswith("ERROR:")]
    return Trouble("SFM-KIND-002", "kind could not make the cluster", why="\n".join([*said_so, failed.told]))


def wait_for_api(hands: Hands) -> None:
    """Wait until the API server answers and every node is ready."""
    while True:
        hands.shell.check_cancelled()
        hands.forget()
        try:
            unready = node_facts(hands.api)["nodes.unready"]
        except Unknown as unknown:
            unready = [unknown.what]
        if not unready:
            return
        if hands.left_s <= 0:
            raise Trouble("SFM-KIND-006", "the cluster did not become ready in time", why="; ".join(unready))
        hands.tell("waiting for " + "; ".join(unready))
        time.sleep(1)


def remove(hands: Hands, params: Mapping[str, Any]) -> str:
    """Delete the cluster with its context; absent is success."""
    target = hands.target
    argv = ["kind", "delete", "cluster", "--name", target.cluster, *kubeconfig_flags(target)]
    try:
        hands.shell.run(argv, timeout_s=hands.left_s)
    except CommandFailed as failed:
        raise Trouble("SFM-KIND-004", "the cluster could not be deleted", why=failed.told) from failed
    marker(target.state, target.cluster).unlink(missing_ok=True)
    return f"deleted the cluster {target.cluster}"
