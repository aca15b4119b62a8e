"""Names of classes that are nearly the same."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from itertools import combinations


def similar_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the pairs of class names that look like one name in two spellings.

    They differ only in case, separators or a plural's "s", or in about one letter of one long
    word; digits and first letters must agree, so that models and years stay apart.
    """
    words = {name: _words(name) for name in sorted(set(names))}
    return [
        (first, second)
        for first, second in combinations(words, 2)
        if "".join(words[first]) == "".join(words[second])
        or _differ_by_a_letter(words[first], words[second])
    ]


def _words(name: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", name).casefold()
    words = re.findall(r"[^\W_]+", folded)
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words]


def _differ_by_a_letter(first: list[str], second: list[str]) -> bool:
    different = [(a, b) for a, b in zip(first, second, strict=False) if a != b]
    if len(first) != len(second) or len(different) != 1:
        return False
    one, other = different[0]
    return (
        min(len(one), len(other)) >= 6
        and one[0] == other[0]
        and re.findall(r"\d", one) == re.findall(r"\d", other)
        and difflib.SequenceMatcher(None, one, other).ratio() >= 0.85
    )
