"""Which unlabelled images are worth a label next."""

from pathlib import Path
from typing import Any

from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.files import check_writable, replacing
from headstart.errors import InputError
from headstart.inference.next_labels import NextLabels, next_labels
from headstart.names import to_cell, write_rows
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.label_options import LabelNextOptions

_COLUMNS = ("rank", "image", "prediction", "probability", "margin")


@lists_fields(LabelNextOptions)
def label_next(
    run: str | Path,
    images: Any,
    options: LabelNextOptions | None = None,
    *,
    progress: Shown = None,
    **keywords: Any,
) -> NextLabels:
    """Ranks unlabelled images by what their labels would be worth to a run.

    The images are ranked by uncertainty herding (Bae, Oliveira and Sutherland, ICLR 2025): what the
    run is unsure of, what many other images are like, and what no labelled image is like. Copies
    and near-duplicates are left out. The classifier is not trained here.

    Args:
        run: Run folder.
        images: Paths, folders and patterns.
        options: How many images, and where they are written.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        keywords: Fields of `LabelNextOptions` instead of `options`, such as `count=20`.

    Returns:
        The images, the most useful first, and what was passed over.

    Raises:
        DataError: If a folder has no images, or none can be read.
        InputError: If an image is no file, or something cannot be written.
        RunError: If the folder is not a finished run.

    Example:
        >>> import headstart
        >>> found = headstart.label_next("runs/flowers", "new", count=20)  # doctest: +SKIP
        >>> found.images[0].image, found.images[0].prediction  # doctest: +SKIP
        ('new/0412.jpg', 'crocus')
    """
    options = with_keywords(LabelNextOptions, options, keywords)
    if options.page and (Path(run) / "bundle").is_dir():
        check_one_class(Path(run))
    if options.out is not None:
        check_writable(options.out)
    if options.links is not None and (options.links.exists() or options.links.is_symlink()):
        raise InputError(f"{options.links} is there already. Give --links a new folder.")
    found = next_labels(Path(run), images, options, display(progress))
    if options.out is not None:
        _write(options.out, found)
    if options.links is not None:
        _link(options.links, found)
    return found


def check_one_class(run: Path) -> None:
    """Checks, before any work, that a page can give an image all that the run gives it.

    Raises:
        InputError: If an image may have several labels.
    """
    if read_spec(run / "bundle").multilabel:
        raise InputError(
            f"--page gives an image one class, and {run} gives it any number of labels "
            "(multi-label). Leave --page out, and label the chosen images (--out, --links) in a "
            "table or another tool."
        )


def _write(path: Path, found: NextLabels) -> None:
    # surrogateescape: a file name need not be valid UTF-8.
    with (
        replacing(path) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        rows = [
            (
                each.rank,
                to_cell(each.image),
                to_cell(each.prediction),
                each.probability,
                each.margin,
            )
            for each in found.images
        ]
        write_rows(file, [_COLUMNS, *rows])


def _link(folder: Path, found: NextLabels) -> None:
    """Makes a folder of links, whose order is that of the ranks."""
    folder.mkdir(parents=True)
    digits = len(str(len(found.images)))
    for each in found.images:
        file = Path(each.image)
        (folder / f"{each.rank:0{digits}d}-{file.name}").symlink_to(file.resolve())
