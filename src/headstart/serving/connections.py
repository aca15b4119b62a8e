"""Slow connections are ended. By itself, uvicorn waits for the headers of a request for ever."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from headstart.serving.guard import LINGER_S

_WHOLE = 3
"""Times the limit that a request may take in all: to arrive, to be answered, and to be read. What
is refused may take longer, by the time in which the rest of it is thrown away."""


class _Connection:
    """A connection, and when it ends if nothing happens before."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport, self._seconds = transport, seconds
        self._requests = 0
        self._timer = self._ends_in(seconds)

    def begin(self) -> None:
        """Notes that the headers of a request are there."""
        self._requests += 1
        self._timer.cancel()
        self._timer = self._ends_in(_WHOLE * self._seconds + LINGER_S)

    def finish(self) -> None:
        """Notes that a request is finished; the next one must come in time."""
        self._requests -= 1
        if not self._requests and not self._transport.is_closing():
            self._timer.cancel()
            self._timer = self._ends_in(self._seconds)

    def forget(self) -> None:
        """Notes that the connection is closed."""
        self._timer.cancel()

    def _ends_in(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self._transport.abort)


class Deadlines:
    """An application that knows how long each connection may stay open.

    Args:
        app: The application.
        seconds: Time for the headers of a request to arrive. A request may take three times as
            long in all.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds
        self._connections: dict[tuple[str, int], _Connection] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request of the ASGI interface."""
        connection = self._connections.get(tuple(scope.get("client") or ()))
        if connection is None:  # start and end of the server
            await self._app(scope, receive, send)
            return
        connection.begin()
        try:
            await self._app(scope, receive, send)
        finally:
            connection.finish()

    def opened(self, transport: asyncio.Transport) -> tuple[str, int]:
        """Notes a new connection, and returns the address of the client."""
        host, port = transport.get_extra_info("peername")[:2]
        self._connections[host, port] = _Connection(transport, self._seconds)
        return host, port

    def closed(self, client: tuple[str, int]) -> None:
        """Notes that a connection is closed."""
        self._connections.pop(client).forget()


class TimedConnection(asyncio.Protocol):
    """A connection of uvicorn whose beginning and end are noted.

    Args:
        make: Makes what handles the connection.
        deadlines: Where they are noted.
        arguments: What uvicorn gives.
    """

    def __init__(
        self, make: Callable[..., asyncio.Protocol], deadlines: Deadlines, **arguments: Any
    ) -> None:
        self._handler, self._deadlines = make(**arguments), deadlines
        self._client: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        assert isinstance(transport, asyncio.Transport)
        self._client = self._deadlines.opened(transport)
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        if self._client is not None:
            self._deadlines.closed(self._client)
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes on what arrived."""
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        """Passes on that no more comes."""
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        """Passes on that the client reads slowly."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Passes on that the client has read."""
        self._handler.resume_writing()
