"""How fast `headstart predict` is beside its two parts: decoding alone, and the network alone.

    python benchmarks/predict_rate.py --run RUN --images FOLDER --count 20000

alters real images until there are `--count` files, and goes through them in `--rounds` parts. In
each part, three things are timed in turn, each time in another order: `predict` into a CSV file,
decoding in the threads that `predict` has, and the network on views that are in memory. It prints
images a second and, for each round, the rate of `predict` over that of the slower of the two; with
`--profile`, also where the thread that runs the network spends its time.
"""

import argparse
import cProfile
import json
import os
import pstats
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageEnhance

from headstart.artifacts.bundle_graph import RunBatch
from headstart.data.images_in import each_image_in
from headstart.inference.bundle import Bundle, bundle_folder, open_bundle
from headstart.inference.image_inputs import ImageInput
from headstart.inference.predict import predict_batches
from headstart.inference.prediction_file import PredictionFile, made_by, open_predictions
from headstart.inference.run_bundle import view_of

BATCH = 4


def altered(source: Path, number: int) -> Image.Image:
    """Returns an image that no other number gives: a part of it, perhaps mirrored."""
    dice = np.random.default_rng(number)
    with Image.open(source) as opened:
        image = opened.convert("RGB")
    left, top = (int(dice.integers(0, 1 + side // 10)) for side in image.size)
    image = image.crop((left, top, image.width - left // 2, image.height - top // 2))
    if dice.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(image).enhance(float(dice.uniform(0.8, 1.2)))


def make_images(sources: Sequence[Path], count: int, folder: Path) -> list[Path]:
    """Writes `count` JPEG files, a thousand in a folder, and returns their paths."""
    paths = []
    for number, source in enumerate(islice(cycle(sources), count)):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        altered(source, number).save(path, quality=88)
        paths.append(path)
    return paths


def parts_of(paths: Sequence[Path], rounds: int) -> list[list[Path]]:
    """Returns the paths in equal parts, those that are left over in the last.

    Example:
        >>> [len(part) for part in parts_of([Path("a")] * 7, 3)]
        [2, 2, 3]
    """
    size = len(paths) // rounds
    ends = [*(size * number for number in range(rounds)), len(paths)]
    return [list(paths[start:end]) for start, end in pairwise(ends)]


def predict(bundle: Bundle, file: PredictionFile, paths: Sequence[Path]) -> None:
    """Does what `headstart predict --out` does with paths."""
    images = (ImageInput(str(path), path) for path in paths)
    for batch in predict_batches(bundle, images):
        file.write(batch)


def decode(bundle: Bundle, paths: Sequence[Path]) -> None:
    """Decodes as `predict` does, and drops what it decoded."""
    with ThreadPoolExecutor() as pool:
        deque(pool.map(lambda path: view_of(path, bundle.spec), paths), maxlen=0)


def network(bundle: Bundle, run: RunBatch, views: Sequence[np.ndarray], count: int) -> None:
    """Runs the network on `count` views in the batches and threads that `predict` has."""
    batch = np.stack(views[:BATCH])
    with ThreadPoolExecutor(bundle.at_once) as pool:
        deque(pool.map(lambda _: run(batch), range(count // BATCH)), maxlen=0)


def seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def shares(taken: Sequence[dict[str, float]]) -> list[float]:
    """Returns the rate of `predict` over that of the slower part, for each round.

    Example:
        >>> shares([{"predict": 10.0, "decode": 2.0, "network": 9.0}])
        [0.9]
    """
    return [max(each["decode"], each["network"]) / each["predict"] for each in taken]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of real images")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    bundle = open_bundle(args.run, many=True)
    run = bundle.runner(args.count)
    with tempfile.TemporaryDirectory() as work:
        paths = make_images(list(each_image_in(args.images)), args.count, Path(work) / "images")
        views = [view_of(path, bundle.spec)[0] for path in paths[:BATCH]]
        made = made_by(bundle_folder(args.run), bundle.spec, None)
        taken: list[dict[str, float]] = []
        with open_predictions(Path(work) / "found.csv", made, resume=False) as file:
            for number, part in enumerate(parts_of(paths, args.rounds)):
                kinds = {
                    "predict": partial(predict, bundle, file, part),
                    "decode": partial(decode, bundle, part),
                    "network": partial(network, bundle, run, views, len(part)),
                }
                order = list(kinds)[number % 3 :] + list(kinds)[: number % 3]
                took = {kind: seconds(kinds[kind]) for kind in order}
                taken.append(took)
                rates = {kind: round(len(part) / took[kind], 1) for kind in kinds}
                print(
                    json.dumps({"round": number, **rates, "share": shares([took])[0]}), flush=True
                )
            if args.profile:
                profile = cProfile.Profile()
                profile.runcall(predict, bundle, file, parts_of(paths, args.rounds)[0])
                pstats.Stats(profile).sort_stats("tottime").print_stats(15)
    each = sorted(shares(taken))
    print(
        json.dumps(
            {
                "images": args.count,
                "cores": len(os.sched_getaffinity(0)),
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
                "share of the slower part": round(median(each), 3),
                "from": round(each[0], 3),
                "to": round(each[-1], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
