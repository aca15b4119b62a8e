"""Any number of labels an image: head and fine-tuned network against one-vs-rest scikit-learn.

    python benchmarks/multilabel.py --data FOLDER --out benchmarks/.bench/multilabel

makes 2 × 2 mosaics of the pictures of flowers17 and clothing10, whose labels are the classes of
their quarters. The pictures are divided first, so no picture is in a training and in a test mosaic.
`headstart fit` solves a head and fine-tunes a network; scikit-learn's one-vs-rest logistic
regression, with a penalty from cross-validation, gets the features that the head was solved on. All
are measured on the same sealed mosaics, and the differences of their mean average precision are
paired by mosaic. The run that fine-tunes keeps its head where training does not pay, and says so.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import headstart
from headstart.artifacts.set_results import read_set_predictions
from headstart.evaluation.label_paired import mean_precision_difference
from headstart.evaluation.label_scores import average_precisions

SETS = ("flowers17", "clothing10")
PARTS = {"train": 0.6, "val": 0.15, "test": 0.25}
SIDE = 128
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
IMAGES = frozenset({".jpg", ".jpeg", ".png"})


def parted(files: Sequence[Path], seed: int) -> dict[str, list[Path]]:
    """Returns the pictures of a class, divided at random into the parts.

    Example:
        >>> {name: len(part) for name, part in parted([Path(str(n)) for n in range(20)], 0).items()}
        {'train': 12, 'val': 3, 'test': 5}
    """
    order = np.random.default_rng(seed).permutation(len(files))
    ends = np.cumsum([round(share * len(files)) for share in PARTS.values()])[:-1]
    rows = np.split(order, ends)
    return {name: [files[row] for row in each] for name, each in zip(PARTS, rows, strict=True)}


def make_mosaics(
    pictures: Mapping[str, Sequence[Path]], out: Path, count: int, seed: int = 0, side: int = SIDE
) -> Path:
    """Writes mosaics and their table, and returns the table.

    Args:
        pictures: Pictures of each class.
        out: Folder for the mosaics.
        count: Number of mosaics.
        seed: Seed for all draws.
        side: Side of a quarter, in pixels.
    """
    out.mkdir(parents=True)
    random = np.random.default_rng(seed)
    pools = {name: parted(files, seed) for name, files in sorted(pictures.items())}
    rows = ["path,label,split"]
    ends = np.cumsum([round(share * count) for share in PARTS.values()])
    for number in range(count):
        part = next(name for name, end in zip(PARTS, ends, strict=True) if number < end)
        kinds = random.choice(sorted(pools), random.integers(1, 5), replace=False)
        quarters = [*kinds, *random.choice(kinds, 4 - len(kinds))]
        mosaic = Image.new("RGB", (2 * side, 2 * side))
        for place, kind in enumerate(random.permutation(quarters)):
            pool = pools[kind][part]
            picture = Image.open(pool[random.integers(len(pool))]).convert("RGB")
            mosaic.paste(picture.resize((side, side)), (place % 2 * side, place // 2 * side))
        mosaic.save(out / f"{number:05}.jpg", quality=92)
        rows.append(f"{number:05}.jpg,{';'.join(sorted(kinds))},{part}")
    table = out / "labels.csv"
    table.write_text("\n".join(rows))
    return table


def one_vs_rest(
    features: NDArray[np.float32], marks: NDArray[np.int64], test: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Returns the scores (M, C) that scikit-learn's logistic regressions give test features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.empty((len(test), marks.shape[1]))
    for label in range(marks.shape[1]):
        models = {
            c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200))
            for c in PENALTIES
        }
        losses = {}
        for c, model in models.items():
            told = cross_val_predict(model, features, marks[:, label], cv=3, method="predict_proba")
            of_label = np.take_along_axis(told, marks[:, [label]], 1)
            losses[c] = float(-np.log(np.maximum(of_label, 1e-12)).mean())
        best = models[min(losses, key=losses.__getitem__)].fit(features, marks[:, label])
        scores[:, label] = best.decision_function(test)
    return scores


def main() -> None:
    """Runs the comparison and prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with flowers17, clothing10"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pictures = {
        folder.name: sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        for name in SETS
        for folder in sorted((given.data / name).iterdir())
        if folder.is_dir()
    }
    table = make_mosaics(pictures, given.out / "mosaics", given.count, given.seed)
    head = headstart.fit(table, out=given.out / "head", strategy="head", seed=given.seed)
    tuned = headstart.fit(table, out=given.out / "tuned", epochs=given.epochs, seed=given.seed)
    names = head.record.classes
    tested = read_set_predictions(head.folder)
    marks = np.array([[int(name in each.labels) for name in names] for each in tested])
    scores = {
        "head": np.array([each.probabilities for each in tested]),
        "fine-tuned": np.array([p.probabilities for p in read_set_predictions(tuned.folder)]),
    }
    with table.open() as file:
        rows = [line.rstrip("\n").split(",") for line in file][1:]
    known = [row for row in rows if row[2] != "test"]
    features = head.embed([table.parent / row[0] for row in known])
    learned = np.array([[int(name in row[1].split(";")) for name in names] for row in known])
    test = head.embed([table.parent / each.path for each in tested])
    scores["scikit-learn"] = one_vs_rest(features, learned, test)
    result = {
        "labels": len(names),
        "mosaics": given.count,
        "test": len(tested),
        "map": {k: round(float(np.nanmean(average_precisions(s, marks))), 4)
                for k, s in scores.items()},
        "paired": {
            f"{name} against {other}": mean_precision_difference(scores[name], scores[other], marks)
            for name, other in (("head", "scikit-learn"), ("fine-tuned", "scikit-learn"),
                                ("fine-tuned", "head"))
        },
        "kept by the run that fine-tunes": tuned.record.chosen,
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
