"""Embedding files: one row per image with the image names, as safetensors, CSV or NPZ."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from headstart.artifacts.files import check_writable, replacing
from headstart.errors import InputError, RunError
from headstart.inputs.large_arrays import copied
from headstart.inputs.regular_files import check_regular
from headstart.names import to_cell
from headstart.text import shortened


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of named images.

    Attributes:
        images: Names of the images (N).
        labels: Class of each image (N); empty if it is not known.
        vectors: Embeddings (N, E).
    """

    images: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: NDArray[np.float32]


def write_embeddings(
    path: Path, images: Sequence[str], labels: Sequence[str], vectors: NDArray[np.floating]
) -> None:
    """Writes embeddings as float16 in safetensors format; the same input gives the same bytes."""
    # One entry: safetensors writes several of them in an order that changes from call to call.
    names = {"names": json.dumps({"images": list(images), "labels": list(labels)})}
    with replacing(path) as draft:
        save_file({"vectors": copied(vectors, dtype=np.float16)}, draft, metadata=names)


def check_exportable(path: Path) -> None:
    """Checks, before any work, that `export_embeddings` can write a file.

    Raises:
        InputError: If the extension is unknown, the folder is missing, or the path is a folder.
    """
    if path.suffix not in {".csv", ".npz", ".safetensors"}:
        raise InputError(
            f"Cannot write embeddings to {path}: use the extension .csv, .npz or .safetensors."
        )
    check_writable(path)


def export_embeddings(path: Path, images: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Writes embeddings (N, E) in the format of the file extension.

    Raises:
        InputError: As `check_exportable`.
    """
    check_exportable(path)
    if path.suffix == ".safetensors":
        write_embeddings(path, images, [""] * len(images), vectors)
    elif path.suffix == ".npz":
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez(file, images=np.array(images, dtype=np.str_), vectors=vectors)
    else:
        # surrogateescape: a file name need not be valid UTF-8.
        with (
            replacing(path) as draft,
            draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["image", *(f"e{number}" for number in range(vectors.shape[1]))])
            rows = zip(images, vectors.tolist(), strict=True)
            writer.writerows([to_cell(image), *vector] for image, vector in rows)


def read_embeddings(path: Path) -> Embeddings:
    """Reads embeddings from a safetensors file.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        check_regular(path)
        with safe_open(path, "numpy") as file:
            entries = file.metadata() or {}
            vectors = np.asarray(file.get_tensor("vectors"), np.float32)
        if "names" in entries:
            names = json.loads(entries["names"])
        else:  # files of version 0.1.0 have an entry for each
            names = {key: json.loads(entries[key]) for key in ("images", "labels")}
        images, labels = (tuple(names[key]) for key in ("images", "labels"))
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing: this run has no stored embeddings. Fit its images again."
        ) from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"Cannot read the embeddings {path}: {shortened(str(error), 200)}") from None
    return Embeddings(images, labels, vectors)
