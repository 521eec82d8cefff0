"""A real registry to pull from: it serves what `docker save` wrote, by the pull half of the OCI distribution API.

Blobs go out byte for byte as the archive has them, so an image that arrives has the very id that it was saved with.
Loopback only; a Docker engine takes a registry there without TLS.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import threading
from contextlib import AbstractContextManager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class Registry(AbstractContextManager["Registry"]):
    """Serves images while the block runs; `address` is what stands before their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.asked: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self, body=True)

            def do_HEAD(self) -> None:
                registry.answer(self, body=False)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet: `asked` has it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def add(self, name: str, tag: str, archive: Path) -> None:
        """Serve the one image of an archive as `name:tag`."""
        with tarfile.open(archive) as saved:
            entry = json.load(self._member(saved, "manifest.json"))[0]
            config = self._keep(saved, entry["Config"], CONFIG)
            layers = [self._keep(saved, layer, LAYER) for layer in entry["Layers"]]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).encode()
        self.manifests[name, tag] = self.manifests[name, digest_of(manifest)] = manifest

    def _member(self, saved: tarfile.TarFile, name: str) -> Any:
        """A file of the archive; a link inside it is followed, as layers that are equal are linked."""
        found = saved.extractfile(name)
        if found is None:
            raise ValueError(f"{name} is no file of the archive")
        return found

    def _keep(self, saved: tarfile.TarFile, name: str, kind: str) -> dict[str, Any]:
        """Copy one blob out of the archive, under its digest; its descriptor."""
        partial = self.folder / "partial"
        with self._member(saved, name) as source, partial.open("wb") as out:
            shutil.copyfileobj(source, out)
        with partial.open("rb") as stream:
            digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        size = partial.stat().st_size
        partial.rename(self.folder / digest)
        return {"mediaType": kind, "size": size, "digest": digest}

    def answer(self, to: BaseHTTPRequestHandler, *, body: bool) -> None:
        """One request of the pull API."""
        self.asked.append(to.path)
        manifest = re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", to.path)
        blob = re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", to.path)
        if to.path == "/v2/":
            self._send(to, b"{}", "application/json", body=body)
        elif manifest and (manifest[1], manifest[2]) in self.manifests:
            self._send(to, self.manifests[manifest[1], manifest[2]], MANIFEST, body=body)
        elif blob and (path := self.folder / blob[1]).is_file():
            self._send(to, path, "application/octet-stream", body=body)
        else:
            code = "MANIFEST_UNKNOWN" if manifest else "BLOB_UNKNOWN"
            said = json.dumps({"errors": [{"code": code, "message": "not here"}]}).encode()
            self._send(to, said, "application/json", status=HTTPStatus.NOT_FOUND, body=body)

    def _send(
        self, to: BaseHTTPRequestHandler, what: bytes | Path, kind: str, *, body: bool, status: int = HTTPStatus.OK
    ) -> None:
        to.send_response(status)
        to.send_header("Docker-Distribution-API-Version", "registry/2.0")
        to.send_header("Content-Type", kind)
        to.send_header("Content-Length", str(what.stat().st_size if isinstance(what, Path) else len(what)))
        to.send_header("Docker-Content-Digest", what.name if isinstance(what, Path) else digest_of(what))
        to.end_headers()
        if not body:
            return
        if isinstance(what, Path):
            with what.open("rb") as stream:
                shutil.copyfileobj(stream, to.wfile)
        else:
            to.wfile.write(what)


def digest_of(data: bytes) -> str:
    """The digest by which a registry names `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
