"""What became of an earlier run that was continued, on the same test images."""

from pydantic import BaseModel, ConfigDict, Field

from headstart.inputs.quantities import Count, Difference, Share
from headstart.text import counted, percent

REAL = 0.05
"""p-value up to which a difference is called significant."""


class PrecisionChange(BaseModel):
    """The mean average precision of two classifiers on the same images.

    Attributes:
        labels: Number of labels that both know and that some of the images have.
        before: That of the earlier one over these labels.
        now: That of the present one.
        difference: That now minus that before.
        interval: 95% interval of the difference, by paired resamples of groups of images.

    Example:
        >>> found = PrecisionChange(
        ...     labels=3, before=0.8, now=0.9, difference=0.1, interval=(0.02, 0.2)
        ... )
        >>> found.described
        'mean average precision 90.0%, before 80.0%: 10.0 points more (95% interval 2.0 to 20.0)'
    """

    model_config = ConfigDict(frozen=True)

    labels: Count
    before: Share
    now: Share
    difference: Difference
    interval: tuple[Difference, Difference]

    @property
    def described(self) -> str:
        """The comparison in words."""
        change, low, high = _changed(self.difference, self.interval)
        chance = ", which may be chance" if low <= 0 <= high else ""
        return (
            f"mean average precision {percent(self.now)}, before {percent(self.before)}: {change} "
            f"(95% interval {low:z.1f} to {high:z.1f}{chance})"
        )


class Retested(BaseModel):
    """An earlier classifier and the one that continues it, on the same images.

    Of several labels an image, a classifier is right if the image gets exactly its labels.

    Attributes:
        images: Number of images.
        right_before: Number that the earlier one classifies correctly.
        right_now: Number that the present one classifies correctly.
        only_before: Number that only the earlier one classifies correctly.
        only_now: Number that only the present one classifies correctly.
        difference: Accuracy now minus that before.
        interval: 95% interval of the difference (Tango 1998), with groups counted together.
        p_value: Probability of such a difference by chance: exact McNemar; a group counts once.
        mean_average_precision: The same of several labels an image; else None.

    Example:
        >>> both = {"images": 40, "right_before": 30, "right_now": 38, "only_before": 0}
        >>> found = Retested(
        ...     **both, only_now=8, difference=0.2, interval=(0.1, 0.35), p_value=0.0078
        ... )
        >>> found.described
        '95.0% of 40 images, before 75.0%: 20.0 points more (95% interval 10.0 to 35.0; p = 0.008)'
    """

    model_config = ConfigDict(frozen=True)

    images: Count
    right_before: Count
    right_now: Count
    only_before: Count
    only_now: Count
    difference: Difference
    interval: tuple[Difference, Difference]
    p_value: Share
    mean_average_precision: PrecisionChange | None = Field(
        None, exclude_if=lambda change: change is None
    )

    @property
    def described(self) -> str:
        """The comparison in words."""
        now, before = self.right_now / self.images, self.right_before / self.images
        change, low, high = _changed(self.difference, self.interval)
        p = f"{self.p_value:.2f}" if self.p_value >= 0.01 else f"{self.p_value:.1g}"
        chance = "" if self.p_value <= REAL else ", which may be chance"
        images = counted(self.images, "image")
        of_labels = self.mean_average_precision
        first = "" if of_labels is None else f"{of_labels.described}; exactly their labels: "
        return (
            f"{first}{percent(now)} of {images}, before {percent(before)}: {change} "
            f"(95% interval {low:z.1f} to {high:z.1f}; p = {p}{chance})"
        )


def _changed(difference: float, interval: tuple[float, float]) -> tuple[str, float, float]:
    """Returns a difference in words, and its interval in points that way."""
    low, high = (100 * end for end in interval)
    points = 100 * difference
    if points < 0:
        low, high = -high, -low
    if points == 0:
        return "no difference", low, high
    return f"{abs(points):.1f} points {'more' if points > 0 else 'less'}", low, high


class Continued(BaseModel):
    """What an earlier run was continued to.

    Attributes:
        run: Name of its folder.
        sealed: Number of its sealed test images.
        found: Number of those that are among the images of this run; they are its test images, too.
        relabelled: Number of those with another label now.
        gained: On all test images that the earlier run was not trained on.
        forgotten: On those of its own sealed test; None if there are none.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    sealed: Count
    found: Count
    relabelled: Count
    gained: Retested | None = None
    forgotten: Retested | None = None

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What to tell of it, as (term, text)."""
        kept = f"{self.found:,} of its {counted(self.sealed, 'sealed test image')} are here"
        if self.relabelled:
            kept += f", {self.relabelled:,} of them with another label"
        absent = "not measured: none of the images is here"
        gained = "not measured: the earlier run was trained on all of them"
        return [
            ("Continues", f"{self.run}; {kept}"),
            ("Gained on the test", self.gained.described if self.gained else gained),
            ("On its old test", self.forgotten.described if self.forgotten else absent),
        ]
