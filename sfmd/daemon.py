"""One run of the daemon: build, serve, drain. Everything that listens is started and stopped here, in that order.

SIGTERM and SIGINT say NOT_SERVING, let calls in flight end within the drain time, flush, save, close, and exit 0.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from sfmd import own_log
from sfmd.auth import VERBS, TokenFile
from sfmd.builder import MemorySystemBuilder, product_version
from sfmd.config import Settings, unknown_variables
from sfmd.core.engine import ENGINE
from sfmd.errors import E, Refused
from sfmd.heap import map_large_blocks
from sfmd.observe import Metrics, configure_logging
from sfmd.private_file import write_private
from sfmd.rpc.behaviours.table import behaviours_of
from sfmd.rpc.server import RpcServer, ServerOptions, host_and_port
from sfmd.secrets import Tls, TlsPaths
from sfmd.service import MemoryService

if TYPE_CHECKING:
    from sfmd.http import AuxiliaryHttp

log = structlog.get_logger(__name__)

SWITCH_S = 0.001
"""How long one thread may keep the interpreter while another waits: a recall must not hold up the event loop."""
GC_THRESHOLD = (50_000, 20, 50)
"""A batch makes tens of thousands of records that die together: looking for cycles every 700 of them is waste."""
HEALTH_S = 1.0
"""How late health over gRPC may be to say that writes are no longer taken."""
FIRST_TOKEN = "token"  # noqa: S105 - the name of a file
RUNNING = "daemon.json"


def tls_of(settings: Settings) -> Tls:
    """The operator's certificate, or the development CA's. Refused(CONFIG) when half of one is given."""
    tls = settings.tls
    if (tls.cert_file is None) != (tls.key_file is None):
        raise Refused(E.CONFIG, "SOMA_TLS__CERT_FILE and SOMA_TLS__KEY_FILE go together")
    for name in ("cert_file", "key_file", "client_ca_file"):
        _readable(f"SOMA_TLS__{name.upper()}", getattr(tls, name))
    if tls.cert_file is None or tls.key_file is None:
        return Tls.development(settings.data_dir / "tls", time.time, tls.names, client_ca=tls.client_ca_file)
    ca = tls.ca_file or tls.cert_file
    return Tls(TlsPaths(ca, tls.cert_file, tls.key_file, tls.client_ca_file), time.time)


def _readable(variable: str, path: Path | None) -> None:
    """Refused(CONFIG) with the setting's name when its file cannot be read."""
    try:
        if path is not None:
            path.open("rb").close()
    except OSError as error:
        raise Refused(E.CONFIG, f"{variable}: {path} cannot be read: {error.strerror}") from None


def first_token(settings: Settings, tokens: TokenFile) -> Path | None:
    """On the very first start make a token for the owner of the data directory and return its file (0600)."""
    if settings.tokens.exists():
        return None
    token, _ = tokens.create("owner", ("*",), VERBS)
    path = settings.data_dir / FIRST_TOKEN
    write_private(path, token.encode() + b"\n")
    return path


def listen(host: str, port: int) -> socket.socket:
    """A TCP socket that listens there; port 0 takes a free one. Raises Refused(CONFIG) when it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Refused(E.CONFIG, f"cannot listen on {host_and_port(host, port)}: {error.strerror}") from error


def reached_at(host: str, port: int) -> str:
    """The address by which this machine reaches a listener: loopback for one on every address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    return host_and_port(host, port)


