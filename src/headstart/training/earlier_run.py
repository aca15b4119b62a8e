"""A finished run that another one continues: its network, its recipe, and where its images were."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.artifacts.bundle_spec import WEIGHTS, BundleSpec, read_spec
from headstart.artifacts.files import read_table
from headstart.artifacts.fingerprint import DIGITS, FINGERPRINT
from headstart.artifacts.run import read_metrics, read_record
from headstart.artifacts.set_results import read_set_metrics
from headstart.data.pixels import Facts
from headstart.data.splits import make_split
from headstart.data.types import SPLIT_NAMES, Dataset, SplitName
from headstart.errors import DataError, RecipeError, RunError
from headstart.evaluation.intervals import Groups
from headstart.recipes.parsing import load_recipe
from headstart.recipes.recipe import Recipe
from headstart.text import counted, listed

_STRONGEST: tuple[SplitName, ...] = ("test", "train", "val")
"""Parts from the one that no other may have to the weakest: what was trained on stays so."""


@dataclass(frozen=True)
class EarlierRun:
    """A finished run that another one continues.

    Attributes:
        folder: Run folder.
        spec: Description of its bundle.
        recipe: Its recipe, with the weights of its bundle.
        parts: Part of the split of each of its files, by the start of their SHA-256.
        labels: Label of each of its sealed test files, by the same.
        saw_validation: Whether its network was trained on its validation images, too.
    """

    folder: Path
    spec: BundleSpec
    recipe: Recipe
    parts: dict[str, SplitName]
    labels: dict[str, str]
    saw_validation: bool = False

    def known(self, facts: Sequence[Facts]) -> dict[str, SplitName]:
        """Returns the part of each image that the run had, by the hash of its pixels.

        So a copy in another file is recognised, if the file that the run had is here, too.

        Args:
            facts: What is known of all files.
        """
        found: dict[str, list[SplitName]] = {}
        for fact in facts:
            part = self.parts.get(fact.sha256[:DIGITS])
            if part is not None and fact.pixels:
                found.setdefault(fact.pixels, []).append(part)
        return {pixels: _strongest(parts) for pixels, parts in found.items()}


def open_earlier(folder: Path) -> EarlierRun:
    """Opens a finished run to continue it.

    Raises:
        RunError: If it is not finished, or of a version that kept no fingerprint of its images.
    """
    record = read_record(folder)
    several = record.task == "multilabel"
    if several:
        read_set_metrics(folder)
    else:
        read_metrics(folder)
    spec, recipe = read_spec(folder / "bundle"), load_recipe(str(folder / "recipe.toml"))
    rows = read_table(folder / FINGERPRINT, ("path", "label", "sha256"))
    if not rows or "part" not in rows[0]:
        raise RunError(
            f"{folder} cannot be continued: the version of headstart that made it kept no "
            f"fingerprint of its images ({FINGERPRINT}), so its sealed test could not be told from "
            "the others. Fit it again with this version."
        )
    parts: dict[str, list[SplitName]] = {}
    labels: dict[str, str] = {}
    for row in rows:
        for name in SPLIT_NAMES:
            if row["part"] == name and row["sha256"]:
                parts.setdefault(row["sha256"], []).append(name)
        if row["part"] == "test":
            labels[row["sha256"]] = row["label"]
    weights = str((folder / "bundle" / WEIGHTS).resolve())
    backbone = recipe.backbone.model_copy(update={"weights": weights})
    # The epochs of that run fitted its images and its time.
    recipe = recipe.model_copy(update={"backbone": backbone, "epochs": 0})
    return EarlierRun(
        folder,
        spec,
        recipe,
        {sha256: _strongest(names) for sha256, names in parts.items()},
        labels,
        # Of several labels, validation images choose the thresholds, so none is trained on.
        saw_validation=record.searched and not record.head_alone and not several,
    )


def check_continues(earlier: EarlierRun, dataset: Dataset, recipe: Recipe) -> None:
    """Checks, before anything is decoded, that a run can be continued with other images.

    Raises:
        DataError: If they are of other classes, or have one label where the run gives several, or
            several where it gives one: another task.
        RecipeError: If the network or its resolution would change.
    """
    ours, theirs = dataset.classes, earlier.spec.classes
    if dataset.multilabel != earlier.spec.multilabel:
        many, one = "any number of labels (multi-label)", "one class"
        gives, have = (one, many) if dataset.multilabel else (many, one)
        raise DataError(
            f"{earlier.folder} gives an image {gives}, and the images of {dataset.name} have "
            f"{have}, so it cannot be continued with them. Fit them without --from, or say with "
            "--task how many labels an image has."
        )
    if not set(ours) & set(theirs):
        raise DataError(
            f"{dataset.name} has none of the classes of {earlier.folder} "
            f"({listed(theirs[:5])}), so there is nothing to continue. Fit it without --from, or "
            "name the classes as before."
        )
    before, now = earlier.recipe.backbone, recipe.backbone
    changed = [
        name
        for name in ("name", "weights", "resolution")
        if getattr(before, name) != getattr(now, name)
    ]
    if changed:
        names = listed([f"backbone.{name}" for name in changed])
        raise RecipeError(
            f"{names} cannot be changed with --from: the network of {earlier.folder} sees images "
            f"of {earlier.spec.preprocessing.resolution} pixels and is taken as it is. Leave that "
            "setting out, or fit without --from."
        )


def notes_on(earlier: EarlierRun, dataset: Dataset, facts: Sequence[Facts]) -> list[str]:
    """Returns what is not as one may think when a run is continued, as sentences.

    Args:
        earlier: The run that is continued.
        dataset: The present images.
        facts: What is known of all their files.
    """
    notes, name = [], earlier.folder.resolve().name
    if earlier.spec.members > 1:
        notes.append(
            f"{name} ships an ensemble of {earlier.spec.members} networks. The first is continued."
        )
    if earlier.saw_validation:
        notes.append(
            f"The network of {name} was trained on its validation images, too. So validation "
            "figures, the temperature and the prediction sets of this run may be too good; the "
            "sealed test is not concerned."
        )
    gone = [each for each in earlier.spec.classes if each not in dataset.classes]
    if gone:
        notes.append(
            f"{counted(len(gone), 'class', 'classes')} of {name} without images here "
            f"({listed(gone[:10])}): the new classifier does not know them."
        )
    sealed = {sha256 for sha256, part in earlier.parts.items() if part == "test"}
    absent = len(sealed - {fact.sha256[:DIGITS] for fact in facts})
    if absent:
        notes.append(
            f"{absent:,} of {counted(len(sealed), 'sealed test image')} of {name} are not among "
            "these images. What was forgotten is not measured on them, and copies of them in "
            "other files are not recognised. Put them beside the new images."
        )
    return notes


def parts_after(
    labels: Sequence[str] | Sequence[tuple[str, ...]],
    groups: Groups,
    before: Sequence[SplitName | None],
    seed: int,
) -> list[SplitName | None]:
    """Returns the part of each image in a run that continues another.

    An image keeps its part, and what belongs to it (copies, near-duplicates, its group) is in the
    same one: in the test if any of it was. Groups without an image of the earlier run are split as
    in a run of their own.

    Args:
        labels: Class of each image, or its set of labels.
        groups: Group number of each image, shape (n,).
        before: Part in the earlier run; None for new images.
        seed: Seed of the split of the new images.

    Example:
        >>> import numpy as np
        >>> groups = np.array([0, 0, 1, 2, 3, 4])
        >>> before = ["train", "test", "val", None, None, None]
        >>> parts_after(["ant"] * 6, groups, before, 0)[:3]
        ['test', 'test', 'val']
    """
    of_group: dict[int, list[SplitName]] = {}
    for group, part in zip(groups.tolist(), before, strict=True):
        if part is not None:
            of_group.setdefault(group, []).append(part)
    parts: list[SplitName | None] = [
        _strongest(of_group[group]) if group in of_group else None for group in groups.tolist()
    ]
    new = [row for row, part in enumerate(parts) if part is None]
    if not new:
        return parts
    of_new = [labels[row] for row in new]
    split = make_split(of_new, groups[new], given=[None] * len(new), seed=seed)
    for row, name in zip(new, split.names(), strict=True):
        parts[row] = name
    return parts


def _strongest(parts: Sequence[SplitName]) -> SplitName:
    return min(parts, key=_STRONGEST.index)
