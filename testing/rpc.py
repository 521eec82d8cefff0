"""The daemon in this process: its store, service and gRPC server over TLS on a free port, nothing doubled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfmd.auth import VERBS, TokenFile
from sfmd.builder import MemorySystemBuilder
from sfmd.config import load
from sfmd.limits import CallLimits
from sfmd.observe import Metrics
from sfmd.rpc.behaviours.table import behaviours_of
from sfmd.rpc.profile import Profile
from sfmd.rpc.server import RpcServer, ServerOptions
from sfmd.secrets import Tls
from sfmd.service import MemoryService


@dataclass
class Served:
    """A running server, its parts, and a profile whose token may do everything."""

    service: MemoryService
    server: RpcServer
    tokens: TokenFile
    tls: Tls
    metrics: Metrics
    folder: Path
    port: int

    def profile(self, *, verbs: tuple[str, ...] = VERBS, namespaces: tuple[str, ...] = ("*",),
                lifetime_s: float | None = None) -> Profile:  # fmt: skip
        """A profile with a new token of that grant."""
        token, record = self.tokens.create("tester", namespaces, verbs, lifetime_s=lifetime_s)
        file = self.folder / f"token-{record.key}"
        file.write_text(token)
        return Profile(address=f"127.0.0.1:{self.port}", ca_file=str(self.tls.paths.ca), token_file=str(file))


@asynccontextmanager
async def serve(folder: Path, *, limits: CallLimits | None = None, reflection: bool = False,
                clock: Any = time.time, client_ca: Path | None = None) -> AsyncIterator[Served]:  # fmt: skip
    """Build the service on a data directory below `folder` and serve it until the block ends."""
    service = await MemorySystemBuilder(load(data_dir=folder / "data"), clock).build()
    tokens = TokenFile(folder / "tokens.json", clock)
    tls = Tls.development(folder / "tls", clock, client_ca=client_ca)
    metrics = Metrics()
    metrics.watch_service(service.stats)
    options = ServerOptions(port=0, reflection=reflection, limits=limits or CallLimits())
    server = RpcServer(behaviours_of(service, options.limits.message_bytes), tokens, tls, metrics, options)
    port = await server.start()
    await server.serving(True)
    try:
        yield Served(service, server, tokens, tls, metrics, folder, port)
    finally:
        service.end_watches()
        await server.stop(0.2)
        await service.close()