class Daemon:
    """A daemon with these settings. `run` returns when it has stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = False
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal. Raises Refused when it cannot start."""
        settings = self._settings
        started_s = time.monotonic()
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        tls = tls_of(settings)
        service = await MemorySystemBuilder(settings).build()
        try:
            await self._serve(service, tls, started_s)
        finally:
            self._ready = False
            await service.close()
            (settings.data_dir / RUNNING).unlink(missing_ok=True)
            log.info("stopped")

    async def _serve(self, service: MemoryService, tls: Tls, started_s: float) -> None:
        settings = self._settings
        tokens = TokenFile(settings.tokens, time.time)
        made = first_token(settings, tokens)
        metrics = Metrics()
        metrics.watch_service(service.stats)
        service.meters.on_group = metrics.group_commit
        options = ServerOptions(
            settings.grpc.host, settings.grpc.port, settings.grpc.reflection, settings.call_bounds()
        )
        server = RpcServer(behaviours_of(service, options.limits.message_bytes), tokens, tls, metrics, options)
        http: AuxiliaryHttp | None = None
        listening = listen(settings.http.host, settings.http.port) if settings.http.enabled else None
        http_port = int(listening.getsockname()[1]) if listening else 0
        try:
            port = await server.start()
            self._announce(port, http_port, tls, service)
            self._summary(port, http_port, made, service, time.monotonic() - started_s)
            await server.serving(True)
            self._ready = True
            if listening:
                http = await asyncio.to_thread(self._http, service, tokens, tls, metrics)
                await http.start(listening)
            await self._until_stopped(server, service)
            self._ready = False
            log.info("draining", within_s=settings.grpc.drain_s)
            service.end_watches()
            await server.stop(settings.grpc.drain_s)
        finally:
            if http:
                await http.stop()
            if listening:
                listening.close()

    async def _until_stopped(self, server: RpcServer, service: MemoryService) -> None:
        """Wait for the signal, and meanwhile have health say what the service says, and the log stay within bounds."""
        said = True
        while not self._stop.is_set():
            if service.serving != said:
                said = not said
                await server.serving(said)
            with suppress(OSError):  # a disk that is full: the next time it may work
                own_log.bound(self._settings.data_dir)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), HEALTH_S)

    def _http(self, service: MemoryService, tokens: TokenFile, tls: Tls, metrics: Metrics) -> AuxiliaryHttp:
        """The auxiliary port's answers; run on a thread, since loading the module takes a while."""
        from sfmd.http import AuxiliaryHttp, Probes  # noqa: PLC0415 - see there

        probes = Probes(
            ready=lambda: self._ready and service.serving,
            stats=service.stats,
            details=lambda: {
                **service.problems,
                **{k: v for k, v in (("problem_tokens", tokens.problem), ("problem_tls", tls.problem)) if v},
            },
        )
        return AuxiliaryHttp(probes, metrics)

    def _announce(self, port: int, http_port: int, tls: Tls, service: MemoryService) -> None:
        """Say in the data directory where the daemon listens: what `sfmctl daemon` and tests read."""
        body = {
            "pid": os.getpid(), "address": reached_at(self._settings.grpc.host, port), "port": port,
            "http": reached_at(self._settings.http.host, http_port) if http_port else "",
            "ca_file": str(tls.paths.ca),
            "token_file": str(self._settings.data_dir / FIRST_TOKEN), "version": product_version(),
        }  # fmt: skip
        write_private(self._settings.data_dir / RUNNING, json.dumps(body, indent=1).encode())

    def _summary(self, port: int, http_port: int, made: Path | None, service: MemoryService, spent_s: float) -> None:
        """One line that says how the daemon is set up; secrets never."""
        stats, settings = service.stats(), self._settings
        for name in unknown_variables(os.environ):
            log.warning("unknown_setting", variable=name)
        log.info(
            "serving", version=product_version(), engine=ENGINE, grpc=host_and_port(settings.grpc.host, port),
            http=host_and_port(settings.http.host, http_port) if http_port else "off", data_dir=str(settings.data_dir),
            tls="files" if settings.tls.cert_file else "development CA",
            mutual_tls=settings.tls.client_ca_file is not None, reflection=settings.grpc.reflection,
            embedders=list(settings.embedders), seq=stats.seq, namespaces=len(stats.namespaces),
            memories=sum(n.live for n in stats.namespaces), started_in_s=round(spent_s, 3),
            first_token_file=str(made) if made else None,
        )  # fmt: skip


def run(settings: Settings) -> None:
    """Run a daemon in this process until it is told to stop."""
    configure_logging(settings.log.level)
    map_large_blocks()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    try:
        import uvloop  # noqa: PLC0415 - where the platform has it
    except ImportError:
        asyncio.run(_run(settings))
    else:
        uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    await Daemon(settings).run()
