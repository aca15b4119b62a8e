"""How often the forecast for more labels holds, each repeat with other labels held back.

    python benchmarks/forecast_holds.py ../shared/data/flowers17 ../shared/data/neu_steel

In every repeat 30% of the labels are held back; from the others the accuracy with all of them is
forecast, and measured on the same images. Prints one row a data set.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from headstart.backbones.boundaries import FEATURES
from headstart.certificate.curves import forecast
from headstart.certificate.learning_curve import measure_curve
from headstart.certificate.verdicts import KNOWN
from headstart.data.sources import load_dataset
from headstart.features.extractor import activations, open_prefix
from headstart.recipes.parsing import parse_recipe
from headstart.training.experiment import SplitChoice, prepare
from headstart.training.run_context import Resources


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--resolution", type=int, default=112)
    options = parser.parse_args()
    print("| data | images | held | median width, points | mean error, points |\n|-|-|-|-|-|")
    for folder in options.folders:
        print(row(folder, options.repeats, options.resolution), flush=True)


def row(folder: Path, repeats: int, resolution: int) -> str:
    recipe = parse_recipe({"backbone": {"resolution": resolution}})
    experiment = prepare(load_dataset(folder), recipe, SplitChoice(), Resources())
    extractor = experiment.extractor
    rows = np.concatenate([extractor.rows["train"], extractor.rows["val"]])
    labels = np.concatenate([extractor.labels["train"], extractor.labels["val"]])
    groups = np.concatenate([extractor.groups, experiment.audited.groups[experiment.split.val]])
    everything = replace(extractor, rows={"all": rows})
    features = np.asarray(activations(everything, open_prefix(extractor, FEATURES), "all"))
    held, widths, errors = 0, [], []
    for seed in range(1, repeats + 1):
        curve = measure_curve(
            features.astype(np.float32), labels, groups, len(extractor.classes),
            known=KNOWN, seed=seed,
        )  # fmt: skip
        found = forecast(curve.sizes, curve.hits, [curve.all_size], curve.sizes[-1], seed)[0]
        measured = float(curve.all_hits.mean())
        low, high = found.interval
        held += low <= measured <= high
        widths.append(100 * (high - low))
        errors.append(100 * abs(measured - found.accuracy))
    return (
        f"| {folder.name} | {len(rows):,} | {held} of {repeats} | {np.median(widths):.1f} | "
        f"{np.mean(errors):.1f} |"
    )


if __name__ == "__main__":
    main()
