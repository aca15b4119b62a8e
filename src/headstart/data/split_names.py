"""Names that folders and columns use for the parts of a split."""

import re

from headstart.data.types import SplitName

SPLIT_ALIASES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "evaluation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "heldout": "test",
}
"""Lower-case names that a split goes by."""


def split_of(name: str) -> SplitName | None:
    """Returns the split that a folder's name says, alone or among other words.

    Example:
        >>> split_of("seg_train"), split_of("TestSet"), split_of("val2017"), split_of("contest")
        ('train', 'test', 'val', None)
    """
    words = [*name_words(name), name.lower().replace("-", "").replace("_", "")]
    found = {SPLIT_ALIASES[word] for word in words if word in SPLIT_ALIASES}
    if found == {"train", "val"} or "trainval" in words:
        return "train"
    return found.pop() if len(found) == 1 else None


def name_words(name: str) -> list[str]:
    """Returns the words of a folder name in lower case, without endings such as `set`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return [re.sub(r"(?<=.)(set|data|images?)$", "", word.lower()) or word for word in words]
