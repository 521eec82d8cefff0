"""An application's Redis user: a line in the Secret that every Redis node loads, and the same set at once on each.

The rule it guards: the Secret is the truth, so the user outlives restarts, failovers and ephemeral disks. Only the
digest of a password is ever stored or sent for writing.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from typing import Any

from playbook.kube import Writer, WriteRefused
from playbook.trouble import Unknown
from playbook.tunnel import is_ready
from playbook.wiring import redis_rules as rules
from playbook.wiring.access import redis_user
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.reach import Reach, ca_file

ADMIN = "infra"
TIMEOUT_S = 20
BATCH = 500
CHANGED = "soma.sh/users-changed"
READS = frozenset({"ACL CAT", "ACL LIST", "ROLE", "SCAN"})
"""All that is sent while a plan is being made."""


def users_secret(reach: Reach) -> str:
    """The Secret with one line per application."""
    return f"{reach.target.release}-redis-users"


@contextlib.contextmanager
def connected(
    reach: Reach, at: Endpoints, pod: str, user: str, password: str, *, writing: bool = False
) -> Iterator[Any]:
    """A client of one Redis node (of the external service when `pod` is empty); one that only reads, unless told."""
    import redis

    class ReadRedis(redis.Redis):
        def execute_command(self, *args: Any, **options: Any) -> Any:
            if str(args[0]).upper() not in READS:
                raise WriteRefused(f"a read-only run does not send {args[0]} to Redis")
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    host, port = at.need("REDIS_HOST"), at.number("REDIS_PORT")
    with ca_file(at.trusted("redis")) as ca, reach.address(host, port, at, pod=pod) as (name, local):
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": ca or None, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        client = (redis.Redis if writing else ReadRedis)(
            host="localhost" if name == "127.0.0.1" else name, port=local, username=user, password=password,
            socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True,
            **(tls if at.need("REDIS_URL").startswith("rediss://") else {}),
        )  # fmt: skip
        with contextlib.closing(client):
            yield client


def nodes(reach: Reach, at: Endpoints) -> list[str]:
    """The Redis pods, behind whatever Service stands in front of them; one empty name for an external service."""
    if not at.service(at.need("REDIS_HOST")):
        return [""]
    base = f"/api/v1/namespaces/{reach.target.namespace}/pods"
    selector = f"app.kubernetes.io/name=redis,app.kubernetes.io/instance={reach.target.release}"
    pods = reach.reader.items(base, labelSelector=selector)
    names = sorted(p["metadata"]["name"] for p in pods if is_ready(p))
    if not names:
        raise Unknown("SFM-APP-005", "no Redis node is ready", why=f"{len(pods)} pods, none of them ready")
    return names


@contextlib.contextmanager
def worded(doing: str) -> Iterator[None]:
    """The client's errors as trouble with a code."""
    import redis

    try:
        yield
    except redis.exceptions.BusyLoadingError as error:
        raise Unknown("SFM-RED-002", f"could not {doing}: Redis is loading its data", why=str(error)) from error
    except redis.exceptions.RedisError as error:
        raise Unknown("SFM-RED-011", f"could not {doing}", why=str(error)) from error


def admin_password(reach: Reach) -> str:
    """The password of the infrastructure's own user."""
    return reach.admin("redis", "infra-password", "SFM_REDIS_ADMIN_PASSWORD", "SFM-RED-011")


def wanting(reach: Reach, at: Endpoints, password: str) -> list[str]:
    """What the user lacks or has too much of: its line in the Secret, and the rules that each node lives by."""
    app = reach.app
    kept = reach.secret(users_secret(reach))
    line = kept.get(app.redis_file).strip() if kept else ""
    if not line:
        return [f"user {app.name} is absent"]
    if not password or line != redis_user(app, password):
        return [f"user {app.name} has other rules or another password"]
    return [words for pod in nodes(reach, at) for words in live_wanting(reach, at, pod, line)]


