"""A page on this machine on which a person gives the chosen images their classes."""

import shlex
from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp

from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.fingerprint import read_fingerprint
from headstart.artifacts.label_file import LabelFile
from headstart.artifacts.originals import originals
from headstart.data.images import load_image
from headstart.data.label_sets import SEPARATORS
from headstart.errors import DataError, InputError, first_line
from headstart.inference.next_labels import NextImage, NextLabels
from headstart.recipes.label_options import LabelNextOptions
from headstart.serving.guard import Gatekeeper
from headstart.serving.metrics import ServiceFigures
from headstart.serving.options import ServeOptions
from headstart.serving.refusals import answer_misuse
from headstart.serving.server import address_of, http_server, listening, run_until_told
from headstart.text import counted
from headstart.webpage.pages import labelling_page

_SIDE = 1024
_CONFIG = ConfigDict(frozen=True, extra="forbid")


class ToLabel(NextImage):
    """A chosen image with the label that it has by now."""

    label: str | None = None


class LabellingTask(BaseModel):
    """What there is to label."""

    model_config = _CONFIG

    run: str
    classes: tuple[str, ...]
    images: tuple[ToLabel, ...]
    labels: str
    command: str
    note: str = ""


class Choice(BaseModel):
    """The class that a person gives an image; None takes it back."""

    model_config = _CONFIG

    rank: int
    label: str | None


def serve_labelling(
    run: Path, found: NextLabels, options: LabelNextOptions, say: Callable[[str], object]
) -> None:
    """Serves the page until the process gets SIGINT or SIGTERM. Only this machine reaches it.

    Args:
        run: Run folder.
        found: The images to label.
        options: The port, the file of labels and the folder of the images of the run.
        say: Prints a line.

    Raises:
        InputError: If the port or the file cannot be used.
    """
    assert options.manifest is not None
    labels = LabelFile(options.manifest)
    note = add_labelled(run, options.data, labels)
    if note:
        say(f"note: {note}")
    address = ServeOptions(port=options.port, max_megabytes=1)
    app = make_labelling_app(run, found, labels, address, note)
    server = http_server(app, address)
    with listening(address) as listener:
        say(f"label the images at http://{address_of(address, listener)}  (Ctrl-C ends it)")
        run_until_told(server, listener)
    say(f"{counted(len(labels), 'label')} in {labels.path}; `{_command(run, labels)}`")


def add_labelled(run: Path, data: Path | None, labels: LabelFile) -> str:
    """Adds the images of a run to a file of labels, and returns what is missing there.

    Args:
        run: Run folder.
        data: Folder of its images; None adds none.
        labels: The file.
    """
    marks, files = read_fingerprint(run) or [], originals(run, data)
    if data is None:
        return (
            f"{labels.path} lists new images alone, and what is trained on it knows no others. "
            "Give --data with the folder of the images of the run, to list both."
        )
    found = {mark: file for mark in marks if (file := files.find(mark.path)) is not None}
    if len(found) > len({mark.path for mark in found}):
        raise InputError(
            "The run was made from boxes, several in one image, and a file of labels gives an "
            "image one label. Leave --data out, and add the new labels to the annotations."
        )
    outside = next((why for file in found.values() if (why := labels.why_not(file))), "")
    if outside:
        raise InputError(outside)
    new = {file: mark.label for mark, file in found.items() if labels.label_of(file) is None}
    if new:
        labels.set(dict(new))
    gone = len(marks) - len(found)
    if not gone:
        return ""
    return (
        f"{gone:,} of {counted(len(marks), 'image')} of the run are not in {data}, or have changed "
        f"since, so {labels.path} does not list them."
    )


def make_labelling_app(
    run: Path, found: NextLabels, labels: LabelFile, options: ServeOptions, note: str = ""
) -> ASGIApp:
    """Returns the page as an ASGI application.

    Args:
        run: Run folder.
        found: The images to label.
        labels: Where the labels go.
        options: Limits and names by which it may be reached.
        note: What the labels lack, for the page.
    """
    spec, (content, policy) = read_spec(run / "bundle"), labelling_page()
    images = {each.rank: Path(each.image) for each in found.images}
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(RequestValidationError, answer_misuse)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    @app.get("/v1/task")
    async def task() -> LabellingTask:
        given = [labels.label_of(image) for image in images.values()]
        added = sorted({label for label in given if label} - set(spec.classes))
        return LabellingTask(
            run=run.resolve().name,
            classes=(*spec.classes, *added),
            images=tuple(
                ToLabel(**each.model_dump(), label=label)
                for each, label in zip(found.images, given, strict=True)
            ),
            labels=str(labels.path),
            command=_command(run, labels),
            note=note,
        )

    @app.get("/v1/images/{rank}")
    def image(rank: int) -> Response:
        """Gives an image as the classifier reads it; in a thread, as decoding takes time."""
        try:
            shown = load_image(_known(images, rank), None, _SIDE, spec.reading)
        except DataError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
        stream = BytesIO()
        shown.save(stream, "JPEG", quality=88)
        return Response(stream.getvalue(), media_type="image/jpeg")

    @app.post("/v1/labels")
    async def label(choice: Choice) -> Choice:
        """Keeps a label; one request after the other, because nothing is awaited."""
        chosen = choice.label
        if chosen is not None and chosen not in spec.classes:  # what these hold, `fit` has read
            chosen = _checked(chosen)
        image = _known(images, choice.rank)
        try:
            labels.set({image: chosen})
        except (InputError, OSError) as error:
            raise HTTPException(
                HTTPStatus.CONFLICT, f"The label is not kept. {first_line(error)}"
            ) from None
        return Choice(rank=choice.rank, label=chosen)

    paths = ("/", "/v1/task", "/v1/images", "/v1/labels")
    return Gatekeeper(app, options, None, ServiceFigures(), paths)


def _known(images: dict[int, Path], rank: int) -> Path:
    """Returns the image of a rank; no other file can be asked for.

    Raises:
        HTTPException: If there is none.
    """
    if rank not in images:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no image {rank}.")
    return images[rank]


def _checked(label: str) -> str:
    """Returns a label that a manifest can hold.

    Raises:
        HTTPException: If it cannot.
    """
    name = label.strip()
    if not name or not name.isprintable() or len(name) > 200:
        raise HTTPException(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "A class needs a name of 1 to 200 characters, none of them a control character.",
        )
    if any(separator in name for separator in SEPARATORS):
        raise HTTPException(
            HTTPStatus.UNPROCESSABLE_ENTITY, "The name of a class holds no ; and no |."
        )
    return name


def _command(run: Path, labels: LabelFile) -> str:
    # A class of the run may hold what stands between several labels elsewhere.
    single = any(separator in name for name in labels.names for separator in SEPARATORS)
    task = ["--task", "single"] if single else []
    return shlex.join(["headstart", "fit", str(labels.path), "--from", str(run), *task])
