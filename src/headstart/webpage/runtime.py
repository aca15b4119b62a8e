"""The files of onnxruntime-web, which runs a classifier in a browser. None are shipped: 14 MB."""

import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from headstart.artifacts.files import replacing
from headstart.errors import InputError
from headstart.inputs.regular_files import read_bytes

VERSION = "1.30.0"

FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""SHA-256 of the files of this version that a page needs."""

_REGISTRY = "https://registry.npmjs.org"
_PATH = f"/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
_LARGEST = 60_000_000


def runtime_files(folder: Path | None, download: bool, cache_dir: Path) -> dict[str, bytes]:
    """Returns the files of the runtime by their names, each with the right hash.

    Args:
        folder: Folder that holds them, or `dist` of the npm package; None for the cache.
        download: Whether they may be fetched from the npm registry if the cache lacks them.
        cache_dir: Cache folder.

    Raises:
        InputError: If they are missing, are others, or cannot be fetched.
    """
    kept = cache_dir / f"onnxruntime-web-{VERSION}"
    if folder is None and not kept.is_dir():
        if not download:
            raise InputError(
                f"The page needs three files of onnxruntime-web {VERSION}, which headstart does "
                "not ship. Give --download to fetch them from the npm registry (33 MB, once), or "
                "--runtime with the folder `dist` of that package."
            )
        _fetch(kept)
    place = folder or kept
    found = {}
    for name, sha256 in FILES.items():
        try:
            found[name] = read_bytes(place / name)
        except OSError as error:
            raise InputError(f"Cannot read {place / name}: {error.strerror}.") from None
        if hashlib.sha256(found[name]).hexdigest() != sha256:
            raise InputError(f"{place / name} is not that of onnxruntime-web {VERSION}.")
    return found


def _fetch(kept: Path) -> None:
    """Fetches the files into a folder, through `NPM_CONFIG_REGISTRY` if it is set.

    Raises:
        InputError: If they cannot be fetched.
    """
    registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
    if not registry.startswith("https://"):
        raise InputError(f"The registry {registry} is not an https address.")
    try:
        with urllib.request.urlopen(registry + _PATH, timeout=60) as answer:
            archive = answer.read(_LARGEST)
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as package:
            found = {name: _member(package, name) for name in FILES}
    except (OSError, urllib.error.URLError, tarfile.TarError, EOFError, KeyError) as error:
        raise InputError(f"Cannot fetch onnxruntime-web from {registry}: {error}.") from None
    for name, content in found.items():
        if hashlib.sha256(content).hexdigest() != FILES[name]:
            raise InputError(f"{name} from {registry} is not that of onnxruntime-web {VERSION}.")
    kept.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        with replacing(kept / name) as draft:
            draft.write_bytes(content)


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(f"package/dist/{name}")
    if file is None:
        raise KeyError(name)
    with file:
        return file.read(_LARGEST)