def live_wanting(reach: Reach, at: Endpoints, pod: str, line: str) -> list[str]:
    """How the user on one node differs from its line."""
    name, where = reach.app.name, pod or "Redis"
    with worded("look at the user"), connected(reach, at, pod, ADMIN, admin_password(reach)) as client:
        live = next((one for one in client.acl_list() if one.split()[1] == name), "")
        if not live:
            return [f"{where}: user {name} is absent"]
        has = {one: frozenset(client.acl_cat(one)) for one in rules.categories(line, live)}
    return [f"{where}: user {name} {words}" for words in rules.differences(line, live, has)]


def apply(reach: Reach, writer: Writer, at: Endpoints, password: str) -> str:
    """Write the line and set the user on every node."""
    app, line = reach.app, redis_user(reach.app, password)
    keep(writer, reach, {app.redis_file: line + "\n"})
    names = nodes(reach, at)
    whole = ["reset", *line.split()[2:]]
    for pod in names:
        with worded("set the user"), connected(reach, at, pod, ADMIN, admin_password(reach), writing=True) as client:
            client.execute_command("ACL", "SETUSER", app.name, *whole)
    return f"user {app.name} on {len(names)} node{'s' if len(names) > 1 else ''}, confined to {app.name}:*"


def keep(writer: Writer, reach: Reach, lines: dict[str, str | None]) -> None:
    """Merge lines into the Secret (None takes one away); the other applications' stay as they are.

    Then touch the nodes' pods, which makes each kubelet renew its copy now and not within the next minute: a node that
    still read an old copy would take a user back that was taken away a moment ago.
    """
    merged(writer, reach, lines)
    for pod in filter(None, nodes(reach, reach.endpoints())):
        path = f"/api/v1/namespaces/{reach.target.namespace}/pods/{pod}"
        writer.merge(path, {"metadata": {"annotations": {CHANGED: str(time.time_ns())}}})


def merged(writer: Writer, reach: Reach, lines: dict[str, str | None]) -> None:
    """The merge alone."""
    base = f"/api/v1/namespaces/{reach.target.namespace}/secrets"
    name = users_secret(reach)
    text = {k: v for k, v in lines.items() if v is not None}
    if writer.get(f"{base}/{name}") is None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": text}
        writer.apply(f"{base}/{name}", body)
        return
    writer.merge(f"{base}/{name}", {"stringData": text, "data": {k: None for k, v in lines.items() if v is None}})


def access(reach: Reach, at: Endpoints) -> tuple[list[str], list[str]]:
    """Whether the user is there, and whether there are keys below its prefix."""
    app = reach.app
    kept = reach.secret(users_secret(reach))
    let_in = [f"user {app.name}"] if kept and kept.get(app.redis_file) else []
    with worded("look at the keys"), primary(reach, at) as client:
        found = next(client.scan_iter(match=f"{app.name}:*", count=BATCH), None)
    return let_in, [f"keys {app.name}:*"] if found is not None else []


@contextlib.contextmanager
def primary(reach: Reach, at: Endpoints, *, writing: bool = False) -> Iterator[Any]:
    """The administrator's client of the node that is the primary."""
    for pod in nodes(reach, at):
        with connected(reach, at, pod, ADMIN, admin_password(reach), writing=writing) as client:
            if client.role()[0] == "master":
                yield client
                return
    raise Unknown("SFM-RED-001", "no Redis node says that it is the primary")


def remove(reach: Reach, writer: Writer, at: Endpoints) -> str:
    """Take the user away everywhere and cut its connections."""
    app = reach.app
    keep(writer, reach, {app.redis_file: None})
    for pod in nodes(reach, at):
        with worded("remove the user"), connected(reach, at, pod, ADMIN, admin_password(reach), writing=True) as client:
            client.acl_deluser(app.name)
    return f"user {app.name} is gone"


def erase(reach: Reach, at: Endpoints) -> str:
    """Delete every key below the application's prefix, in batches that block nobody for long."""
    gone = 0
    with worded("delete the keys"), primary(reach, at, writing=True) as client:
        batch: list[str] = []
        for key in client.scan_iter(match=f"{reach.app.name}:*", count=BATCH):
            batch.append(key)
            if len(batch) == BATCH:
                gone += client.unlink(*batch)
                batch = []
        gone += client.unlink(*batch) if batch else 0
    return f"{gone} keys are deleted"
