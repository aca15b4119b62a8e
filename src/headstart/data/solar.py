"""The demo: 2,624 photographs of solar cells from the `elpv-dataset` package.

Buerhop-Lutz et al., A Benchmark for Visual Identification of Defective Solar Cells in
Electroluminescence Imagery, EU PVSEC 2018; Deitsch et al., Solar Energy 185, 2019.

Experts rated each cell as functional or defective and stated their confidence; the data set turns
this into a defect probability of 0, 1/3, 2/3 or 1. Cells with a probability of at least 0.5 have
the class "defective" (821 cells), the others "functional" (1,803).
"""

import importlib.util
from pathlib import Path

from headstart.data.locate import locate
from headstart.data.types import Dataset, Item
from headstart.errors import DataError

CUT = 0.5
LICENCE = "CC BY-NC-SA 4.0"
_NOTES = (
    "Classes come from the defect probability of each cell (0, 1/3, 2/3 or 1): "
    "'defective' from 0.5 on, else 'functional'.",
    "The cells come from 44 solar modules, but the set does not say which cell from which, "
    "so that cells of one module may lie on both sides of a split.",
)


def load_solar() -> Dataset:
    """Reads the labels of the installed `elpv-dataset` without importing it.

    Raises:
        DataError: If the package is not installed or incomplete.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("demo:solar needs its images. Install them: pip install 'headstart[demo]'.")
    return read_cells(Path(spec.submodule_search_locations[0]) / "data")


def read_cells(folder: Path) -> Dataset:
    """Reads `labels.csv` in `folder`: path, probability and module type, separated by spaces."""
    root = folder.resolve()
    table = root / "labels.csv"
    if not table.is_file():
        raise DataError(
            f"The package elpv-dataset is incomplete: {table} is missing. Install it again."
        )
    items = []
    for number, line in enumerate(table.read_text("utf-8").splitlines(), start=1):
        where = f"row {number} of {table}"
        try:
            name, probability, _module_type = line.split()
            label = "defective" if float(probability) >= CUT else "functional"
        except ValueError:
            raise DataError(
                f"{line!r} is not a path, a probability and a type ({where})."
            ) from None
        path, _ = locate(name, root, where, inside=root)
        items.append(Item(path=path, label=label))
    return Dataset(name="solar", root=root, items=tuple(items), licence=LICENCE, notes=_NOTES)
