"""The trial context for another machine, with the cache entries that it needs.

The cache is content-addressed, so a machine that already has an entry keeps it: it shares the
folder or has worked on the same data before. Other machines write the entries they receive.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.cache_dir import default_cache_dir
from headstart.data.locks import this_process
from headstart.search.trial import Score, TrialContext, TrialJob, run_trial


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
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    root = context.cache_dir
    return Parcel(context, {str(f.relative_to(root)): np.fromfile(f, np.uint8) for f in files})


def run_sent_trial(parcel: Parcel, job: TrialJob) -> Score:
    """Runs a trial on the machine that received the parcel."""
    return run_trial(unpack(parcel), job)


def unpack(parcel: Parcel) -> TrialContext:
    """Returns the context for this machine; entries that it lacks are written into its cache."""
    cache = parcel.context.cache_dir
    folders = {str(Path(name).parent) for name in parcel.entries}
    if all((cache / folder / "index.json").exists() for folder in folders):
        return parcel.context
    cache = default_cache_dir()
    for folder in sorted(folders):
        if not (cache / folder / "index.json").exists():
            _write(cache / folder, parcel, folder)
    return replace(parcel.context, cache_dir=cache)


def _write(target: Path, parcel: Parcel, folder: str) -> None:
    """Writes an entry under a temporary name and renames it: others may do the same.

    `cache.evict` knows the name, and removes what a killed process left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".draft-{this_process()}-", dir=target.parent))
    try:
        for name, data in parcel.entries.items():
            if str(Path(name).parent) == folder:
                data.tofile(draft / Path(name).name)
        try:
            draft.rename(target)
        except OSError:
            if not (target / "index.json").exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
