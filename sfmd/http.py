"""The auxiliary HTTP port: /livez, /readyz, /healthz, /metrics, /stats. Loopback unless told otherwise, read only.

Guards two rules: liveness asks no dependency (it says that the event loop turns, nothing else), and every answer comes
from memory, so that it comes while the store is busy. It names namespaces and counts; never a payload, never a token.

aiohttp takes an eighth of a start to load, and no call over gRPC needs it: this module is loaded once these are served.
The socket listens before that, so that its port is known and whoever connects early is answered a moment later.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from sfmd.contract import ServiceStats
from sfmd.observe import Metrics


@dataclass(frozen=True, slots=True)
class Probes:
    """What the port asks: all of them answer at once from memory.

    ready    whether the daemon takes calls (false while it starts and drains)
    stats    the service's statistics
    details  further lines for /healthz, e.g. the token file's state; a value under "problem…" makes it unhealthy
    """

    ready: Callable[[], bool]
    stats: Callable[[], ServiceStats]
    details: Callable[[], Mapping[str, Any]] = dict


class AuxiliaryHttp:
    """Answers on a socket that `listen` made, from `start` to `stop`."""

    def __init__(self, probes: Probes, metrics: Metrics) -> None:
        self._probes = probes
        self._metrics = metrics
        app = web.Application(client_max_size=1024)
        for path, answer in self._routes().items():
            app.router.add_get(path, answer)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=15.0, handle_signals=False)

    async def start(self, listening: socket.socket) -> None:
        """Answer."""
        await self._runner.setup()
        await web.SockSite(self._runner, listening, backlog=64).start()

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    def _routes(self) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
        return {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/healthz": self._healthz,
            "/metrics": self._metrics_text,
            "/stats": self._stats,
        }

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._probes.ready()
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _healthz(self, _: web.Request) -> web.Response:
        ready, stats, details = self._probes.ready(), self._probes.stats(), dict(self._probes.details())
        sound = ready and stats.store_ok and not any(k.startswith("problem") and v for k, v in details.items())
        known = {"seq": stats.seq, "version": stats.version, "engine": stats.engine, "uptime_s": stats.uptime_s}
        body = {"healthy": sound, "ready": ready, "store_ok": stats.store_ok, **known, **details}
        return _json(body, 200 if sound else 503)

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _stats(self, _: web.Request) -> web.Response:
        return _json(asdict(self._probes.stats()), 200)


def _json(body: Any, status: int) -> web.Response:
    return web.Response(text=json.dumps(finite(body)) + "\n", status=status, content_type="application/json")


def finite(value: Any) -> Any:
    """The same document with null in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
