"""What is measured before training, and what is kept of it."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from headstart.backbones.places import FEATURES
from headstart.features.extractor import open_prefix
from headstart.features.layout import layout_behind
from headstart.training.speed import measure_features

if TYPE_CHECKING:
    from headstart.features.extractor import FeatureExtractor


def test_the_engine_that_is_timed_is_the_one_that_heads_use(
    fresh_extractor: Callable[..., "FeatureExtractor"], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*_: Any) -> None:
        pytest.fail("the network is exported a second time")

    extractor = fresh_extractor()
    assert measure_features(extractor) > 0
    monkeypatch.setattr(import_module("headstart.features.extractor"), "make_engine", twice)
    taps = layout_behind(extractor.traced, FEATURES, extractor.backbone.features).taps
    open_prefix(extractor, FEATURES, taps)
