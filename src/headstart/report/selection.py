"""The choice of images for the report; a run keeps pictures of them when it ends."""

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
    """A class whose images are predicted as another class.

    Attributes:
        label: The label of the images.
        prediction: The class that is predicted instead.
        count: Number of such images.
        surest: The most confident mistakes among them.
    """

    label: str
    prediction: str
    count: int
    surest: tuple[TestPrediction, ...]


def surest_mistakes(predictions: Sequence[TestPrediction]) -> list[TestPrediction]:
    """Returns the wrong predictions, the most confident first, at most `MISTAKES_SHOWN`."""
    wrong = [p for p in predictions if p.prediction != p.label]
    return sorted(wrong, key=lambda p: (-p.probability, p.path))[:MISTAKES_SHOWN]


def most_mixed_up(predictions: Sequence[TestPrediction]) -> list[MixedUp]:
    """Returns the most frequently confused pairs of classes with their most confident mistakes."""
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
    """Returns every wrong prediction that the report shows, each once."""
    shown = [*surest_mistakes(predictions)]
    for pair in most_mixed_up(predictions):
        shown += pair.surest
    return list({each.path: each for each in shown}.values())
