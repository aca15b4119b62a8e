"""What stands before the service: who may come in, how much, how many, and how long it may take.

Everything here acts before a body is read into the memory, or while it is.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.serving.metrics import ServiceFigures
from headstart.serving.options import ApiKey, ServeOptions

RETRY_S = 1
"""Seconds after which a client that was sent away may come again."""

LINGER_S = 2.0
"""Seconds in which the rest of a refused body is thrown away: who still sends reads no answer."""

OPEN = frozenset({"/", "/healthz", "/openapi.json"})
"""What can be read without a key: it shows nothing of the classifier."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class _Refusal:
    status: HTTPStatus
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _CutError(Exception):
    """A body that is not read to its end."""

    def __init__(self, refusal: _Refusal | None) -> None:
        super().__init__()
        self.refusal = refusal


class Gatekeeper:
    """Passes on what is allowed, with its whole body, and answers the rest itself.

    Args:
        app: The service.
        options: Limits of the service.
        key: Key that clients must send; None for no key.
        figures: Where requests are counted.
        paths: Paths that are counted by their name.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: ServeOptions,
        key: ApiKey | None,
        figures: ServiceFigures,
        paths: Iterable[str],
    ) -> None:
        self._app, self._options, self._key = app, options, key
        self._figures, self._paths = figures, frozenset(paths)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection of the ASGI interface."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            await self._handle(scope, receive, answer)
        finally:
            if status:  # else the client left before an answer
                self._figures.requests.labels(path, str(status)).inc()
                self._figures.seconds.labels(path).observe(time.perf_counter() - started)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._stranger(scope)
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
        elif scope["method"] != "POST":
            await self._app(scope, _Body(b"", receive).receive, send)
        elif self._in_flight >= self._options.max_requests:
            await _refuse(_FULL, scope, receive, send)
        else:
            self._in_flight += 1
            self._figures.in_flight.set(self._in_flight)
            try:
                body = await self._body(scope, receive)
                await self._app(scope, _Body(body, receive).receive, send)
            except _CutError as cut:
                if cut.refusal is not None:
                    await _refuse(cut.refusal, scope, receive, send)
            finally:
                self._in_flight -= 1
                self._figures.in_flight.set(self._in_flight)

    def _stranger(self, scope: Scope) -> _Refusal | None:
        """Returns why a request may not come in, or None if it may."""
        headers, hosts = Headers(scope=scope), self._options.hosts
        host = _name_of(headers.get("host", ""))
        if hosts and host not in hosts:
            return _Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "The service is not known by this name. Start it with --allowed-host NAME if it is "
                "meant.",
            )
        origin = headers.get("origin")
        if origin is not None and _address_of(origin) != headers.get("host", "").lower():
            return _Refusal(HTTPStatus.FORBIDDEN, "Pages of other sites may not use the service.")
        if self._key is None or scope["path"] in OPEN:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._key.fits(given.strip()):
            return None
        return _Refusal(
            HTTPStatus.UNAUTHORIZED,
            "Send the key of the service as `Authorization: Bearer KEY`.",
            ((b"www-authenticate", b"Bearer"),),
        )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Returns the body of a request.

        Raises:
            _CutError: If it is too long or too slow, or the client left.
        """
        most = self._options.max_bytes
        stated = Headers(scope=scope).get("content-length", "")
        too_long = _Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"A request may have {most:,} bytes at most. Send fewer or smaller images.",
        )
        if stated.isdecimal() and int(stated[:20]) > most:
            raise _CutError(too_long)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._options.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _CutError(None)
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _CutError(too_long)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise _CutError(
                _Refusal(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"The request did not arrive within {self._options.timeout:g} s.",
                )
            ) from None


_FULL = _Refusal(
    HTTPStatus.TOO_MANY_REQUESTS,
    "The service has as many requests as it may have at once. Try again a little later.",
    ((b"retry-after", str(RETRY_S).encode()),),
)


class _Body:
    """A body that was read, and then what comes from the client."""

    def __init__(self, body: bytes, after: Receive) -> None:
        self._body: bytes | None = body
        self._after = after

    async def receive(self) -> Message:
        """Returns the next message of the ASGI interface."""
        if self._body is None:
            return await self._after()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _refuse(refusal: _Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a refusal. A body that still comes is thrown away, for a short time."""
    done = False
    # Who asks before sending is not told to go on.
    waits = "expect" in Headers(scope=scope)
    try:
        async with asyncio.timeout(LINGER_S):
            while not (done or waits):
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                done = not message.get("more_body", False)
    except TimeoutError:
        pass
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *refusal.headers,
        *([] if done else [(b"connection", b"close")]),
    ]
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _name_of(host: str) -> str:
    """Returns the name in a Host header, without its port.

    Example:
        >>> _name_of("LocalHost:8000"), _name_of("[::1]:8000"), _name_of("10.0.0.1")
        ('localhost', '::1', '10.0.0.1')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _address_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
