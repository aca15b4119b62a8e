"""The trial context for another machine, with the cache entries that it needs.

The cache is content-addressed, so a machine that already has an entry keeps it: it shares the
folder or has worked on the same data before. Other machines write the entries they receive.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.cache_dir import default_cache_dir
from headstart.data.entries import SUMS, files_of, publish, use
from headstart.data.locks import Share, this_process
from headstart.progress import SILENT
from headstart.search.score import Score
from headstart.search.trial import TrialContext, TrialJob, run_trial


@dataclass(frozen=True)
class Parcel:
    """A trial context with the cache entries that its trials read.

    Attributes:
        context: Trial context on the machine that runs the search.
        entries: The bytes of every file by its path in the cache: arrays, as these are not copied
            where several processes of a machine read them.
    """

    context: TrialContext
    entries: Mapping[str, NDArray[np.uint8]]


def pack(context: TrialContext, folders: list[Path]) -> Parcel:
    """Returns the context with all files of some folders of the cache.

    Args:
        context: Trial context.
        folders: Folders of its cache.
    """
    files = [file for folder in folders for file in files_of(folder)]
    root = context.cache_dir
    here = replace(context, cluster=None)
    return Parcel(here, {str(f.relative_to(root)): np.fromfile(f, np.uint8) for f in files})


def run_sent_trial(parcel: Parcel, job: TrialJob) -> Score:
    """Runs a trial on the machine that received the parcel."""
    with unpacked(parcel) as context:
        return run_trial(context, job)


@contextmanager
def unpacked(parcel: Parcel) -> Iterator[TrialContext]:
    """Yields the context for this machine; entries that it lacks are written into its cache.

    They are locked against eviction by other processes meanwhile.
    """
    folders = sorted({str(Path(name).parent) for name in parcel.entries})
    with ExitStack() as locks:
        for cache in (parcel.context.cache_dir, default_cache_dir()):
            held = [use(cache / folder, SILENT) for folder in folders]
            for each in filter(None, held):
                locks.enter_context(closing(each))
            if all(held):
                break
        else:
            for folder, lock in zip(folders, held, strict=True):
                if lock is None and (written := _write(cache / folder, parcel, folder)) is not None:
                    locks.enter_context(closing(written))
        yield replace(parcel.context, cache_dir=cache)


def _write(target: Path, parcel: Parcel, folder: str) -> Share | None:
    """Writes an entry under a temporary name and renames it: others may do the same.

    `cache.evict` knows the name, and removes what a killed process left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".draft-{this_process()}-", dir=target.parent))
    try:
        for name, data in parcel.entries.items():
            if str(Path(name).parent) == folder and Path(name).name != SUMS:
                data.tofile(draft / Path(name).name)
        return publish(draft, target, {})
    finally:
        shutil.rmtree(draft, ignore_errors=True)
