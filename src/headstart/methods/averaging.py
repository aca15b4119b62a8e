"""Averaging: which weights are kept from a path of many."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from headstart.methods.method import Method, Range, family

T = TypeVar("T")


class NoAveraging(Method):
    """The weights of the last step."""

    advice: ClassVar[str] = "Enough where the schedule ends near zero."
    name: Literal["none"] = "none"

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps."""
        return 0.0


class EMA(Method):
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


class SWA(Method):
    """The plain mean of the weights over the end of the path (Izmailov et al., UAI 2018).

    Where BatchNorm statistics are trained they are taken anew from the training images.
    """

    advice: ClassVar[str] = "Pairs with a constant or restarting schedule; else EMA does the same."
    name: Literal["swa"] = "swa"
    start: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the schedule before the mean begins"),
        Range(0.5, 0.9),
    ] = 0.75

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0 at `start`) keeps."""
        return step / (step + 1)


class GreedySoup(Method):
    """The mean of those epochs whose addition helps on validation (Wortsman et al., ICML 2022)."""

    advice: ClassVar[str] = "Chooses on validation, so it wants a validation set of some size."
    name: Literal["soup"] = "soup"

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps: none."""
        return 0.0

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
