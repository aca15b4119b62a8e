"""What `diff` says of two classifiers that give an image any number of labels."""

import json
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.records import TestPrediction
from headstart.artifacts.set_results import SetPrediction
from headstart.evaluation.intervals import joined
from headstart.evaluation.label_paired import mean_precision_difference
from headstart.evaluation.label_scores import mean_average_precision
from headstart.evaluation.statistics import Interval
from headstart.text import counted, percent


class PrecisionComparison(BaseModel):
    """The mean average precision of two classifiers on the test images that both label alike.

    Attributes:
        labels: Number of labels that both know and that a shared image has.
        a: Mean average precision of A over these labels.
        b: Mean average precision of B.
        difference: That of B minus that of A.
        interval: 95% interval of the difference, by paired resamples of groups of images.
    """

    model_config = ConfigDict(frozen=True)

    labels: int
    a: float
    b: float
    difference: float
    interval: Interval

    @property
    def verdict(self) -> str:
        """The result in words."""
        low, high = (100 * end for end in self.interval)
        return (
            f"Mean average precision over {counted(self.labels, 'label')} that both know: "
            f"{percent(self.a)} of A and {percent(self.b)} of B (95% interval of B minus A "
            f"{low:z.1f} to {high:z.1f} percentage points)."
        )


def precision_comparison(
    sides: tuple[Sequence[SetPrediction], Sequence[SetPrediction]],
    classes: tuple[Sequence[str], Sequence[str]],
) -> PrecisionComparison:
    """Compares the mean average precision of two runs.

    Args:
        sides: Test predictions of both runs.
        classes: Labels of both, in the order of their probabilities.
    """
    by_path = {each.path: each for each in sides[0]}
    shared = [(by_path[each.path], each) for each in sides[1] if each.path in by_path]
    pairs = [(one, other) for one, other in shared if set(one.labels) == set(other.labels)]
    both = [name for name in classes[0] if name in classes[1]]
    marks = np.array([[name in one.labels for name in both] for one, _ in pairs], np.int64)
    scores = [
        np.array([pair[side].probabilities for pair in pairs])[:, [known.index(n) for n in both]]
        for side, known in enumerate(classes)
    ]
    ours, theirs = (np.array([pair[side].group for pair in pairs], np.int64) for side in (0, 1))
    groups = joined(ours, theirs, len(pairs))
    difference, interval = mean_precision_difference(scores[1], scores[0], marks, groups)
    return PrecisionComparison(
        labels=int(marks.any(0).sum()),
        a=mean_average_precision(scores[0], marks),
        b=mean_average_precision(scores[1], marks),
        difference=difference,
        interval=interval,
    )


def as_names(predictions: Sequence[SetPrediction]) -> list[TestPrediction]:
    """Returns sets of labels as one name each, which is right if it is that of the same set."""
    return [
        TestPrediction(
            path=each.path,
            label=json.dumps(sorted(each.labels)),
            prediction=json.dumps(sorted(each.given)),
            probability=0,
            probability_of_label=0,
            group=each.group,
        )
        for each in predictions
    ]
