"""Which images the report shows: what is chosen here is kept as pictures when a run ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.artifacts.run import TestPrediction

MISTAKES_SHOWN = 24
SUSPECTS_SHOWN = 24
PAIRS_SHOWN = 5
IN_A_PAIR = 4
NEIGHBOURS_SHOWN = 3


@dataclass(frozen=True)
class MixedUp:
    """Two classes of which one is taken for the other.

    Attributes:
        label: What the images are.
        prediction: What they are taken for.
        count: How many are.
        surest: The surest of them.
    """

    label: str
    prediction: str
    count: int
    surest: tuple[TestPrediction, ...]


def surest_mistakes(predictions: Sequence[TestPrediction]) -> list[TestPrediction]:
    """Returns the wrong answers, the surest first."""
    wrong = [p for p in predictions if p.prediction != p.label]
    return sorted(wrong, key=lambda p: (-p.probability, p.path))[:MISTAKES_SHOWN]


def most_mixed_up(predictions: Sequence[TestPrediction]) -> list[MixedUp]:
    """Returns the pairs of classes that are mixed up most, with the surest of their mistakes."""
    wrong = [p for p in predictions if p.prediction != p.label]
    counts = Counter((p.label, p.prediction) for p in wrong)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:PAIRS_SHOWN]
    found = []
    for (label, prediction), count in ordered:
        these = [p for p in wrong if (p.label, p.prediction) == (label, prediction)]
        surest = sorted(these, key=lambda p: (-p.probability, p.path))[:IN_A_PAIR]
        found.append(MixedUp(label, prediction, count, tuple(surest)))
    return found


def shown_mistakes(predictions: Sequence[TestPrediction]) -> list[TestPrediction]:
    """Returns every wrong answer that the report shows somewhere, each once."""
    shown = [*surest_mistakes(predictions)]
    for pair in most_mixed_up(predictions):
        shown += pair.surest
    return list({each.path: each for each in shown}.values())
