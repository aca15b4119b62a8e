"""A classifier over HTTP."""

import asyncio
from pathlib import Path
from typing import Any

from headstart.errors import InputError
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.serving.options import ServeOptions
from headstart.serving.server import serve as run_server


@lists_fields(ServeOptions)
def serve(
    run: str | Path,
    options: ServeOptions | None = None,
    *,
    progress: Shown = None,
    **keywords: Any,
) -> None:
    """Serves a classifier over HTTP until the process is told to end (SIGINT or SIGTERM).

    What is in flight then is finished first. It returns when all is finished.

    Args:
        run: Run folder or bundle.
        options: Address, limits, and who may use it.
        progress: Where the address is said; by default where there is a terminal. False says
            nothing.
        keywords: Fields of `ServeOptions` instead of `options`, such as `port=8080`.

    Raises:
        InputError: If the address or the key cannot be used, the extra `serve` is not installed, or
            it is called in a notebook, whose own server cannot wait for another.
        RunError: If the folder is not a finished run or a bundle, or is damaged.

    Example:
        >>> import headstart
        >>> headstart.serve("runs/flowers", port=8080)  # doctest: +SKIP
    """
    chosen = with_keywords(ServeOptions, options, keywords)
    if _in_event_loop():
        raise InputError(
            f"A notebook cannot serve, because it would wait for ever. Run `headstart serve {run}` "
            "in a terminal."
        )
    run_server(run, chosen, display(progress).say)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
