"""The floor that the service is measured against: an asyncio gRPC echo over TLS in a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import grpc
import grpc.aio

from sfmd.rpc.server import server_credentials
from sfmd.secrets import Tls


class EchoServer:
    """Runs `python -m testing.echo FOLDER` until the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "echo"

    def __enter__(self) -> EchoServer:
        self._process = subprocess.Popen([sys.executable, "-m", "testing.echo", str(self.folder)],
                                         stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def channel(self) -> grpc.aio.Channel:
        """A channel that trusts the server."""
        ca = (self.folder / "ca.pem").read_bytes()
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", grpc.ssl_channel_credentials(ca))


async def serve(folder: Path) -> None:
    """Serve /echo.Echo/Echo and say the port on standard output."""

    async def echo(body: bytes, _: object) -> bytes:
        return body

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Echo": handler}),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(Tls.development(folder, time.time)))
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination(600)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
