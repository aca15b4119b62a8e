"""Names of classes that are nearly the same."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from itertools import combinations

SHORTEST = 6
"""Letters of the shortest word in which one may differ."""
TWO_FROM = 13
"""Letters from which a word may differ by two in each name."""


def similar_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the pairs of class names that look like one name in two spellings.

    They differ only in case, separators or a plural's "s", or in about one letter of one long
    word; digits and first letters must agree, so that models and years stay apart.
    """
    words = {name: _words(name) for name in sorted(set(names))}
    spelled: dict[str, list[str]] = {}
    near: dict[tuple[object, ...], list[str]] = {}
    for name, parts in words.items():
        spelled.setdefault("".join(parts), []).append(name)
        for key in _nearby(parts):
            near.setdefault(key, []).append(name)
    found = {pair for same in spelled.values() for pair in combinations(same, 2)}
    candidates = {pair for close in near.values() for pair in combinations(close, 2)} - found
    found |= {pair for pair in candidates if _differ_by_a_letter(*(words[each] for each in pair))}
    return sorted(found)


def _nearby(words: list[str]) -> set[tuple[object, ...]]:
    """Returns keys of a name; two names that differ by a letter have one in common.

    A key is the name with letters of one long word left out (Garbe's symmetric deletion), so the
    time grows with the number of names and not with that of their pairs. One letter may be left out
    of each word, and two of a long one.
    """
    keys: set[tuple[object, ...]] = set()
    for place, word in enumerate(words):
        if len(word) < SHORTEST:
            continue
        digits = "".join(re.findall(r"\d", word))
        rest = (place, tuple(words[:place]), tuple(words[place + 1 :]), digits)
        shorter = {word, *_without_a_letter(word)}
        if len(word) >= TWO_FROM:
            shorter |= {each for one in shorter for each in _without_a_letter(one)}
        keys |= {(*rest, each) for each in shorter}
    return keys


def _without_a_letter(word: str) -> set[str]:
    return {word[:place] + word[place + 1 :] for place in range(1, len(word))}


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
        min(len(one), len(other)) >= SHORTEST
        and one[0] == other[0]
        and re.findall(r"\d", one) == re.findall(r"\d", other)
        and difflib.SequenceMatcher(None, one, other).ratio() >= 0.85
    )
