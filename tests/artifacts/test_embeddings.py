"""Embedding files: the same bytes each time, read back as they were, in old forms too."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from headstart.artifacts.embeddings import read_embeddings, write_embeddings
from headstart.errors import RunError

IMAGES, LABELS = ("a/1.jpg", "b/2.jpg"), ("a", "b")
VECTORS = np.array([[0.5, 1.0], [2.0, -1.0]], np.float32)


def test_the_same_embeddings_are_the_same_bytes(tmp_path: Path) -> None:
    for number in range(16):
        write_embeddings(tmp_path / f"{number}.safetensors", IMAGES, LABELS, VECTORS)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    read = read_embeddings(tmp_path / "0.safetensors")
    assert (read.images, read.labels) == (IMAGES, LABELS)
    assert np.array_equal(read.vectors, VECTORS)


def test_the_first_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    metadata = {"images": json.dumps(IMAGES), "labels": json.dumps(LABELS)}
    save_file({"vectors": VECTORS.astype(np.float16)}, path, metadata=metadata)
    read = read_embeddings(path)
    assert (read.images, read.labels) == (IMAGES, LABELS)


@pytest.mark.parametrize("metadata", [{}, {"names": "[]"}, {"names": "{"}, {"images": "[]"}])
def test_damaged_names_are_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"vectors": VECTORS}, path, metadata=metadata)
    with pytest.raises(RunError, match="Cannot read the embeddings"):
        read_embeddings(path)
