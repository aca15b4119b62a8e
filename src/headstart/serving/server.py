"""The process that serves a classifier until it is told to end."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

from headstart.errors import InputError, first_line
from headstart.serving.options import KEY_VARIABLE, ServeOptions, read_key


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
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from headstart.serving.app import make_app  # noqa: PLC0415 - imports fastapi
    except ImportError as error:
        missing = f"{error.name} is missing" if error.name else str(error)
        raise InputError(f"Serving needs pip install 'headstart[serve]': {missing}.") from None
    app = make_app(folder, options, key)
    with _listening(options) as listener:
        port = listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        if not options.is_local and key is None:
            say(
                f"warning: everybody who can reach {host}:{port} may use it. Set {KEY_VARIABLE} "
                "to a key, or give --api-key-file."
            )
        say(f"serving {folder} at http://{host}:{port}  (Ctrl-C ends it)")
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(options.timeout) + 1,
        )
        # uvicorn catches these while it serves, and hands them on when all is finished.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _as_asked)
        uvicorn.Server(config).run(sockets=[listener])


def _as_asked(*_: object) -> None:
    """Lets the command end with success: it was told to end, and has ended in order."""


def _listening(options: ServeOptions) -> socket.socket:
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
