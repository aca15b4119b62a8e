"""What the service answers, as typed models: its OpenAPI description is made from them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from headstart.artifacts.evidence import Neighbour
from headstart.inference.predict import Prediction

_CONFIG = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Problem(BaseModel):
    """Why a request was refused."""

    model_config = _CONFIG

    detail: str
    """What is wrong, and what to do."""


class Health(BaseModel):
    """The state of the service."""

    model_config = _CONFIG

    status: Literal["ok"] = "ok"
    """Whether it answers."""


class RequestLimits(BaseModel):
    """What a request may hold."""

    model_config = _CONFIG

    images: int
    """Most images in a request."""
    bytes: int
    """Most bytes in a request."""
    pixels: int
    """Most pixels in an image."""
    seconds: float
    """Time for a request to arrive, and again to be answered."""


class SealedResult(BaseModel):
    """The result of the sealed test."""

    model_config = _CONFIG

    accuracy: float
    """Share of the test images that were classified correctly."""
    accuracy_interval: tuple[float, float]
    """95% interval of the accuracy."""
    images: int
    """Number of test images."""


class SealedSetResult(BaseModel):
    """The result of the sealed test of a classifier that gives an image any number of labels."""

    model_config = _CONFIG

    mean_average_precision: float
    """Mean of the average precisions of the labels."""
    mean_average_precision_interval: tuple[float, float]
    """95% interval of the mean average precision."""
    micro_f1: float
    """F1 of all decisions together."""
    micro_f1_interval: tuple[float, float]
    """95% interval of the micro F1."""
    images: int
    """Number of test images."""


class ModelFacts(BaseModel):
    """The classifier that is served."""

    model_config = _CONFIG

    name: str
    """Name of the data set that it was trained with."""
    classes: tuple[str, ...]
    """Names of the classes, or of the labels, in the order of the network's outputs."""
    thresholds: dict[str, float] | None = Field(None, exclude_if=lambda known: known is None)
    """Probability from which an image gets each label; only there where it may get any number."""
    backbone: str
    """Network that it was trained from."""
    licence: str
    """Licence of the pretrained weights."""
    resolution: int
    """Side of the square that the network sees, in pixels."""
    embedding: int
    """Length of the embeddings."""
    coverages: tuple[float, ...]
    """Coverages for which there are prediction sets."""
    knows_distance: bool
    """Whether it tells images that are unlike the training images."""
    shows_training_images: bool
    """Whether explanations name the most similar training images."""
    test: SealedResult | SealedSetResult | None
    """Result of the sealed test; null if only the bundle is served."""
    sha256: str
    """Hash of the description of the classifier, by which two can be told apart."""
    version: str
    """Version of headstart."""
    limits: RequestLimits
    """What a request may hold."""


class Predictions(BaseModel):
    """The predictions for the images of a request."""

    model_config = _CONFIG

    predictions: list[Prediction]
    """One for each image, in their order. Those of unreadable images have an error."""


class LabelDecision(BaseModel):
    """Whether an image gets a label."""

    model_config = _CONFIG

    label: str
    """Name of the label."""
    probability: float
    """Calibrated probability that the image has it."""
    threshold: float
    """Probability from which an image gets it."""
    given: bool
    """Whether the image gets it."""


class ImageLabels(BaseModel):
    """The labels of an image, which may have any number."""

    model_config = _CONFIG

    image: str
    """Name of the image."""
    labels: tuple[str, ...]
    """Labels that it gets, most probable first; empty if it gets none, or could not be read."""
    decisions: tuple[LabelDecision, ...]
    """The decision for every label, most probable first; empty if it could not be read."""
    error: str
    """Why the image could not be read; empty if it could."""
    distance: float | None
    """Cosine distance to the training images; null if the bundle does not know it."""
    limit: float | None
    """Distance above which an image is out of distribution."""
    out_of_distribution: bool
    """Whether the distance exceeds the limit; the labels are unreliable then."""
    depth: str
    """Type of the values in the image, such as `uint16`; empty if it could not be read."""
    other_depth: bool
    """Whether no training image had values of this type."""
    warning: str
    """What speaks against the labels, in words; empty if nothing does."""


class LabelPredictions(BaseModel):
    """The labels of the images of a request."""

    model_config = _CONFIG

    predictions: list[ImageLabels]
    """One for each image, in their order. Those of unreadable images have an error."""


class Similar(Neighbour):
    """A training image that is similar to the image."""

    picture: str = Field("", description="A small JPEG as a data URL; empty if the run keeps none.")


class Heat(BaseModel):
    """Where the network looked: what the log-odds of the class lose where a part is hidden."""

    model_config = _CONFIG

    label: str
    """The class that is explained."""
    values: Annotated[list[list[float]], Field(min_length=1)]
    """Loss of log-odds for each cell of a square grid, row by row from the top left."""
    view: str
    """What the network saw, as a PNG in a data URL."""


class Explanation(BaseModel):
    """A prediction, where the network looked, and the most similar training images."""

    model_config = _CONFIG

    prediction: Prediction
    """The prediction for the image."""
    heat: Heat
    """Where the network looked."""
    similar: list[Similar]
    """The most similar training images, most similar first; empty if there are none to show."""


class LabelHeat(BaseModel):
    """What the log-odds of a label lose where a part is hidden."""

    model_config = _CONFIG

    label: str
    """The label that is explained."""
    values: Annotated[list[list[float]], Field(min_length=1)]
    """Loss of log-odds for each cell of a square grid, row by row from the top left."""


class LabelExplanation(BaseModel):
    """The labels of an image, where the network looked, and the most similar training images."""

    model_config = _CONFIG

    prediction: ImageLabels
    """The labels of the image."""
    heats: Annotated[list[LabelHeat], Field(min_length=1)]
    """Where the network looked for each label that the image gets, or for the most probable one."""
    view: str
    """What the network saw, as a PNG in a data URL."""
    similar: list[Similar]
    """The most similar training images, most similar first; empty if there are none to show."""
