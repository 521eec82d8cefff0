"""Into the cluster from the operator's machine: a command inside a pod, and a pod's port on a loopback address.

Both go through the API server and the kubelet, so they need no route to the pod network and no exception in a network
policy. Every listener is on 127.0.0.1, and gone when its `with` block ends. Secrets go in by standard input, never in a
command's arguments.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playbook.kube import configuration, short_reason
from playbook.trouble import Unknown

CHUNK = 65_536


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
        return Answer(int(opened.returncode or 0), str(out), str(err))
    finally:
        opened.close()


class Forward:
    """One port of one pod on a port of 127.0.0.1; each connection gets a stream of its own."""

    def __init__(self, context: str, kubeconfig: Path | None, namespace: str, pod: str, port: int) -> None:
        self.context, self.kubeconfig, self.namespace, self.pod, self.remote = context, kubeconfig, namespace, pod, port
        self.trouble = ""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[Any] = []
        self._thread = threading.Thread(target=self._accept, name=f"forward {pod}:{port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._bridge, args=(near,), daemon=True).start()

    def _bridge(self, near: socket.socket) -> None:
        from kubernetes.stream import portforward

        with near:
            try:
                api = core_api(self.context, self.kubeconfig)
                stream = portforward(
                    api.connect_get_namespaced_pod_portforward, self.pod, self.namespace, ports=str(self.remote)
                )
                far = stream.socket(self.remote)
            except Exception as error:  # noqa: BLE001 - whatever the library raises, the client just sees a closed connection
                self.trouble = str(error).splitlines()[0]
                return
            self._open += [near, far]
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join(timeout=30)
            far.close()


def pump(source: Any, sink: Any) -> None:
    """Copy bytes until the source ends, then say so to the sink."""
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError, ValueError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def forwarded(context: str, kubeconfig: Path | None, namespace: str, pod: str, port: int) -> Iterator[Forward]:
    """A pod's port on 127.0.0.1 for as long as the block runs."""
    made = Forward(context, kubeconfig, namespace, pod, port)
    try:
        yield made
    finally:
        made.close()
