"""The HTTP interface of a classifier."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from headstart import __version__
from headstart.errors import InputError
from headstart.inference.predict import check_coverage
from headstart.serving.answers import (
    Explanation,
    Health,
    LabelExplanation,
    LabelPredictions,
    ModelFacts,
    Predictions,
)
from headstart.serving.batches import ClosedError
from headstart.serving.guard import OPEN, RETRY_S, Gatekeeper
from headstart.serving.metrics import ServiceFigures
from headstart.serving.options import ApiKey, ServeOptions
from headstart.serving.refusals import answer_misuse, refusals
from headstart.serving.service import SeenImage, Service
from headstart.serving.uploads import Upload, described, read_uploads
from headstart.webpage.pages import service_page

T = TypeVar("T")

_IMAGES_REFUSED = (400, 408, 413, 415, 422, 429, 503)


def make_app(folder: str | Path, options: ServeOptions, key: ApiKey | None = None) -> ASGIApp:
    """Returns a classifier as an ASGI application.

    Args:
        folder: Run folder, or bundle.
        options: Limits of the service.
        key: Key that clients must send; None for no key.

    Raises:
        InputError: If an option cannot be used.
        RunError: If the folder is not a finished run or a bundle, or is damaged.
    """
    figures = ServiceFigures()
    service = Service(Path(folder), options, figures.batches.observe)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title=f"headstart: {service.facts.name}",
        version=__version__,
        description="An image classifier with calibrated probabilities."
        + (" An image gets any number of labels." if service.bundle.spec.multilabel else ""),
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from another server
        redoc_url=None,
        responses=refusals(403, 421),
    )
    app.add_exception_handler(RequestValidationError, answer_misuse)
    guarded = _guarded(key)
    _add_answers(guarded, service, figures)
    _add_facts(app, guarded, service, figures)
    app.include_router(guarded)
    return Gatekeeper(app, options, key, figures, [*app.openapi()["paths"], *OPEN])


def _guarded(key: ApiKey | None) -> APIRouter:
    """Returns a router for what needs the key. The gatekeeper checks it; this only says so."""
    if key is None:
        return APIRouter()
    scheme = HTTPBearer(auto_error=False, description="The key of the service.")
    return APIRouter(dependencies=[Depends(scheme)], responses=refusals(401))


def _add_answers(guarded: APIRouter, service: Service, figures: ServiceFigures) -> None:
    """Adds what takes images."""
    options, several = service.options, service.bundle.spec.multilabel
    refused = refusals(*_IMAGES_REFUSED)
    calibrated = list(service.facts.coverages)
    coverages: dict[str, Any] = {"enum": calibrated} if calibrated else {}

    @guarded.post(
        "/v1/predict",
        response_model=LabelPredictions if several else Predictions,
        responses=refused,
        openapi_extra=described(options.max_images),
        description=None if not several else "Decides about every label, for each image.",
    )
    async def predict(
        request: Request,
        set_coverage: Annotated[
            float | None,
            Query(
                description="Share of prediction sets that contain the true class.",
                gt=0,
                lt=1,
                json_schema_extra=coverages,
                include_in_schema=not several,
            ),
        ] = None,
    ) -> Predictions | LabelPredictions:
        """Classifies images, with calibrated probabilities."""
        try:
            check_coverage(service.bundle, set_coverage)
        except InputError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        uploads = await read_uploads(request, options.max_images)
        return await _in_time(_predictions(service, figures, uploads, set_coverage), options)

    @guarded.post(
        "/v1/explain",
        response_model=LabelExplanation if several else Explanation,
        responses=refused,
        openapi_extra=described(1),
    )
    async def explain(request: Request) -> Explanation | LabelExplanation:
        """Classifies an image, shows where the network looked, and the most similar images."""
        uploads = await read_uploads(request, 1)
        return await _in_time(_explanation(service, figures, uploads), options)


def _add_facts(app: FastAPI, guarded: APIRouter, service: Service, figures: ServiceFigures) -> None:
    """Adds what tells about the service."""
    content, policy = service_page()

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        """Gives the page on which the classifier can be tried."""
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    @guarded.get("/v1/model")
    async def model() -> ModelFacts:
        """Tells which classifier this is, and what a request may hold."""
        return service.facts

    @app.get("/healthz")
    async def healthz() -> Health:
        """Tells that the service answers."""
        return Health()

    @guarded.get(
        "/metrics",
        response_class=Response,  # PlainTextResponse would describe refusals as text, too
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Gives the figures of the service in the text format of Prometheus."""
        return Response(figures.as_text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _seen(
    service: Service, figures: ServiceFigures, uploads: list[Upload]
) -> list[SeenImage]:
    """Reads images in threads.

    Raises:
        HTTPException: If none can be read.
    """
    loop = asyncio.get_running_loop()
    seen = await asyncio.gather(
        *(
            loop.run_in_executor(service.pool, service.see, upload.name, upload.content)
            for upload in uploads
        )
    )
    failed = [image.error for image in seen if image.view is None]
    figures.images.labels("unreadable").inc(len(failed))
    figures.images.labels("read").inc(len(seen) - len(failed))
    if len(failed) == len(seen):
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, failed[0])
    return list(seen)


async def _predictions(
    service: Service, figures: ServiceFigures, uploads: list[Upload], set_coverage: float | None
) -> Predictions | LabelPredictions:
    seen = await _seen(service, figures, uploads)
    views = np.stack([image.view for image in seen if image.view is not None])
    arrays = await asyncio.wrap_future(service.batcher.submit(views))
    return service.answer(service.predictions(seen, arrays, set_coverage))


async def _explanation(
    service: Service, figures: ServiceFigures, uploads: list[Upload]
) -> Explanation | LabelExplanation:
    (image,) = await _seen(service, figures, uploads)
    return await asyncio.to_thread(service.explanation, image)


async def _in_time(work: Awaitable[T], options: ServeOptions) -> T:
    """Returns a result, if it comes in time.

    Raises:
        HTTPException: If it does not.
    """
    try:
        async with asyncio.timeout(options.timeout):
            return await work
    except TimeoutError:
        reason = f"The answer took more than {options.timeout:g} s."
    except ClosedError:
        reason = "The service ends."
    headers = {"Retry-After": str(RETRY_S)}
    raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason} Try again later.", headers)
