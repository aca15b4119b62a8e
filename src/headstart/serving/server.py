"""The process that serves a classifier until it is told to end."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from headstart.errors import InputError, first_line
from headstart.serving.options import KEY_VARIABLE, ServeOptions, read_key

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp


def serve(folder: str | Path, options: ServeOptions, say: Callable[[str], object]) -> None:
    """Serves a classifier over HTTP until the process gets SIGINT or SIGTERM.

    What is in flight then is finished first.

    Args:
        folder: Run folder, or bundle.
        options: Address, limits, and who may use it.
        say: Prints a line.

    Raises:
        InputError: If the address or the key cannot be used, or the extra is not installed.
        RunError: If the folder is not a finished run or a bundle, or is damaged.
    """
    key = read_key(options)
    check_extra()
    from headstart.serving.app import make_app  # noqa: PLC0415 - imports fastapi

    app = make_app(folder, options, key)
    with listening(options) as listener:
        where = address_of(options, listener)
        if not options.is_local and key is None:
            say(
                f"warning: everybody who can reach {where} may use it. Set {KEY_VARIABLE} "
                "to a key, or give --api-key-file."
            )
        server = http_server(app, options)
        say(f"serving {folder} at http://{where}  (Ctrl-C ends it)")
        run_until_told(server, listener)


def check_extra() -> None:
    """Checks, before any work, that what serves is installed.

    Raises:
        InputError: If it is not.
    """
    try:
        import uvicorn  # noqa: F401, PLC0415 - an extra

        import headstart.serving.app  # noqa: F401, PLC0415 - imports fastapi
    except ImportError as error:
        missing = f"{error.name} is missing" if error.name else str(error)
        raise InputError(f"Serving needs pip install 'headstart[serve]': {missing}.") from None


def address_of(options: ServeOptions, listener: socket.socket) -> str:
    """Returns host and port at which a socket listens, as in an address."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{host}:{listener.getsockname()[1]}"


def run_until_told(server: "uvicorn.Server", listener: socket.socket) -> None:
    """Answers at a socket until the process gets SIGINT or SIGTERM."""
    with _ended_in_order(server):
        server.run(sockets=[listener])


def http_server(app: "ASGIApp", options: ServeOptions) -> "uvicorn.Server":
    """Returns the server of an application, which ends connections that are slow.

    Args:
        app: The application.
        options: Limits of the service.
    """
    import uvicorn  # noqa: PLC0415 - an extra

    from headstart.serving.connections import (  # noqa: PLC0415
        Deadlines,
        TimedConnection,
    )

    deadlines = Deadlines(app, options.timeout)
    config = uvicorn.Config(
        deadlines,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a client is known by its own address
        timeout_graceful_shutdown=int(options.timeout) + 1,
    )
    config.load()
    timed = partial(TimedConnection, config.http_protocol_class, deadlines)
    config.http_protocol_class = cast(type[asyncio.Protocol], timed)
    return uvicorn.Server(config)


@contextmanager
def _ended_in_order(server: "uvicorn.Server") -> Iterator[None]:
    """Lets a process that is told to end go on after the server: it has ended in order.

    uvicorn catches the signals while it serves, and hands them on when all is finished. One that
    comes before it does must end the server, too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        server.should_exit = True

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def listening(options: ServeOptions) -> socket.socket:
    """Returns a socket that listens at the address.

    Raises:
        InputError: If the address cannot be used.
    """
    where = f"--host {options.host} --port {options.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"Cannot listen at {where}: {first_line(error)}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InputError(
            f"Cannot listen at {where}: {error.strerror}. Give another --port, or 0 for a free one."
        ) from None
    return listener
