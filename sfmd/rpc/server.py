"""The gRPC server: TLS only, bounded, with health beside the memory service and reflection only when asked for.

Guards the rule that nothing is served before the daemon is ready: health says NOT_SERVING until `serving(True)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from sfmd.auth import TokenFile
from sfmd.errors import E, Refused
from sfmd.limits import CallLimits, InFlight
from sfmd.observe import Metrics
from sfmd.rpc.endpoints import Behaviour, Endpoints
from sfmd.rpc.gatekeeper import Gatekeeper
from sfmd.rpc.refusals import RefusalLog
from sfmd.rpc.rules import SERVICE
from sfmd.secrets import Tls

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen and what to offer. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 50053
    reflection: bool = False
    limits: CallLimits = field(default_factory=CallLimits)


def host_and_port(host: str, port: int) -> str:
    """An address in one word: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials that ask `tls` on each handshake, so that a renewed certificate needs no restart."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        now = tls.current()
        return grpc.ssl_server_certificate_configuration([(now.key, now.certificate)], now.client_ca)

    mutual = tls.current().client_ca is not None
    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=mutual)


class RpcServer:
    """Start, say what is served, drain, stop."""

    def __init__(self, behaviours: dict[str, Behaviour], tokens: TokenFile, tls: Tls, metrics: Metrics,
                 options: ServerOptions) -> None:  # fmt: skip
        self.options = options
        self.port = 0
        bounds = options.limits
        unary = InFlight("unary calls", bounds.handlers, bounds.retry_after_s)
        streams = InFlight("streams", bounds.streams, bounds.retry_after_s)
        for flight in (unary, streams):
            metrics.watch_flight(flight)
        self._health = HealthServicer()
        refusals = RefusalLog()
        self._server = grpc.aio.server(
            interceptors=(Gatekeeper(tokens, metrics, unary, streams, refusals),),
            options=_channel_options(bounds),
            # Behind the two counted bounds, for what they do not count: health, reflection, refusals in progress.
            maximum_concurrent_rpcs=2 * (bounds.handlers + bounds.streams),
        )
        self._server.add_generic_rpc_handlers(
            (Endpoints(behaviours, metrics, bounds, unary, streams, refusals).handler(),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if options.reflection:
            _reflect(self._server)
        self._credentials = server_credentials(tls)

    async def start(self) -> int:
        """Listen and return the port; health still says NOT_SERVING. Raises Refused(CONFIG) when it cannot listen."""
        await self.serving(False)
        address = host_and_port(self.options.host, self.options.port)
        try:
            self.port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise Refused(E.CONFIG, f"cannot listen on {address}: is another daemon there?") from error
        await self._server.start()
        return self.port

    async def serving(self, yes: bool) -> None:
        """What health answers from now on."""
        for name in ("", SERVICE):
            await self._health.set(name, _SERVING if yes else _NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take nothing new, let calls in flight end within `grace_s`, then cut what is left."""
        await self.serving(False)
        await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


def _channel_options(limits: CallLimits) -> list[tuple[str, int]]:
    """Bounds of the transport, and keep-alive that finds dead peers without letting a caller ping at will."""
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.max_metadata_size", 16 * 2**10),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _reflect(server: grpc.aio.Server) -> None:
    from grpc_reflection.v1alpha import reflection  # noqa: PLC0415 - an extra surface, loaded only when asked for

    reflection.enable_server_reflection((SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
