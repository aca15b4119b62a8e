"""What the service answers to requests that it refuses, and how it describes these answers."""

from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from headstart.names import printable
from headstart.serving.answers import Problem
from headstart.text import listed, shortened

REASONS = {
    400: "The form cannot be read.",
    401: "The key is missing or wrong.",
    403: "A page of another site asks.",
    408: "The request did not arrive in time.",
    413: "The request has too many bytes.",
    415: "The body is neither a form nor an image.",
    421: "The service is not known by this name.",
    422: "There is no image, none can be read, or a parameter is wrong.",
    429: "There are too many requests at once; try again later.",
    503: "The answer took too long, or the service ends; try again later.",
}
"""What each status of a refusal means."""

_LATER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "How to send the key.",
            "required": True,
            "schema": {"type": "string", "const": "Bearer"},
        }
    },
    429: _LATER,
    503: _LATER,
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Returns the description of refusals, for OpenAPI."""
    return {
        code: {"model": Problem, "description": REASONS[code]}
        | ({"headers": _HEADERS[code]} if code in _HEADERS else {})
        for code in codes
    }


async def answer_misuse(_: Request, error: Exception) -> Response:
    """Answers a wrong parameter or body in words.

    FastAPI would send back what it got, and fails where that is no JSON, such as NaN.
    """
    assert isinstance(error, RequestValidationError)
    found = [f"{each['loc'][-1]}: {each['msg']}" for each in error.errors()]
    detail = f"A parameter is wrong: {shortened(printable(listed(found)), 300)}."
    return JSONResponse({"detail": detail}, HTTPStatus.UNPROCESSABLE_ENTITY)
