"""Prefixes in other processes' hands: what is sent, what comes back, and what is done here."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.backbones.engine import Engine
from headstart.backbones.places import FEATURES
from headstart.data.views import EVALUATION, View
from headstart.errors import HeadstartError
from headstart.features.cluster import CHUNK, Chunk, SentPrefix, pays, run_chunk
from headstart.features.extractor import FeatureExtractor, activations, open_prefix
from headstart.methods.augmentation import TrivialAugment
from headstart.training.boundary import unmeasured_boundary


@dataclass
class Packing:
    """Does jobs in this process, from what a pipe would carry; at most `limit` of them."""

    limit: int = 1000
    slots: int = 1000
    with_images: list[bool] = field(default_factory=list)

    def map(self, work: Callable[[Any, Any], Any], shared: Any, jobs: Iterable[Any]) -> Iterator:
        packed = pickle.dumps((work, shared))
        for job in jobs:
            if len(self.with_images) == self.limit:
                return
            here, prefix = pickle.loads(packed)
            self.with_images.append(job.images is not None)
            yield pickle.loads(pickle.dumps(here(prefix, pickle.loads(pickle.dumps(job)))))


@pytest.fixture
def many(fresh_extractor: Callable[..., FeatureExtractor]) -> FeatureExtractor:
    """An extractor whose images are more chunks than this process has threads, and a few more."""
    extractor = fresh_extractor()
    count = CHUNK * torch.get_num_threads() + 21
    return replace(extractor, rows={"train": np.resize(extractor.rows["train"], count)})


@pytest.mark.parametrize(
    ("view", "limit", "sees_the_cache"),
    [
        (EVALUATION, 1000, True),
        (View(TrivialAugment(), 3, 1), 1000, False),
        (View(mirror=True), 1, True),
        (EVALUATION, 2, False),
    ],
)
def test_a_cluster_writes_the_bytes_that_this_process_writes(
    many: FeatureExtractor, tmp_path: Path, view: View, limit: int, sees_the_cache: bool
) -> None:
    cluster = Packing(limit)
    if sees_the_cache:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "pixels").symlink_to(many.cache_dir / "pixels")
    files = []
    for extractor in (
        replace(many, cache_dir=tmp_path / "here"),
        replace(many, cache_dir=tmp_path / "there", cluster=cluster),
    ):
        # Behind it, means depend on the number of threads: findings/onnxruntime_mean_by_threads.sh
        run = open_prefix(extractor, unmeasured_boundary(extractor.traced))
        found = activations(extractor, run, "train", view)
        assert len(found) == len(many.rows["train"])
        (entry,) = (extractor.cache_dir / "activations").glob("*/data")
        files.append(entry)
    chunks = -(-len(many.rows["train"]) // CHUNK)
    expected = [False] * chunks if sees_the_cache else [False] + [True] * chunks
    assert cluster.with_images == expected[:limit]
    assert files[0].parent.name == files[1].parent.name
    assert files[0].read_bytes() == files[1].read_bytes()


def test_it_is_done_here_where_that_is_as_fast(many: FeatureExtractor) -> None:
    engine = open_prefix(replace(many, cluster=Packing()), FEATURES).engine
    threads, images = torch.get_num_threads(), len(many.rows["train"])
    assert pays(Packing(slots=threads + 1), engine, images)
    assert not pays(Packing(slots=threads), engine, images)
    assert not pays(Packing(), engine, threads * CHUNK), "no chunk for another core"
    assert not pays(Packing(), Engine(np.asarray), images), "an engine without a file"
    assert open_prefix(many, FEATURES).engine.file == b"", "nobody needs it"


def test_another_version_is_refused(many: FeatureExtractor) -> None:
    sent = SentPrefix(
        b"", many.backbone.preprocessing, EVALUATION, 16,
        (("torch", "0.1"), *[("", "")] * 5), Path(), "",
    )  # fmt: skip
    with pytest.raises(HeadstartError, match=r" has torch .*, and the machine of the run has 0\.1"):
        run_chunk(sent, Chunk(np.arange(0), ()))
