"""The images in a request: a form with files, or one image as the body itself."""

from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException, Request

from headstart.names import printable
from headstart.serving.forms import FormError, files_in
from headstart.text import shortened

FIELD = "images"
"""Name of the form field with the files."""

_FORM = "multipart/form-data"
_RAW = "application/octet-stream"


@dataclass(frozen=True)
class Upload:
    """The bytes of an image file, and its name for the answer. The name is never a path."""

    name: str
    content: bytes


def described(images: int) -> dict[str, Any]:
    """Returns the description of a request with images, for OpenAPI.

    Args:
        images: Most images in a request.
    """
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": [FIELD],
        "properties": {FIELD: {"type": "array", "items": file, "minItems": 1, "maxItems": images}},
        "additionalProperties": False,
    }
    content = {_FORM: {"schema": form}, _RAW: {"schema": file}, "image/*": {"schema": file}}
    return {"requestBody": {"required": True, "content": content}}


async def read_uploads(request: Request, most: int) -> list[Upload]:
    """Returns the images in a request.

    Args:
        request: Request whose body was already read, and is not too long.
        most: Most images.

    Raises:
        HTTPException: If there is none, there are too many, or they cannot be told apart.
    """
    content_type = request.headers.get("content-type", "")
    kind = _media_type(content_type)
    content = await request.body()
    if kind == _FORM:
        return _from_form(content, content_type, most)
    if kind != _RAW and not kind.startswith("image/"):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Send images as {_FORM} in the field {FIELD}, or one image as image/* or {_RAW}.",
        )
    if not content:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "The body is empty. Send an image.")
    return [Upload("image", content)]


def _from_form(form: bytes, content_type: str, most: int) -> list[Upload]:
    try:
        files = files_in(form, content_type, most)
    except FormError as error:
        detail = f"The form cannot be read: {error}."
        raise HTTPException(HTTPStatus.BAD_REQUEST, detail) from None
    for file in files:
        if file.of != FIELD:
            what = f"The form has a field {shortened(printable(file.of))!r}. Send images as"
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"{what} files in {FIELD!r}.")
    if not files:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"The form has no file in {FIELD!r}.")
    return [
        Upload(shortened(printable(file.name), 200) or f"image {number}", bytes(file.content))
        for number, file in enumerate(files)
    ]


def _media_type(header: str) -> str:
    """Returns the type of a body in lower case, without its parameters.

    Example:
        >>> _media_type("Image/PNG; q=1"), _media_type("")
        ('image/png', '')
    """
    message = Message()
    message["content-type"] = header
    return message.get_content_type() if header else ""
