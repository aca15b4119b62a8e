"""The options of `serve`: limits, address, and who may use it."""

import hmac
import ipaddress
import os
from hashlib import sha256
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.errors import InputError
from headstart.inputs.regular_files import read_text

KEY_VARIABLE = "HEADSTART_API_KEY"
"""Environment variable with the API key."""

_SHORTEST_KEY, _LONGEST_KEY = 16, 1000


class ServeOptions(BaseModel):
    """Options of `serve`.

    Example:
        >>> ServeOptions(max_megabytes=2).max_bytes
        2000000
        >>> ServeOptions().is_local, ServeOptions(host="0.0.0.0").is_local
        (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen at. The default can be reached from this machine only."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen at; 0 takes a free one."""
    allowed_host: tuple[str, ...] = ()
    """Name by which clients reach the service, such as the one of a proxy in front of it. May be
    given several times."""
    api_key_file: Path | None = None
    """File with the key that clients must send. The variable HEADSTART_API_KEY may hold it
    instead."""
    max_images: int = Field(16, ge=1, le=1000)
    """Most images in a request."""
    max_megabytes: float = Field(20, gt=0, le=1000)
    """Most megabytes in a request."""
    max_megapixels: float = Field(50, gt=0, le=100)
    """Most millions of pixels in an image."""
    max_requests: int = Field(64, ge=1, le=10_000)
    """Most requests that are worked on or wait; further ones are told to come again later."""
    batch: int = Field(16, ge=1, le=1024)
    """Most images that the network sees at once; requests that wait share a batch."""
    timeout: float = Field(30, gt=0, le=3600)
    """Seconds that a request may take to arrive, and again to be answered."""
    hide_training_images: bool = False
    """Do not show the training images that are most similar to an image."""
    data: Path | None = None
    """Folder that the names of the training images start from, for pictures that the run does not
    keep."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.host or any(c.isspace() for c in self.host):
            raise InputError("--host is not an address. Give one such as 127.0.0.1 or 0.0.0.0.")
        return self

    @property
    def max_bytes(self) -> int:
        """Most bytes in a request."""
        return int(self.max_megabytes * 1e6)

    @property
    def max_pixels(self) -> int:
        """Most pixels in an image."""
        return int(self.max_megapixels * 1e6)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """Names by which clients may reach the service; empty for any.

        A page of another site can lead a browser to a local service by a name of its own, and
        would then read the answers. So a local service answers only to names of this machine.
        """
        own = {"127.0.0.1", "localhost", "::1", self.host} if self.is_local else set()
        return frozenset(name.lower() for name in (*own, *self.allowed_host))


class ApiKey:
    """The key that clients must send. Only its hash is kept.

    Example:
        >>> key = ApiKey("correct horse battery")
        >>> key.fits("correct horse battery"), key.fits("wrong"), key.fits("")
        (True, False, False)
    """

    def __init__(self, key: str) -> None:
        self._digest = sha256(key.encode()).digest()

    def fits(self, given: str) -> bool:
        """Returns whether this is the key. It takes as long for any other of the same length."""
        digest = sha256(given.encode("utf-8", "surrogatepass")).digest()
        return hmac.compare_digest(digest, self._digest)


def read_key(options: ServeOptions) -> ApiKey | None:
    """Returns the key from the file or the environment; None if there is none.

    Raises:
        InputError: If it cannot be read, is too short, or is given twice.
    """
    key = os.environ.get(KEY_VARIABLE)
    where = f"The variable {KEY_VARIABLE}"
    if options.api_key_file is not None:
        if key is not None:
            raise InputError(f"Give the key in --api-key-file or in {KEY_VARIABLE}, not in both.")
        where = str(options.api_key_file)
        try:
            key = read_text(options.api_key_file).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InputError(f"Cannot read the key in {where}: {reason}.") from None
    if key is None:
        return None
    printable = key.isascii() and key.isprintable() and " " not in key
    if not printable or not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise InputError(
            f"{where} does not hold a key. A key has {_SHORTEST_KEY} to {_LONGEST_KEY} letters, "
            "digits or signs without spaces; `openssl rand -hex 24` makes one."
        )
    return ApiKey(key)
