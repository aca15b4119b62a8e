"""How many usable images each class has, and which classes can be learned from them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from headstart.data.types import Dataset

MIN_PER_CLASS = 3
"""Smallest class that train, val and test can share; smaller ones are left out."""
FEW_PER_CLASS = 10
IMBALANCE = 10


def class_counts(dataset: Dataset, left: Sequence[int]) -> dict[str, int]:
    """Returns the number of usable images of each class, also of those that have none.

    Args:
        dataset: The images.
        left: Indices of the usable ones.
    """
    names = [name for index in left for name in dataset.items[index].names]
    return dict.fromkeys(dataset.classes, 0) | dict(sorted(Counter(names).items()))


def learned_classes(dataset: Dataset, left: Sequence[int]) -> dict[str, int]:
    """Returns the number of usable images of each class, or of each label that can be learned."""
    counts = class_counts(dataset, left)
    if not dataset.multilabel:
        return {name: count for name, count in counts.items() if count}
    return {name: count for name, count in counts.items() if _can_be_learned(count, len(left))}


def _can_be_learned(count: int, images: int) -> bool:
    """Whether enough images have a label, and enough do not."""
    return MIN_PER_CLASS <= count <= images - MIN_PER_CLASS


def label_messages(dataset: Dataset, left: Sequence[int]) -> Iterator[str]:
    """Yields what is said of labels that are left out, or rare. Their images stay."""
    for name, count in class_counts(dataset, left).items():
        if not _can_be_learned(count, len(left)):
            which = "all" if count == len(left) else f"{count:,} of {len(left):,}"
            yield (
                f"Label {name!r} is on {which} usable images and is left out: at least "
                f"{MIN_PER_CLASS} with it and {MIN_PER_CLASS} without it are needed. These images "
                "are used for the other labels."
            )
        elif count < FEW_PER_CLASS:
            yield f"Label {name!r} has only {count} usable images. Expect wide intervals."


def too_few_classes(dataset: Dataset, left: Sequence[int]) -> str:
    """Returns the problem if fewer than two classes are usable; empty if there is none."""
    counts = class_counts(dataset, left)
    if dataset.multilabel:
        large = list(learned_classes(dataset, left))
        what, needed = "labels", "without it as well"
    else:
        large = [label for label, count in counts.items() if count >= MIN_PER_CLASS]
        what, needed = "classes", ""
    if len(large) > 1:
        return ""
    shown = ", ".join(f"{label!r} {count}" for label, count in list(counts.items())[:10])
    also = f" (and {MIN_PER_CLASS} {needed})" if needed else ""
    return (
        f"At least two {what} with {MIN_PER_CLASS} usable images each{also} are needed, but "
        f"{dataset.root} has {len(large)} (usable images: {shown}). Add images or {what}."
    )


def imbalance(dataset: Dataset, left: Sequence[int]) -> str:
    """Returns what is said where one class is much larger than another; else nothing."""
    counts = learned_classes(dataset, left)
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] <= IMBALANCE * counts[smallest]:
        return ""
    kind, see = ("Label", "macro F1") if dataset.multilabel else ("Class", "balanced accuracy")
    return (
        f"{kind} {largest!r} has {counts[largest] / counts[smallest]:.0f} times as many images "
        f"as {smallest!r} ({counts[largest]} and {counts[smallest]}). See {see}."
    )
