from pathlib import Path

import numpy as np
import torch
from PIL import Image

from headstart.backbones.preprocessing import Preprocessing
from headstart.data.decode import decode_dataset
from headstart.data.eval_view import eval_view
from headstart.data.images import load_image
from headstart.data.sources import load_dataset
from headstart.data.views import EVALUATION, View, augmented_view, view_batches
from headstart.methods.augmentation import TrivialAugment

PREPROCESSING = Preprocessing(48, 54, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
AUGMENT = TrivialAugment().build(48, "bicubic", (128, 128, 128))


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))


def test_what_training_sees_is_what_prediction_sees(pictures: Path, tmp_path: Path) -> None:
    dataset = load_dataset(pictures)
    pixels = decode_dataset(dataset.items[:5], PREPROCESSING.resize, tmp_path)
    (batch,) = view_batches(pixels, range(5), PREPROCESSING, EVALUATION, 8)
    for row, item in enumerate(dataset.items[:5]):
        shipped = eval_view(load_image(item.path, None, PREPROCESSING.resize), PREPROCESSING)
        assert np.array_equal(batch[row], shipped)


def test_a_view_depends_on_seed_image_and_number_alone() -> None:
    first = augmented_view(noise(), AUGMENT, seed=1, index=2, number=3)
    torch.rand(5)
    state = torch.get_rng_state()
    assert np.array_equal(augmented_view(noise(), AUGMENT, 1, 2, 3), first)
    assert torch.equal(torch.get_rng_state(), state)
    for seed, index, number in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(augmented_view(noise(), AUGMENT, seed, index, number), first)


def test_batch_size_changes_nothing(pictures: Path, tmp_path: Path) -> None:
    pixels = decode_dataset(load_dataset(pictures).items[:7], 54, tmp_path)
    augmented = View(TrivialAugment(), seed=0, number=1)
    runs = [
        np.concatenate(list(view_batches(pixels, range(7), PREPROCESSING, augmented, size)))
        for size in (2, 7)
    ]
    assert np.array_equal(runs[0], runs[1])


def test_mirrored_views_are_the_mirror_images(pictures: Path, shared_cache: Path) -> None:
    dataset = load_dataset(pictures)
    pixels = decode_dataset(dataset.items, PREPROCESSING.resize, shared_cache)
    (plain,) = view_batches(pixels, range(4), PREPROCESSING, EVALUATION, 8)
    (mirrored,) = view_batches(pixels, range(4), PREPROCESSING, View(mirror=True), 8)
    assert np.array_equal(mirrored, plain[:, :, ::-1])
    assert not np.array_equal(mirrored, plain)
