"""What every request passes: who may ask, how much and how slowly, and what browsers must know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from normfree.errors import printable
from normfree.serve.settings import Settings

_LINGER = 2.0  # seconds for a client to finish what nobody reads, so that it hears why

#: Headers of every answer. The page has no inline script or style and loads nothing from elsewhere.
SECURITY: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Json(JSONResponse):
    """JSON in ASCII: names may hold what UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Guard:
    """Middleware: refuses foreign requests, bounds bodies in size and time, adds headers.

    Args:
        app: what answers the requests that pass.
        settings: limits and names.
        log: gets a line for each unexpected error.
    """

    def __init__(self, app: ASGIApp, settings: Settings, log: Any) -> None:
        self.app, self.settings, self.log = app, settings, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        body = Body(scope, receive, self.settings)
        reply = _Reply(send, body)
        try:
            if refused := refusal(Headers(scope=scope), self.settings.allowed_hosts):
                await Json({"error": refused[1]}, refused[0])(scope, receive, reply)
            else:
                await self.app(scope, body, reply)
        except ClientDisconnect:
            return
        except Exception as error:
            self.log(f"unexpected {type(error).__name__}: {error}")
            if not reply.started:
                said = {"error": "the server failed unexpectedly; its terminal says more"}
                await Json(said, 500)(scope, receive, reply)


def refusal(headers: Headers, allowed: tuple[str, ...]) -> tuple[int, str] | None:
    """Status and reason, if a request came from another site or by another name.

    >>> refusal(Headers({"host": "evil.example:8000"}), ("localhost",))[0]
    421
    >>> refusal(Headers({"host": "localhost:8000", "origin": "http://evil.example"}), ())[0]
    403
    >>> refusal(Headers({"host": "[::1]:8000", "origin": "http://[::1]:8000"}), ("::1",))
    """
    host = headers.get("host", "")
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.split(":")[0]
    if allowed and name.lower() not in allowed:
        return 421, (
            f"this server does not answer for {printable(host, 80) or 'no host'}; use one of "
            f"{', '.join(allowed)}, or start it with --allowed-hosts"
        )
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != host
    if foreign or headers.get("sec-fetch-site") == "cross-site":
        return 403, "pages of other sites may not use this server"
    return None


class Body:
    """A request's body, read no longer and no further than allowed.

    Args:
        scope: of the request.
        receive: what the server offers.
        settings: limits.
    """

    def __init__(self, scope: Scope, receive: Receive, settings: Settings) -> None:
        headers = Headers(scope=scope)
        self._receive, self._settings = receive, settings
        self._announced = headers.get("content-length", "0")
        self._read = 0
        self._ends: float | None = None
        #: Whether nothing is left to read.
        self.complete = self._announced == "0" and "transfer-encoding" not in headers
        #: Whether it is useful to read the rest of a body that is refused.
        self.worth_draining = "expect" not in headers

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            HTTPException: the body is too large, or it takes too long.
        """
        most = self._settings.max_request_bytes
        if self._read > most or (self._announced.isdigit() and int(self._announced) > most):
            raise HTTPException(413, f"a request may have {most:,} bytes; send fewer at a time")
        loop = asyncio.get_running_loop()
        if self._ends is None:
            self._ends = loop.time() + self._settings.upload_seconds
        try:
            message = await self._next(self._ends)
        except TimeoutError:
            self.worth_draining = False
            raise HTTPException(
                408, f"the upload took more than {self._settings.upload_seconds:g} seconds"
            ) from None
        if self._read > most:
            return await self()
        return message

    async def _next(self, ends: float) -> Message:
        if self.complete:  # only the end of the connection can follow, and that may take long
            return await self._receive()
        async with asyncio.timeout_at(ends):
            message = await self._receive()
        self._read += len(message.get("body", b""))
        self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read on for a moment and forget it: clients that still send do not read the answer."""
        if not self.worth_draining:
            return
        ends = asyncio.get_running_loop().time() + _LINGER
        try:
            while not self.complete:
                await self._next(ends)
        except TimeoutError:
            return


class _Reply:
    """Sends an answer; adds headers, and ends connections whose body was not read."""

    def __init__(self, send: Send, body: Body) -> None:
        self._send, self._body = send, body
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY.items():
                headers[name] = value
            if not self._body.complete:
                await self._body.drain()
            if not self._body.complete:
                headers["connection"] = "close"
        await self._send(message)
