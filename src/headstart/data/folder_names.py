"""What the name of a folder says: a group, images without labels, a folder that only wraps."""

import re

from headstart.data.split_names import SPLIT_ALIASES, name_words, split_of

UNLABELLED = frozenset({"unlabeled", "unlabelled"})
"""Lower-case names of folders whose images have no label, wherever they lie."""

_UNLABELLED_IN_SPLITS = UNLABELLED | {"unsup", "unsupervised", "pred", "predict"}

_MASKS = frozenset(
    {"mask", "masks", "label", "labels", "gt", "groundtruth", "annotation", "annotations"}
    | {"segmentation", "segmentations", "seg"}
)

_WRAPPERS = frozenset({"images", "imgs", "image", "data", "dataset"})

_DUMMIES = frozenset({"unknown", "dummy", "all", "all_classes", "none"}) | _WRAPPERS

_GROUP_NAME = re.compile(
    r"(patient|patientid|subject|subj|sub|person|participant|donor|animal|mouse|rat|slide|site|"
    r"hospital|center|centre|scanner|session|day|week|visit|video|clip|sequence|seq|batch|plate|"
    r"well|field|farm|plot|plant|camera|cam|location|loc|sample|specimen|user|client)"
    r"([ _.-]?\d+\w*|[ _.-][a-z])|[ps][ _.-]?\d+",
    re.IGNORECASE,
)


def is_split_word(name: str) -> bool:
    """Whether a name is one that a split goes by, without other words."""
    return name.lower() in SPLIT_ALIASES


def is_unlabelled(name: str) -> bool:
    """Whether a name, beside a training folder, says that its images have no labels."""
    return not _UNLABELLED_IN_SPLITS.isdisjoint(name_words(name))


def is_wrapper(name: str) -> bool:
    """Whether a name stands for nothing but the images in the folder."""
    return name.lower() in _WRAPPERS


def is_mask(name: str) -> bool:
    """Whether a name is that of a folder of masks or annotations of images.

    Example:
        >>> is_mask("Masks"), is_mask("ground_truth"), is_mask("mugs")
        (True, True, False)
    """
    return re.sub("[ _-]", "", name.lower()) in _MASKS


def repeats(inner: str, outer: str) -> bool:
    """Whether a folder in another only wraps the same, as in `seg_train/seg_train`."""
    same_split = split_of(inner) is not None and split_of(inner) == split_of(outer)
    wraps = split_of(outer) is not None and inner.lower() in _WRAPPERS
    return inner.lower() == outer.lower() or same_split or wraps


def is_dummy(inner: str, outer: str) -> bool:
    """Whether a folder in a split, such as `test/unknown`, stands for no class."""
    return inner.lower() in _DUMMIES or is_unlabelled(inner) or repeats(inner, outer)


def is_group(name: str) -> bool:
    """Whether a folder's name is that of one of many patients, days, places or the like.

    Example:
        >>> is_group("patient_12"), is_group("Site B"), is_group("poodle")
        (True, True, False)
    """
    return _GROUP_NAME.fullmatch(name) is not None
