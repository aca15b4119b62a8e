"""The audit of a data set, without any training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.audit import Audit, examine
from headstart.data.cache_dir import default_cache_dir
from headstart.data.decode import decode_dataset
from headstart.data.division import why_undividable
from headstart.data.sources import load_dataset
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.options import SourceOptions

SHORT_SIDE = 256
"""Shorter side in pixels: that of the default backbone, so `fit` reuses the decoded images."""


@lists_fields(SourceOptions)
def check(
    source: Any,
    options: SourceOptions | None = None,
    *,
    labels: Sequence[str | tuple[str, ...]] | None = None,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: Shown = None,
    **keywords: Any,
) -> Audit:
    """Reads every image once and reports what was understood and what is wrong.

    `Audit.problem` says why nothing can be trained, if so.

    Args:
        source: A folder, an archive, an export of an annotation tool, a manifest, `demo:solar`, a
            DataFrame or a list of paths.
        options: How the source is read.
        labels: Class names for a list of paths.
        cache_dir: Cache folder; by default `$HEADSTART_CACHE` or the user's cache folder.
        workers: Number of processes that decode images.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        keywords: Fields of `SourceOptions` instead of `options`, such as `layout="splits"`.

    Raises:
        DataError: If there are no labelled images, or their layout is not clear.

    Example:
        >>> import headstart
        >>> audit = headstart.check("flowers")  # doctest: +SKIP
        >>> [finding.message for finding in audit.findings]  # doctest: +SKIP
        ['2 images are copies of others.']
    """
    progress = display(progress)
    options = with_keywords(SourceOptions, options, keywords)
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    dataset = load_dataset(source, options, labels=labels, cache_dir=cache, multilabel=True)
    pixels = decode_dataset(
        dataset.items,
        SHORT_SIDE,
        cache,
        workers=workers,
        progress=progress,
        reading=dataset.reading,
    )
    examined = examine(dataset, pixels.facts)
    problem = examined.audit.problem or why_undividable(dataset, examined)
    return examined.audit.model_copy(update={"problem": problem})
