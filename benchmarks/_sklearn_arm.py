"""One arm: timm's pooled features of the plain view, in eager PyTorch, and scikit-learn's
logistic regression, its C chosen on val."""

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, Dataset

from _arm import Example, options, read_examples, write_result

MODEL = "tf_efficientnet_lite0"
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


class Images(Dataset):
    """Images as the backbone's own evaluation transform gives them."""

    def __init__(self, root, examples: list[Example], transform) -> None:
        self.root, self.examples, self.transform = root, examples, transform

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.root / self.examples[index].path) as image:
            return self.transform(image.convert("RGB"))


def main() -> None:
    args = options(__doc__ or "").parse_args()
    examples = read_examples(args.split)
    model = timm.create_model(
        MODEL, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(args.weights)}
    ).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    loader = DataLoader(
        Images(args.data, examples, transform), batch_size=32, num_workers=args.workers
    )
    with torch.inference_mode():
        X = torch.cat([model(batch) for batch in loader]).numpy()
    y = np.array([e.label for e in examples])
    part = np.array([e.part for e in examples])

    def fit(strength: float) -> LogisticRegression:
        solver = LogisticRegression(C=strength, max_iter=2000)
        return solver.fit(X[part == "train"], y[part == "train"])

    fits = [fit(strength) for strength in STRENGTHS]
    best = max(fits, key=lambda each: each.score(X[part == "val"], y[part == "val"]))
    tested = np.flatnonzero(part == "test")
    predicted = best.predict(X[tested])
    wrong = [examples[i].path for i, name in zip(tested, predicted, strict=True) if name != y[i]]
    write_result(args.result, wrong=wrong, n=len(tested), images_per_s=None)


if __name__ == "__main__":
    main()
