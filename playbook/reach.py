"""A command inside a pod, from the operator's machine (`tunnel.py` has the way to a pod's port).

It goes through the API server and the kubelet, so it needs no route to the pod network and no exception in a network
policy. Secrets go in by standard input, never in a command's arguments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playbook.kube import configuration, short_reason
from playbook.trouble import Unknown

STATUS = 3
"""The channel on which the kubelet says how a command ended."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command inside a pod said."""

    code: int
    out: str
    err: str


def core_api(context: str, kubeconfig: Path | None) -> Any:
    """A client of its own: the library swaps a client's request function while a stream opens, so none is shared."""
    from kubernetes import client

    return client.CoreV1Api(client.ApiClient(configuration(context, kubeconfig)))


def inside(
    context: str, kubeconfig: Path | None, namespace: str, pod: str, container: str, command: Sequence[str],
    *, stdin: str = "", timeout_s: float = 15.0,
) -> Answer:  # fmt: skip
    """Run `command` in a container; Unknown when it could not be started or did not end in time."""
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import stream
    from websocket import WebSocketException

    api = core_api(context, kubeconfig)
    try:
        opened = stream(
            api.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=list(command),
            stdin=bool(stdin), stdout=True, stderr=True, tty=False, _preload_content=False, _request_timeout=timeout_s,
        )  # fmt: skip
    except ApiException as error:
        why = error.reason if isinstance(error.reason, str) else str(error)
        raise Unknown("SFM-K8S-017", f"no command can be run in {pod}/{container}", why=why.splitlines()[0]) from error
    except OSError as error:
        raise Unknown("SFM-K8S-001", "the API server does not answer", why=short_reason(error)) from error
    try:
        if stdin:
            opened.write_stdin(stdin)
        opened.run_forever(timeout=timeout_s)
        if opened.is_open():
            raise Unknown("SFM-K8S-017", f"a command in {pod}/{container} did not end within {timeout_s:g} s")
        out, err = opened.read_stdout() or "", opened.read_stderr() or ""
        return Answer(exit_code(opened.read_channel(STATUS), f"{pod}/{container}"), str(out), str(err))
    except (OSError, WebSocketException) as error:
        why = f"the connection to {pod}/{container} broke: {short_reason(error)}"
        raise Unknown("SFM-K8S-001", "the API server does not answer", why=why) from error
    finally:
        opened.close()
        opened.sock.shutdown()  # closing leaves the socket open when the other side closed first


def exit_code(said: str, where: str) -> int:
    """The exit code in what the kubelet said at the end; Unknown when it says none, as after an error of its own."""
    try:
        status = dict(json.loads(said))
    except (ValueError, TypeError):
        status = {}
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    codes = [cause.get("message", "") for cause in causes if cause.get("reason") == "ExitCode"]
    if codes and str(codes[0]).isdecimal():
        return int(codes[0])
    why = str(status.get("message") or said or "the connection ended before it was said")
    raise Unknown("SFM-K8S-017", f"how a command in {where} ended is not known", why=why[:500])
