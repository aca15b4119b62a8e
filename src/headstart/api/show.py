"""Pictures of what the methods do to the user's own images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headstart.backbones.catalog import load_backbone
from headstart.data.images import load_image
from headstart.data.sources import load_dataset
from headstart.data.types import Dataset
from headstart.errors import DataError, InputError
from headstart.methods.augmentation import (
    AugmentationUnion,
    AutoAugment,
    FlipCrop,
    RandAugment,
    TrivialAugment,
)
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.options import SourceOptions
from headstart.recipes.parsing import load_recipe, with_settings
from headstart.recipes.recipe import Recipe
from headstart.report.pictures import (
    Subject,
    draw_activations,
    draw_augmentations,
    draw_mixing,
    draw_schedules,
)


@lists_fields(SourceOptions)
def show(
    source: Any,
    options: SourceOptions | None = None,
    *,
    out: str | Path = "pictures",
    image: str | Path | None = None,
    recipe: str | Recipe = "default",
    settings: Sequence[str] = (),
    seed: int = 0,
    cache_dir: str | Path | None = None,
    **keywords: Any,
) -> list[Path]:
    """Draws augmented views, mixed images, schedules and activations, and returns the files.

    It takes more parameters than others, because it has no options of its own to hold them.

    Args:
        source: The images, as for `fit`.
        options: How the source is read.
        out: Folder for the pictures.
        image: Image to draw; by default the first readable image.
        recipe: Recipe whose augmentation is drawn first and whose backbone sets the image size.
        settings: Changes to the recipe such as `augmentation.cutout=0.3`.
        seed: Seed for random augmentation and mixing.
        cache_dir: Cache folder for archives; by default `$HEADSTART_CACHE` or the user's.
        keywords: Fields of `SourceOptions` instead of `options`, such as `layout="splits"`.

    Raises:
        InputError: If the recipe is invalid, or no image can be read.

    Example:
        >>> import headstart
        >>> files = headstart.show("flowers", recipe="default")  # doctest: +SKIP
        >>> [file.name for file in files]  # doctest: +SKIP
        ['augmentations.png', 'mixing.png', 'schedules.png', 'activations.png']
    """
    chosen = with_settings(load_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
    backbone = load_backbone(
        chosen.backbone.name, weights="random", resolution=chosen.backbone.resolution or None
    )
    preprocessing = backbone.preprocessing
    dataset = load_dataset(
        source,
        with_keywords(SourceOptions, options, keywords),
        cache_dir=Path(cache_dir) if cache_dir else None,
    )
    first, second = _two_subjects(dataset, image, preprocessing.resize)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot create the folder {folder}: {error.strerror}.") from None
    files = [
        folder / f"{name}.png" for name in ("augmentations", "mixing", "schedules", "activations")
    ]
    draw_augmentations(files[0], first, _policies(chosen.augmentation), preprocessing, seed)
    draw_mixing(files[1], first, second, preprocessing, seed)
    draw_schedules(files[2])
    draw_activations(files[3])
    return files


def _policies(own: AugmentationUnion) -> dict[str, AugmentationUnion]:
    policies: dict[str, AugmentationUnion] = {
        "flip_crop": FlipCrop(),
        "auto_augment": AutoAugment(),
        "rand_augment": RandAugment(),
        "trivial_augment": TrivialAugment(),
        "flip_crop + cutout": FlipCrop(cutout=0.4),
    }
    if own.absent or own in policies.values():
        return policies
    return {f"the recipe's {own.name}": own, **policies}


def _two_subjects(
    dataset: Dataset, image: str | Path | None, short_side: int
) -> tuple[Subject, Subject]:
    """Returns the image to draw, and the first image of another class."""
    readable = _readable(dataset, short_side)
    if image is not None:
        label = Path(image).parent.name
        first = Subject(load_image(Path(image), None, short_side, dataset.reading), label)
    else:
        found = next(readable, None)
        if found is None:
            raise DataError(f"No image of {dataset.name} can be read.")
        first = found
    other = next((each for each in readable if each.label != first.label), None)
    return first, other or first


def _readable(dataset: Dataset, short_side: int) -> Iterator[Subject]:
    for item in dataset.items:
        try:
            yield Subject(load_image(item.path, item.box, short_side, dataset.reading), item.label)
        except DataError:
            continue
