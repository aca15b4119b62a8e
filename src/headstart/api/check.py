"""The audit on its own: what is wrong with a data set, before anything is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.audit import Audit, audit
from headstart.data.decode import decode_dataset
from headstart.data.sources import load_dataset
from headstart.features.cache import default_cache_dir
from headstart.progress import SILENT, Progress
from headstart.recipes.options import SourceOptions, with_keywords

SHORT_SIDE = 256
"""Pixels: what the default backbone's images are resized to, so that `fit` finds them decoded."""


def check(
    source: Any,
    options: SourceOptions | None = None,
    *,
    labels: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
    **keywords: Any,
) -> Audit:
    """Reads every image once and reports what is wrong with the data set.

    Args:
        source: A folder, a manifest, `demo:solar`, a DataFrame or a list of paths.
        options: How the source is read.
        labels: Class names for a list of paths.
        cache_dir: Cache folder; by default `$HEADSTART_CACHE` or the user's cache folder.
        workers: Number of processes that decode images.
        progress: Progress display.
        keywords: Fields of `SourceOptions` instead of `options`, such as `layout="splits"`.

    Raises:
        DataError: If there is nothing to train a classifier on.
    """
    options = with_keywords(SourceOptions, options, keywords)
    dataset = load_dataset(source, options, labels=labels)
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    pixels = decode_dataset(dataset.items, SHORT_SIDE, cache, workers=workers, progress=progress)
    return audit(dataset, pixels.facts).audit
