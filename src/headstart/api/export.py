"""A run as files for another runtime, compared with its sealed test."""

from pathlib import Path
from typing import Any

from headstart.export.export import Exported, export_run
from headstart.progress import Shown, display
from headstart.recipes.export_options import ExportOptions
from headstart.recipes.keywords import lists_fields, with_keywords


@lists_fields(ExportOptions)
def export(
    run: str | Path,
    options: ExportOptions | None = None,
    *,
    progress: Shown = None,
    **keywords: Any,
) -> Exported:
    """Writes the classifier of a run for another runtime, and compares it with the run.

    What was written is run by its own runtime on the sealed test images, from their files, and
    compared with the predictions that the run recorded. An export that answers otherwise is
    removed.

    Args:
        run: Folder of a finished run.
        options: What to write, and where.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        keywords: Fields of `ExportOptions` instead of `options`, such as `to="int8"`.

    Returns:
        Where the export is, and its figures beside those of the run.

    Raises:
        ExportError: If it does not answer as the run did.
        RunError: If the folder is not a finished run, or the export folder is in use.
        DataError: If a test image is missing or has changed.
        InputError: If a package that the export needs is not installed.

    Example:
        >>> import headstart
        >>> done = headstart.export("runs/flowers", to="onnx")  # doctest: +SKIP
        >>> done.parity.agreement, done.parity.largest_difference  # doctest: +SKIP
        (1.0, 0.0)
    """
    chosen = with_keywords(ExportOptions, options, keywords)
    return export_run(Path(run), chosen, display(progress))
