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


class ModelFacts(BaseModel):
    """The classifier that is served."""

    model_config = _CONFIG

    name: str
    """Name of the data set that it was trained with."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the network's outputs."""
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
    test: SealedResult | None
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
