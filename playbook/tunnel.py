"""A way from this machine to a port of a pod, over the API server: a loopback port for as long as it is needed.

A tunnel moves bytes and cannot tell a read from a write. So whoever opens one while a plan is being made speaks through
a client that refuses to write (see `playbook/wiring/vault.py`, `postgres.py`, `redis.py`, `kafka.py`), just as the
`Reader` does for the API server itself.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playbook.kube import Json, Reader, configuration
from playbook.trouble import Unknown

CHUNK = 64 * 1024
DATA, ERROR = 0, 1
"""Channels of the port-forward protocol: each begins with a frame that repeats the port's number."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where tunnels start from: one context."""

    context: str
    kubeconfig: Path | None
    namespace: str


def pods_of(reader: Reader, namespace: str, service: str) -> list[str]:
    """The ready pods behind a Service, by name; Unknown when there is none."""
    found = reader.get(f"/api/v1/namespaces/{namespace}/services/{service}")
    if found is None:
        raise Unknown("SFM-APP-005", f"there is no Service {service} in {namespace}")
    selector = ",".join(f"{k}={v}" for k, v in (found["spec"].get("selector") or {}).items())
    pods = reader.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
    names = sorted(pod["metadata"]["name"] for pod in pods if is_ready(pod))
    if not names:
        seen = "; ".join(f"{p['metadata']['name']} is {p['status'].get('phase')}" for p in pods)
        raise Unknown("SFM-APP-005", f"no pod of {service} in {namespace} is ready", why=seen or "there is no pod")
    return names


def is_ready(pod: Json) -> bool:
    """Whether a pod is ready and not on its way out."""
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


@contextlib.contextmanager
def tunnel(way: Way, pod: str, port: int) -> Iterator[int]:
    """A loopback port that leads to `port` of `pod` until the context ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        server.settimeout(0.2)
        ended = threading.Event()
        made: list[threading.Thread] = []

        def accept() -> None:
            while not ended.is_set():
                try:
                    local, _ = server.accept()
                except TimeoutError:
                    continue
                except OSError:
                    return
                one = threading.Thread(target=carry, args=(way, pod, port, local, ended), daemon=True)
                made.append(one)
                one.start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            ended.set()
            accepting.join(timeout=2)
            for one in made:
                one.join(timeout=2)


def websocket(way: Way, pod: str, port: int) -> Any:
    """The API server's port-forward stream to one port of one pod."""
    from kubernetes.stream.ws_client import create_websocket, get_websocket_url

    made = configuration(way.context, way.kubeconfig)
    headers = {setting["key"]: setting["value"] for setting in made.auth_settings().values()}
    url = f"{made.host}/api/v1/namespaces/{way.namespace}/pods/{pod}/portforward"
    wanted = {**headers, "sec-websocket-protocol": "v4.channel.k8s.io"}
    return create_websocket(made, get_websocket_url(url, [("ports", str(port))]), wanted)


def carry(way: Way, pod: str, port: int, local: socket.socket, ended: threading.Event) -> None:
    """Carry one connection until either side closes it. A way that breaks closes the local side: its client says so."""
    import websocket as ws

    with local:
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else every short answer waits for an ACK, 40 ms
        try:
            remote = websocket(way, pod, port)
        except (OSError, ws.WebSocketException):
            return
        try:
            exchange(local, remote, ended)
        except (OSError, ws.WebSocketException, ssl.SSLError):
            return
        finally:
            remote.close(timeout=1)
            remote.shutdown()  # closing leaves the socket open when the other side closed first


def exchange(local: socket.socket, remote: Any, ended: threading.Event) -> None:
    """Move bytes both ways in one thread: a TLS connection is not to be read and written from two."""
    from websocket import ABNF

    begun: set[int] = set()
    while not ended.is_set():
        waiting = getattr(remote.sock, "pending", lambda: 0)()
        ready = [remote.sock] if waiting else select.select([local, remote.sock], [], [], 0.2)[0]
        if remote.sock in ready:
            opcode, frame = remote.recv_data_frame(True)
            if opcode == ABNF.OPCODE_CLOSE:
                return
            if opcode == ABNF.OPCODE_BINARY and frame.data:
                channel, data = frame.data[0], frame.data[1:]
                if channel not in begun:
                    begun.add(channel)
                elif channel == ERROR:
                    return
                elif data:
                    local.sendall(data)
        if local in ready:
            data = local.recv(CHUNK)
            if not data:
                return
            remote.send_binary(bytes([DATA]) + data)
