"""The files in a form (multipart/form-data), read in the memory and never written to a disk."""

import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from headstart.errors import InputError
from headstart.text import shortened

# It prints a line for each damaged form, and whoever sends forms could fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class FormError(InputError):
    """A form cannot be read."""


@dataclass
class FormFile:
    """A file in a form.

    Attributes:
        of: Name of its field.
        name: Name that the client gave it; empty if it gave none, as for text.
        content: Its bytes.
    """

    of: str = ""
    name: str = ""
    content: bytearray = field(default_factory=bytearray)


class _Reader:
    """Collects what the parser finds."""

    def __init__(self, most: int) -> None:
        self.files: list[FormFile] = []
        self.complete = False
        self._most = most
        self._header, self._value = bytearray(), bytearray()

    def begin(self) -> None:
        """A file begins."""
        if len(self.files) == self._most:
            raise FormError(f"it has more than the {self._most} files that a request may have")
        self.files.append(FormFile())

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """A part of the name of a header."""
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A part of the value of a header."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """A header is complete."""
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value.decode("latin-1"))
            file = self.files[-1]
            file.of, file.name = (_text(options.get(key)) for key in (b"name", b"filename"))
        self._header.clear()
        self._value.clear()

    def content(self, data: bytes, start: int, end: int) -> None:
        """A part of a file."""
        self.files[-1].content += memoryview(data)[start:end]

    def end(self) -> None:
        """The form is complete."""
        self.complete = True


def files_in(form: bytes, content_type: str, most: int) -> list[FormFile]:
    """Returns the files in a form, in their order.

    Args:
        form: The form.
        content_type: Its type with the boundary, as the client named it.
        most: Most files.

    Raises:
        FormError: If it cannot be read or has too many files; the text is a clause.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise FormError("its type names no boundary")
    reader = _Reader(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reader.begin,
                "on_header_field": reader.header_field,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_end,
                "on_part_data": reader.content,
                "on_end": reader.end,
            },
        )
        parser.write(form)
        parser.finalize()
    except FormParserError as error:
        raise FormError(shortened(str(error), 200)) from None
    if not reader.complete:
        raise FormError("it ends early")
    return reader.files


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
