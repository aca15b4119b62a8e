"""One arm: fastai's own `vision_learner` on a given split, from given weights."""

import time

import timm
import torch
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)
from pandas import DataFrame
from safetensors.torch import load_file

from _arm import options, read_examples, write_result

MODEL = "tf_efficientnet_lite0"


class Speed(Callback):
    """Counts the images trained on and the seconds that it took, without validation."""

    def before_fit(self) -> None:
        self.images, self.seconds = getattr(self, "images", 0), getattr(self, "seconds", 0.0)

    def before_train(self) -> None:
        self.since = time.monotonic()

    def after_batch(self) -> None:
        if self.training:
            self.images += len(self.xb[0])

    def after_train(self) -> None:
        self.seconds += time.monotonic() - self.since


def main() -> None:
    parser = options(__doc__ or "")
    parser.add_argument("--way", choices=("frozen", "frozen-bn", "fine-tune"), required=True)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    examples = read_examples(args.split)
    set_seed(args.seed)

    fitted = DataFrame(
        [(e.path, e.label, e.part == "val") for e in examples if e.part != "test"],
        columns=["path", "label", "is_valid"],
    )
    # The presizing of fastai's own documentation: larger items, then augmented down to size.
    dls = ImageDataLoaders.from_df(
        fitted,
        path=args.data,
        valid_col="is_valid",
        item_tfms=Resize(256),
        batch_tfms=aug_transforms(size=224),
        num_workers=args.workers,
    )
    learn = vision_learner(
        dls,
        MODEL,
        metrics=accuracy,
        train_bn=args.way != "frozen-bn",
        pretrained_cfg_overlay={"file": str(args.weights)},
    )
    _check(learn, args.weights)
    speed = Speed()
    learn.add_cb(speed)
    with learn.no_bar():
        if args.way == "fine-tune":
            learn.fine_tune(args.epochs)
        else:
            learn.fit_one_cycle(args.epochs)

    test = DataFrame(
        [(e.path, e.label) for e in examples if e.part == "test"], columns=["path", "label"]
    )
    with learn.no_bar():
        probabilities, labels = learn.get_preds(dl=dls.test_dl(test, with_labels=True))
    hits = (probabilities.argmax(dim=1) == labels).tolist()
    write_result(
        args.result,
        wrong=[path for path, right in zip(test["path"], hits, strict=True) if not right],
        n=len(test),
        images_per_s=speed.images / speed.seconds,
    )


def _check(learn, weights) -> None:
    """Fails if fastai would start from other weights, or normalise otherwise, than is meant."""
    given, loaded = load_file(weights), learn.model[0].model.state_dict()
    for name, tensor in loaded.items():
        if not name.endswith("num_batches_tracked") and not torch.equal(tensor, given[name]):
            raise SystemExit(f"fastai did not load {name} from {weights}.")
    config = timm.get_pretrained_cfg(MODEL)
    steps = [step for step in learn.dls.after_batch.fs if isinstance(step, Normalize)]
    if len(steps) != 1 or steps[0].mean.flatten().tolist() != list(config.mean):
        raise SystemExit(f"fastai normalises by {steps}, not by {config.mean}, {config.std}.")


if __name__ == "__main__":
    main()
