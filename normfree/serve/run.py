"""Run the web application on a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from normfree.errors import UserError
from normfree.inference.predictor import Predictor
from normfree.serve.app import create_app
from normfree.serve.settings import Settings


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: name or address.
        port: number; 0 for any that is free.

    Raises:
        UserError: the address is not this machine's, or the port is taken.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port must be from 0 to 65535; got {port}")
    server = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        server = socket.socket(family, kind, protocol)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(128)
    except (OSError, UnicodeError) as error:
        if server is not None:
            server.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port, or --port 0"
        ) from None
    return server


def serve(
    predictor: Predictor,
    server: socket.socket,
    settings: Settings,
    log: Callable[[str], object],
) -> None:
    """Serve until a signal stops it; requests in progress get five seconds to end.

    Args:
        predictor: the network.
        server: a socket that listens.
        settings: limits.
        log: gets a line for each unexpected error.
    """
    config = uvicorn.Config(
        create_app(predictor, settings, log=log),
        http=_protocol(settings.upload_seconds),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[server])


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    """HTTP/1.1, with a limit for the time until a request's head is complete."""

    class Patient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()

        def _wait(self) -> None:
            self.answered = self.cycle
            self.loop.call_later(seconds, self._check)

        def _check(self) -> None:
            """End a connection that began no request since the last look."""
            if self.transport.is_closing():
                return
            working = self.cycle is not None and not self.cycle.response_complete
            if working or self.cycle is not self.answered:
                self._wait()
            else:
                self.transport.close()

    return Patient
