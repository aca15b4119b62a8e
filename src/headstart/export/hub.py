"""A Hugging Face folder: timm and transformers load it without headstart."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.models import save_for_hf
from torch import nn

from headstart.artifacts.bundle_spec import GRAPH, BundleSpec
from headstart.artifacts.files import write_json, write_text
from headstart.backbones.catalog import quietly
from headstart.export.onnx import graph_of, opened, runtime
from headstart.export.target import ClassifyFile, Exporting, Written
from headstart.export.timm import (
    LIMITS,
    as_timm,
    classified,
    data_config,
    probabilities_of,
    thresholds,
)

CARD = "README.md"

USE = """
## Use it without headstart

```python
{imports}import sys

import timm
import torch
from PIL import Image, ImageOps

FOLDER = "."  # this folder
model = timm.create_model(f"local-dir:{{FOLDER}}", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
with torch.inference_mode():
    probabilities = model(transform(image)[None]){end}
```

{note}
"""

ONE_CLASS = {
    "imports": "",
    "end": """.softmax(1)[0]
for name, probability in zip(model.pretrained_cfg["label_names"], probabilities.tolist()):
    print(f"{name}: {probability:.4f}")""",
    "note": "The temperature is in the weights: the softmax of the outputs are calibrated "
    "probabilities.",
}

ANY_LABELS = {
    "imports": "import json\n",
    "end": """.sigmoid()[0]
with open(f"{FOLDER}/config.json", encoding="utf-8") as file:
    thresholds = json.load(file)["thresholds"]
names = model.pretrained_cfg["label_names"]
for name, probability, threshold in zip(names, probabilities.tolist(), thresholds):
    print(f"{name}: {probability:.4f}" + (" (given)" if probability >= threshold else ""))""",
    "note": "An image gets any number of labels. The calibration of each is in the weights: the "
    "sigmoids of the\noutputs are calibrated probabilities. A label is given from the threshold in "
    "`config.json`.",
}
"""What differs in `USE` between a class and any number of labels an image."""

USE_ONNX = """
## Use it without headstart

timm alone cannot hold this classifier: {why}. `model.onnx` is the whole classifier. It takes views
(N, {side}, {side}, 3) of bytes, and `probabilities` is its third output; its metadata hold the
classes and the preprocessing{more}.
"""


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes the weights and their configuration, or the graph where timm cannot hold the head."""
    spec, found = exporting.spec, as_timm(exporting)
    if isinstance(found, str):
        graph_of(exporting, folder / GRAPH)
        more = ", and the threshold from which an image gets each label" if spec.multilabel else ""
        use = USE_ONNX.format(why=found, side=spec.preprocessing.resolution, more=more)
        _write_card(exporting, folder, use, "onnx")
        note = f"timm cannot hold this classifier: {found}. The folder holds model.onnx instead."
        return Written(opened(folder / GRAPH), runtime(), notes=(note,))
    with quietly():
        save_for_hf(
            found.model,
            str(folder),
            model_config=_config(spec),
            model_args=found.arguments,
            safe_serialization=True,
            data_config=data_config(spec),
        )
        _leave_arguments(folder / "config.json", found.arguments)
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    shown = {"image_processor_type": "TimmWrapperImageProcessor", "architecture": found.name}
    write_json(folder / "preprocessor_config.json", {**shown, "pretrained_cfg": data_config(spec)})
    use = USE.format(**(ANY_LABELS if spec.multilabel else ONE_CLASS))
    _write_card(exporting, folder, use, "timm")
    return Written(
        classified(model, spec),
        f"timm {timm.__version__}",
        LIMITS,
        from_file=_from_file(model, spec),
    )


def _leave_arguments(path: Path, needed: dict[str, Any]) -> None:
    """Leaves the arguments of the network that it needs besides the number of classes.

    timm also writes that into them, and transformers then passes it twice, which fails.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("model_args", None)
    write_json(path, {**config, **({"model_args": needed} if needed else {})})


def _config(spec: BundleSpec) -> dict[str, object]:
    """Returns what the configuration says of the outputs."""
    several = {"problem_type": "multi_label_classification"} if spec.multilabel else {}
    return {"label_names": list(spec.classes), **several, **thresholds(spec)}


def _from_file(model: nn.Module, spec: BundleSpec) -> ClassifyFile:
    """Returns a function that runs a network of timm on a file, with timm's preprocessing."""
    config = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    transform = create_transform(**config, is_training=False)

    def classify(path: Path) -> NDArray[np.floating]:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        with torch.inference_mode():
            found: NDArray[np.floating] = probabilities_of(model(transform(image)[None]), spec)[
                0
            ].numpy()
            return found

    return classify


def _write_card(exporting: Exporting, folder: Path, use: str, library: str) -> None:
    """Writes the model card of the bundle, with how to use the folder."""
    card = exporting.bundle / "MODEL_CARD.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else _short_card(exporting.spec)
    named = re.sub(r"^library_name: .*$", f'library_name: "{library}"', text, count=1, flags=re.M)
    write_text(folder / CARD, named.rstrip("\n") + "\n" + use)


def _short_card(spec: BundleSpec) -> str:
    what = "labels" if spec.multilabel else "classes"
    return f"---\nlibrary_name: timm\n---\n\n# An image classifier of {len(spec.classes)} {what}\n"
