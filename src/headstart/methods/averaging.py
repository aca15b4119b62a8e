"""Averaging: which weights are kept from a path of many."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from headstart.methods.method import Method, Range, family

T = TypeVar("T")


class AveragingMethod(Method):
    """A way of averaging: a running mean over the steps, or a mean of chosen epochs.

    Attributes:
        chooses_by_validation: Whether `cook` chooses among the epochs by held-out images.
        needs_fresh_statistics: Whether BatchNorm statistics of the mean are taken anew, as they
            were not averaged step by step with the weights.
    """

    chooses_by_validation: ClassVar[bool] = False
    needs_fresh_statistics: ClassVar[bool] = False

    @property
    def begins_at(self) -> float:
        """Share of the schedule, in [0, 1), before the mean begins."""
        return 0.0

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old mean that step `step` (from 0) keeps; 0: there is none."""
        return 0.0

    def cook(
        self,
        losses: Sequence[float],
        mean: Callable[[Sequence[int]], T],
        loss: Callable[[T], float],
    ) -> tuple[T, list[int]] | None:
        """Returns a mean of chosen epochs and their numbers; None to keep the running mean."""
        return None


class NoAveraging(AveragingMethod):
    """The weights of the last step."""

    advice: ClassVar[str] = "Enough where the schedule ends near zero."
    absent: ClassVar[bool] = True
    name: Literal["none"] = "none"


class EMA(AveragingMethod):
    """An exponential moving average of the weights (Polyak & Juditsky 1992).

    Over a short schedule the average must forget its start: the decay never exceeds
    (1 + t) / (10 + t), and its half-life is a share of all steps.
    """

    advice: ClassVar[str] = "The default: free, and steadier than any single step."
    name: Literal["ema"] = "ema"
    half_life: Annotated[
        float,
        Field(gt=0, le=1, description="as a share of all steps"),
        Range(0.03, 0.3, log=True),
    ] = 0.1

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps."""
        longest: float = 0.5 ** (1 / max(1.0, self.half_life * total_steps))
        return min(longest, (1 + step) / (10 + step))


class SWA(AveragingMethod):
    """The plain mean of the weights over the end of the path (Izmailov et al., UAI 2018).

    Where BatchNorm statistics are trained they are taken anew from the training images.
    """

    advice: ClassVar[str] = "Pairs with a constant or restarting schedule; else EMA does the same."
    needs_fresh_statistics: ClassVar[bool] = True
    name: Literal["swa"] = "swa"
    start: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the schedule before the mean begins"),
        Range(0.5, 0.9),
    ] = 0.75

    @property
    def begins_at(self) -> float:
        """Share of the schedule, in [0, 1), before the mean begins."""
        return self.start

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0 at `start`) keeps."""
        return step / (step + 1)


class GreedySoup(AveragingMethod):
    """The mean of those epochs whose addition helps on validation (Wortsman et al., ICML 2022)."""

    advice: ClassVar[str] = "Chooses on validation, so it wants a validation set of some size."
    chooses_by_validation: ClassVar[bool] = True
    # The winner of a search is trained without held-out images.
    shares_trials: ClassVar[bool] = False
    needs_fresh_statistics: ClassVar[bool] = True
    name: Literal["soup"] = "soup"

    def cook(
        self,
        losses: Sequence[float],
        mean: Callable[[Sequence[int]], T],
        loss: Callable[[T], float],
    ) -> tuple[T, list[int]]:
        """Adds ingredients, best first, and keeps each that does not raise the loss.

        Args:
            losses: Of every ingredient alone.
            mean: Mixes the ingredients of these numbers.
            loss: Of a mixture.

        Returns:
            The soup and the numbers of its ingredients.
        """
        order = sorted(range(len(losses)), key=losses.__getitem__)
        chosen, soup, least = [order[0]], mean(order[:1]), losses[order[0]]
        for number in order[1:]:
            candidate = mean([*chosen, number])
            found = loss(candidate)
            if found <= least:
                chosen, soup, least = [*chosen, number], candidate, found
        return soup, chosen


AveragingUnion = NoAveraging | EMA | SWA | GreedySoup
Averaging = family(AveragingUnion)
