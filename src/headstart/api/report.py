"""The report of a run, drawn again from its folder."""

from pathlib import Path

from headstart.progress import Shown, display
from headstart.report.page import write_report


def report(run: str | Path, data: str | Path | None = None, *, progress: Shown = None) -> Path:
    """Draws the report of a run again.

    Args:
        run: Folder of a finished run.
        data: Folder that the names of the images start from, for pictures that the run does not
            keep.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.

    Returns:
        The path of the page.

    Raises:
        RunError: If the folder is not a finished run.

    Example:
        >>> import headstart
        >>> headstart.report("runs/flowers").name  # doctest: +SKIP
        'report.html'
    """
    return write_report(Path(run), None if data is None else Path(data), display(progress))
