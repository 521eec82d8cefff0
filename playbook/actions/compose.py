"""The compose stack for machines without a cluster: down with its volumes, up again, tried. Idempotent."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from playbook.actions import images
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble

if TYPE_CHECKING:
    from playbook.engine import Hands

PROJECT = "soma-infra"
SMOKE = ("smoke", "smoke-redis", "smoke-kafka")
"""Services of the stack's profile `smoke`: clients that ask one real question and end."""


def program(shell: Shell) -> list[str]:
    """The compose program that is there: Docker's plugin, else docker-compose."""
    for argv in (["docker", "compose", "version"], ["docker-compose", "version"]):
        try:
            shell.run(argv, timeout_s=15)
        except (CommandFailed, Trouble):
            continue
        return argv[:-1]
    raise Trouble("SFM-TOOL-006", "docker compose is not installed")


def reset(hands: Hands, params: Mapping[str, Any]) -> str:
    """Take the stack down with its named volumes, bring it up, wait until all is healthy, and ask it real questions."""
    target, shell = hands.target, hands.shell
    base = [*program(shell), *options(target)]
    build_own(hands, base)
    down(hands, base)
    try:
        hands.tell("bringing it up")
        shell.run([*base, "up", "--detach"], timeout_s=max(60.0, hands.left_s - 10))
        services = healthy(hands, base)
        for name in SMOKE:
            hands.tell(f"asking a real question: {name}")
            shell.run([*base, "run", "--rm", "-T", name], timeout_s=90)
    except CommandFailed as failed:
        raise Trouble("SFM-CMP-002", "the compose stack did not come up", why=failed.told,
                      next_step=shlex.join([*base, "logs"])) from failed  # fmt: skip
    return f"{services} services are up, healthy, and answer"


def down(hands: Hands, base: list[str]) -> None:
    """Take the stack down with its volumes."""
    hands.tell("taking the stack down with its volumes")
    try:
        hands.shell.run([*base, "down", "--volumes", "--remove-orphans"], timeout_s=120)
    except CommandFailed as failed:
        raise Trouble("SFM-CMP-001", "the compose stack could not be taken down", why=failed.told,
                      next_step=failed.line) from failed  # fmt: skip


def build_own(hands: Hands, base: list[str]) -> None:
    """Build those of our own images that the stack runs and the local Docker lacks: no registry has them."""
    try:
        stack = yaml.safe_load(hands.shell.run([*base, "config"], timeout_s=60).stdout)
    except CommandFailed as failed:
        raise Trouble("SFM-CMP-002", "the compose files do not fit together", why=failed.told,
                      next_step=failed.line) from failed  # fmt: skip
    used = {service.get("image") for service in stack["services"].values()}
    ours = [image for image in hands.book.images if image.ref in used]
    for image in images.unbuilt(hands.target, hands.shell, ours):
        images.build_one(hands.target, hands.shell, image, hands.left_s, hands.tell)


def containers(shell: Shell) -> list[dict[str, Any]]:
    """The stack's containers as `docker inspect` shows them."""
    label = f"label=com.docker.compose.project={PROJECT}"
    ids = shell.run(["docker", "ps", "--all", "--quiet", "--filter", label], timeout_s=20).stdout.split()
    return list(json.loads(shell.run(["docker", "inspect", *ids], timeout_s=20).stdout)) if ids else []


def judge(found: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Of the containers: who is not healthy yet, and who ended with an error (which waiting will not mend)."""
    waiting, ended = [], []
    for one in found:
        name, state = one["Name"].lstrip("/"), one["State"]
        health = (state.get("Health") or {}).get("Status", "")
        if state["Status"] == "exited" and state.get("ExitCode"):
            ended.append(f"{name} ended with {state['ExitCode']}")
        elif state["Status"] not in ("running", "exited") or health not in ("", "healthy"):
            waiting.append(f"{name} is {health or state['Status']}")
    return waiting, ended


def healthy(hands: Hands, base: list[str]) -> int:
    """Wait until every container runs healthy or ended well; how many run."""
    while True:
        hands.shell.check_cancelled()
        found = containers(hands.shell)
        waiting, ended = judge(found)
        if ended or (waiting and hands.left_s <= 0) or not found:
            why = "\n".join([*ended, *waiting]) or "no container runs"
            raise Trouble(
                "SFM-CMP-002", "the compose stack did not come up", why=why, next_step=shlex.join([*base, "logs"])
            )
        if not waiting:
            return sum(one["State"]["Status"] == "running" for one in found)
        hands.tell("\n".join(waiting))
        time.sleep(2)


def options(target: Target) -> list[str]:
    """The options by which compose knows the stack: its project, its file and what is laid over it."""
    return ["--project-name", PROJECT, *(word for path in compose_files(target) for word in ("--file", str(path)))]


def compose_files(target: Target) -> list[Path]:
    """The stack's file, and what is laid over it."""
    own = target.infra / "compose" / "compose.yaml"
    if not own.is_file():
        raise Trouble("SFM-CLI-021", f"there is no {own}")
    for path in target.compose_files:
        if not path.is_file():
            raise Trouble("SFM-CLI-028", f"the compose file {path} cannot be read")
    return [own, *target.compose_files]
