"""Pictures of methods as PNG: augmented views, mixed images, schedules and activations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from headstart.backbones.preprocessing import Preprocessing
from headstart.data.eval_view import eval_view
from headstart.data.views import augmented_view
from headstart.methods.activation import ActivationUnion, Keep, LeakyReLU, Mish, Swish
from headstart.methods.augmentation import AugmentationUnion, FlipCrop, Transform
from headstart.methods.batch_mixing import CutMix, Mix, MixUp, apply_mix
from headstart.methods.schedule import Constant, CosineAnnealing, OneCycle, ScheduleUnion
from headstart.report.sheets import draw_sheet, new_figure, save

_COLUMNS = 8
# Okabe and Ito (2008), safe for colour-blind readers.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class Subject:
    """An example image: its pixels, decoded as in training, and its class."""

    image: Image.Image
    label: str


def draw_augmentations(
    path: Path,
    subject: Subject,
    policies: Mapping[str, AugmentationUnion],
    preprocessing: Preprocessing,
    seed: int,
) -> None:
    """Draws random views of one image, one row per policy; the evaluation view comes first."""
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for name, policy in policies.items():
        view: Transform | None = policy.build(
            preprocessing.resolution, preprocessing.interpolation, preprocessing.fill
        )
        plain = eval_view(subject.image, preprocessing)
        drawn = [
            plain if view is None else augmented_view(subject.image, view, seed, 0, number)
            for number in range(_COLUMNS - 1)
        ]
        rows[name] = [plain, *drawn]
    titles = [[""] * _COLUMNS for _ in rows]
    draw_sheet(
        path,
        rows,
        titles,
        f"Random views of one image ({subject.label}); the first is the evaluation view",
    )


def draw_mixing(
    path: Path, first: Subject, second: Subject, preprocessing: Preprocessing, seed: int
) -> None:
    """Draws Cutout of one image, and CutMix and MixUp of two with their label shares."""
    pair = np.stack([eval_view(each.image, preprocessing) for each in (first, second)])
    random = np.random.default_rng(seed)
    cutout = FlipCrop(flip=False, min_area=1, stretch=1, cutout=0.4).build(
        preprocessing.resolution, preprocessing.interpolation, preprocessing.fill
    )
    square = Image.fromarray(pair[0])
    rows = {
        "cutout": [augmented_view(square, cutout, seed, 0, n) for n in range(_COLUMNS - 2)],
        "cutmix": [],
        "mixup": [],
    }
    titles = {"cutout": [first.label] * len(rows["cutout"]), "cutmix": [], "mixup": []}
    swap = torch.tensor([1, 0])
    for method in (CutMix(probability=1), MixUp(alpha=1)):
        while len(rows[method.name]) < _COLUMNS - 2:
            mix = method.draw(2, random)
            assert mix is not None
            mixed, targets, share = apply_mix(
                torch.from_numpy(pair), torch.eye(2), Mix(swap, mix.share, mix.box), (1, 2)
            )
            if not 0.1 < share < 0.9:  # a share near 0 or 1 shows nothing
                continue
            rows[method.name].append(mixed[0].round().to(torch.uint8).numpy())
            titles[method.name].append(f"{float(targets[0, 0]):.2f} / {float(targets[0, 1]):.2f}")
    sheet = {name: [pair[0], pair[1], *views] for name, views in rows.items()}
    headings = [[first.label, second.label, *titles[name]] for name in rows]
    draw_sheet(
        path,
        sheet,
        headings,
        "Cutout of one image; CutMix and MixUp of two, with label shares",
    )


def draw_schedules(path: Path) -> None:
    """Draws the learning rate of every schedule over the whole training."""
    curves: dict[str, ScheduleUnion] = {
        "constant": Constant(),
        "onecycle": OneCycle(),
        "cosine": CosineAnnealing(),
        "cosine (cycles 2, growth 2)": CosineAnnealing(cycles=2, growth=2),
    }
    x = np.linspace(0, 1, 601)
    lines = {name: [each.factor(float(p)) for p in x] for name, each in curves.items()}
    _plot(path, x, lines, "share of training", "share of the full learning rate")


def draw_activations(path: Path) -> None:
    """Draws every activation function around zero."""
    curves: dict[str, ActivationUnion] = {
        "keep (ReLU in a head)": Keep(),
        "mish": Mish(),
        "swish": Swish(),
        "leaky_relu (slope 0.1)": LeakyReLU(slope=0.1),
    }
    x = np.linspace(-4, 3, 601)
    inputs = torch.from_numpy(x)
    lines = {name: each.build()(inputs).tolist() for name, each in curves.items()}
    _plot(path, x, lines, "input", "output")


def _plot(
    path: Path, x: NDArray[np.float64], lines: Mapping[str, Sequence[float]], across: str, up: str
) -> None:
    figure, ((axes,),) = new_figure((6.4, 3.6), 1, 1)
    for (name, values), colour, dash in zip(lines.items(), _COLOURS, _DASHES, strict=False):
        axes.plot(x, values, color=colour, linestyle=dash, linewidth=1.8, label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, ncols=len(lines), loc="outside upper center")
    save(figure, path)
