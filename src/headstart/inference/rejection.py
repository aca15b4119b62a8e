"""Predictions that are withheld: an image that is unlike all training images is `unknown`."""

from collections.abc import Iterable, Iterator

from headstart.errors import InputError
from headstart.inference.bundle import Bundle
from headstart.inference.predict import Prediction

UNKNOWN = "unknown"


def check_rejection(bundle: Bundle) -> None:
    """Checks, before any work, that a classifier can reject images.

    Raises:
        InputError: If it cannot.
    """
    known = bundle.spec.distribution
    limit = bundle.spec.background or known
    if known is None or limit is None or limit.threshold >= 2:
        raise InputError(
            "This classifier cannot reject images: its bundle has no distance that was calibrated "
            "on enough images. Fit it again with more images, or leave --reject out."
        )
    if UNKNOWN in bundle.spec.classes:
        raise InputError(
            f"--reject answers {UNKNOWN!r}, which is a class of this classifier. Leave it out: the "
            "column out_of_distribution says the same."
        )


def rejecting(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Yields predictions, those of images out of distribution with the label `unknown`.

    The probabilities of the classes stay: they say what it would be if it were one of these.

    Example:
        >>> outside = Prediction(image="a.jpg", label="rose", out_of_distribution=True)
        >>> [each.label for each in rejecting([outside])]
        ['unknown']
    """
    for each in predictions:
        if each.out_of_distribution:
            of_none = {"label": UNKNOWN, "probability": 0.0, "classes": (), "coverage": None}
            if each.labels is not None:
                of_none["labels"] = ()
            yield each.model_copy(update=of_none)
        else:
            yield each
