"""Averaging: which weights are kept from those that training passes through."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from headstart.methods.method import Method, Range, family

T = TypeVar("T")


class AveragingMethod(Method):
    """Base of the averagings: a running mean over the steps, or a mean of chosen epochs.

    Attributes:
        chooses_by_validation: Whether `cook` chooses epochs by their loss on held-out images.
        needs_fresh_statistics: Whether BatchNorm statistics are recomputed for the mean, because
            they are not averaged along with the weights.
    """

    chooses_by_validation: ClassVar[bool] = False
    needs_fresh_statistics: ClassVar[bool] = False

    @property
    def begins_at(self) -> float:
        """Share of the schedule, in [0, 1), before the mean begins."""
        return 0.0

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps; 0: no average."""
        return 0.0

    def cook(
        self,
        losses: Sequence[float],
        mean: Callable[[Sequence[int]], T],
        loss: Callable[[T], float],
    ) -> tuple[T, list[int]] | None:
        """Returns the mean of chosen epochs and their indices; None to keep the running mean."""
        return None


class NoAveraging(AveragingMethod):
    """The weights of the last step."""

    advice: ClassVar[str] = "Sufficient if the learning rate ends near zero."
    absent: ClassVar[bool] = True
    name: Literal["none"] = "none"


class EMA(AveragingMethod):
    """An exponential moving average of the weights (Polyak & Juditsky 1992).

    Even on a short schedule the average must forget the initial weights: the decay at step t is
    at most (1 + t) / (10 + t), and the half-life is a share of all steps.
    """

    advice: ClassVar[str] = "The default: free, and steadier than any single step."
    name: Literal["ema"] = "ema"
    half_life: Annotated[
        float,
        Field(gt=0, le=1, description="half-life as a share of all steps"),
        Range(0.03, 0.3, log=True),
    ] = 0.1

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps.

        Example:
            >>> EMA().decay(0, 100), round(EMA().decay(90, 100), 3)
            (0.1, 0.91)
        """
        longest: float = 0.5 ** (1 / max(1.0, self.half_life * total_steps))
        return min(longest, (1 + step) / (10 + step))


class SWA(AveragingMethod):
    """The plain mean of the weights over the end of training (Izmailov et al., UAI 2018).

    Trained BatchNorm statistics are recomputed on the training images.
    """

    advice: ClassVar[str] = "For constant or restarting schedules; otherwise EMA is as good."
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
    """The mean of the epochs that help on the validation set (Wortsman et al., ICML 2022)."""

    advice: ClassVar[str] = "Chooses by validation loss, so it needs a fairly large validation set."
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
        """Adds ingredients, best first, and keeps each one that does not raise the loss.

        Args:
            losses: Loss of each ingredient alone.
            mean: Returns the mean of the ingredients with the given indices.
            loss: Returns the loss of a mean.

        Returns:
            The soup and the indices of its ingredients.

        Example:
            >>> weights = [1.0, 3.0, 9.0]
            >>> def mean(chosen):
            ...     return sum(weights[i] for i in chosen) / len(chosen)
            >>> GreedySoup().cook([1.0, 1.0, 7.0], mean, lambda weight: abs(weight - 2))
            (2.0, [0, 1])
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
