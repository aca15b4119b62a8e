"""What every export starts from, and what it gives back to be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.artifacts.records import RunRecord
from headstart.errors import InputError
from headstart.export.parity import EXACT, Limits
from headstart.recipes.export_options import ExportOptions

Classify = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""Maps evaluation views (N, R, R, 3) to probabilities (N, C), by what was written."""

ClassifyFile = Callable[[Path], NDArray[np.floating]]
"""Maps an image file to probabilities (C,), with the preprocessing that a target brings itself."""


@dataclass(frozen=True)
class Exporting:
    """A run that is exported.

    Attributes:
        run: Run folder.
        record: Its record.
        spec: Description of its classifier.
        data: Where its images are now; None for where the run found them.
        cache_dir: Cache folder.
        options: What was asked for.
    """

    run: Path
    record: RunRecord
    spec: BundleSpec
    data: str | None
    cache_dir: Path
    options: ExportOptions

    @property
    def bundle(self) -> Path:
        """Bundle folder."""
        return self.run / "bundle"


@dataclass(frozen=True)
class Written:
    """What an export wrote, opened by its own runtime.

    Attributes:
        classify: Runs it.
        runtime: The runtime and its version.
        limits: What it must keep to.
        notes: Sentences that a user of the export should know.
        from_file: Runs it on a file with the target's own preprocessing, if it brings one.
        any_size: Whether `classify` takes whole images (1, height, width, 3), one at a time,
            instead of evaluation views.
    """

    classify: Classify
    runtime: str
    limits: Limits = EXACT
    notes: tuple[str, ...] = ()
    from_file: ClassifyFile | None = None
    any_size: bool = False


def needs(extra: str, package: str) -> InputError:
    """Returns the error for a package that is not installed."""
    return InputError(f"This export needs {package}. Install it with `pip install {extra}`.")
