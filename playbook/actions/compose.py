"""The compose stack for machines without a cluster: down with its volumes, up again, tried. Idempotent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble

if TYPE_CHECKING:
    from playbook.engine import Hands

PROJECT = "soma-infra"


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
    """Take the stack down with its named volumes, bring it up, and wait until every service is healthy."""
    target, shell = hands.target, hands.shell
    base = [*program(shell), "--project-name", PROJECT, "--file", str(compose_file(target))]
    try:
        hands.tell("taking the stack down with its volumes")
        shell.run([*base, "down", "--volumes", "--remove-orphans"], timeout_s=120)
    except CommandFailed as failed:
        raise Trouble("SFM-CMP-001", "the compose stack could not be taken down", why=failed.told) from failed
    try:
        hands.tell("bringing it up")
        shell.run([*base, "up", "--detach", "--wait"], timeout_s=max(60.0, hands.left_s - 10))
        listed = shell.run([*base, "ps", "--all", "--format", "json"], timeout_s=30).stdout
    except CommandFailed as failed:
        raise Trouble("SFM-CMP-002", "the compose stack did not come up", why=failed.told) from failed
    services = parsed(listed)
    bad = [f"{s['Service']} is {s['State']} {s.get('Health', '')}".strip() for s in services if not well(s)]
    if bad or not services:
        raise Trouble("SFM-CMP-002", "the compose stack did not come up", why="\n".join(bad) or "no service runs")
    return f"{len(services)} services are up and healthy"


def compose_file(target: Target) -> Any:
    """The stack's file."""
    path = target.infra / "compose" / "compose.yaml"
    if not path.is_file():
        raise Trouble("SFM-CLI-021", f"there is no {path}")
    return path


def parsed(listed: str) -> list[dict[str, Any]]:
    """`ps --format json` of either compose program: one list, or one object a line."""
    text = listed.strip()
    if text.startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def well(service: Mapping[str, Any]) -> bool:
    """Whether a service runs and is healthy, or was a job that ended with 0."""
    if service["State"] == "exited":
        return service.get("ExitCode") == 0
    return service["State"] == "running" and service.get("Health", "") in ("", "healthy")
