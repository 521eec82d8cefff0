"""A real HTTP server where a cluster's API server would be: it holds objects by path, and keeps what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Json = dict[str, Any]


class Api(ThreadingHTTPServer):
    """Answers a read with what `objects` has at its path or below it, and everything else with `answer`.

    Bytes are sent as they are, and so are `texts`, such as logs. A path of `ill` is answered with that status.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str]] = []
        self.answer: tuple[int, Json | bytes] = (200, {"kind": "Status"})
        self.objects: dict[str, Json] = {}
        self.texts: dict[str, str] = {}
        self.refused: set[str] = set()
        self.ill: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, collection: str, *found: Json) -> None:
        """Hold objects in a collection, by their names."""
        for one in found:
            self.objects[f"{collection}/{one['metadata']['name']}"] = one

    def found(self, path: str) -> tuple[int, Json | bytes]:
        """What a read of `path` is answered with."""
        if not self.objects:
            return self.answer
        at = urlsplit(path)
        if at.path in self.ill:
            return self.ill[at.path], {"message": "the server is currently unable to handle the request"}
        if at.path in self.refused:
            return 403, {"errors": ["permission denied"], "message": "permission denied"}
        before = f"{at.path}?previous"
        if "previous" in parse_qs(at.query) and before in self.texts:
            return 200, self.texts[before].encode()
        if at.path in self.texts:
            return 200, self.texts[at.path].encode()
        if at.path in self.objects:
            return 200, self.objects[at.path]
        labels = dict(pair.split("=") for pair in parse_qs(at.query).get("labelSelector", [""])[0].split(",") if pair)
        below = [one for key, one in self.objects.items() if key.rpartition("/")[0] == at.path]
        fitting = [one for one in below if labels.items() <= one["metadata"].get("labels", {}).items()]
        return (200, {"items": fitting, "metadata": {}}) if below else (404, {"message": "not found"})


class Handler(BaseHTTPRequestHandler):
    """One request of a test."""

    server: Api

    def reply(self) -> None:
        """Answer any method."""
        length = int(self.headers.get("Content-Length") or 0)
        self.server.asked.append((self.command, self.path, self.rfile.read(length).decode()))
        status, body = self.server.found(self.path) if self.command == "GET" else self.server.answer
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = reply

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def leading(kubeconfig: Path, url: str, contexts: Sequence[str]) -> None:
    """Write a kubeconfig whose contexts lead to `url`."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": contexts[-1],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "a-token"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts],
    }  # fmt: skip
    kubeconfig.write_text(yaml.safe_dump(config))


@contextlib.contextmanager
def serving(kubeconfig: Path, *contexts: str) -> Iterator[Api]:
    """The server, and at `kubeconfig` a file with `contexts` that lead to it."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        leading(kubeconfig, server.url, contexts)
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def silent(kubeconfig: Path, *contexts: str) -> Iterator[None]:
    """A server that takes connections and never answers, and a file with `contexts` that lead to it."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        leading(kubeconfig, f"http://127.0.0.1:{server.getsockname()[1]}", contexts)
        yield
