"""What unlabelled images did for a run, for its record and its report."""

from pydantic import BaseModel, ConfigDict

from headstart.inputs.quantities import Count, Finite, PathText, Size
from headstart.text import counted, listed


class UnlabelledUse(BaseModel):
    """The unlabelled images of a run, and whether they helped.

    Attributes:
        folder: Name of their folder.
        images: Number of images in it.
        left_out: Number of images that were left out, by reason.
        used: Number of images that the shipped head learned from; 0 if they did not help.
        gain: Mean fall of the log loss of held-out images in nats; None if it was not measured.
        noise: Standard error of the gain.
        accuracy_gain: Change of the accuracy on the same images, as a share.
        why_not: Why none was used, in words; empty if they were.

    Example:
        >>> kept = {"folder": "pool", "images": 90, "left_out": {"unreadable": 2}, "used": 88}
        >>> UnlabelledUse(**kept, gain=0.12, noise=0.03).outcome[:35]
        '88 of 90 images in pool helped: log'
    """

    model_config = ConfigDict(frozen=True)

    folder: PathText
    images: Count
    left_out: dict[str, Count] = {}
    used: Count = 0
    gain: Finite | None = None
    noise: Size | None = None
    accuracy_gain: Finite | None = None
    why_not: str = ""

    @property
    def outcome(self) -> str:
        """Whether they helped, and by how much, in words."""
        if not self.used:
            return f"{counted(self.images, 'image')} in {self.folder}, not used: {self.why_not}"
        return (
            f"{self.used:,} of {counted(self.images, 'image')} in {self.folder} helped: "
            f"{measured(self.gain or 0.0, self.noise or 0.0, self.accuracy_gain or 0.0)}"
        )

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What happened to them, as (term, text), for the terminal and the report."""
        reasons = [f"{number:,} {reason}" for reason, number in self.left_out.items()]
        left = f"; left out: {listed(reasons)}" if reasons else ""
        return [("Unlabelled images", f"{self.outcome}{left}")]


def measured(gain: float, noise: float, accuracy_gain: float) -> str:
    """Returns what unlabelled images changed on held-out images, in words.

    Example:
        >>> measured(-0.01, 0.02, 0.0)
        'log loss of held-out images higher by 0.010 (standard error 0.020), accuracy the same'
    """
    which = "lower" if gain >= 0 else "higher"
    points = abs(100 * accuracy_gain)
    accuracy = "the same"
    if accuracy_gain:
        accuracy = f"{points:.1f} points {'higher' if accuracy_gain > 0 else 'lower'}"
    return (
        f"log loss of held-out images {which} by {abs(gain):.3f} (standard error {noise:.3f}), "
        f"accuracy {accuracy}"
    )
