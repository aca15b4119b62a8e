"""A graph with the resize inside sees the pixels that headstart sees."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from headstart import export
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.eval_view import eval_view
from headstart.data.images import load_image
from headstart.errors import InputError
from headstart.export.any_size import with_preprocessing
from headstart.inference.run import Run

HALF = (0.5, 0.5, 0.5)
SIZES = [(301, 200), (73, 180), (20, 31), (400, 60), (30, 201), (55, 80), (48, 48)]


def views_of(how: Preprocessing) -> Any:
    """A session of a network that gives back what it sees."""
    side = how.resolution
    given = helper.make_tensor_value_info("input", TensorProto.UINT8, ["n", side, side, 3])
    seen = helper.make_tensor_value_info("seen", TensorProto.UINT8, ["n", side, side, 3])
    node = helper.make_node("Identity", ["input"], ["seen"])
    graph = helper.make_graph([node], "g", [given], [seen])
    version = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=version, ir_version=9)
    content = with_preprocessing(model, how).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_its_pixels_are_those_of_pillow(interpolation: str, tmp_path: Path) -> None:
    """Shrunk, enlarged, cut at 3 to 1, upright, and of the very size.

    Pillow 13 resizes images that are much taller than wide columns first, which rounds otherwise.
    """
    how = Preprocessing(48, 55, interpolation, HALF, HALF)
    session = views_of(how)
    draw = np.random.default_rng(5)
    for width, height in SIZES:
        shape = (height // 4 + 2, width // 4 + 2, 3)
        noise = Image.fromarray(draw.integers(0, 256, shape, np.uint8))
        noise.resize((width, height), Image.Resampling.BICUBIC).save(tmp_path / "image.png")
        wanted = eval_view(load_image(tmp_path / "image.png", short_side=how.resize), how)
        whole = np.asarray(load_image(tmp_path / "image.png"))[None]
        (found,) = session.run(None, {"image": whole})
        difference = np.abs(found[0].astype(int) - wanted.astype(int))
        tall = height > 2 * width
        assert difference.max() <= 2, (width, height)
        assert np.mean(difference == 0) > (0.7 if tall else 0.97), (width, height)


def test_it_answers_as_the_run_on_whole_images(
    head_run: Run, pictures: Path, tmp_path: Path
) -> None:
    done = export(head_run.folder, to="onnx", any_size=True, out=tmp_path / "any", progress=False)
    assert done.parity.agreement == 1
    assert done.parity.largest_difference < 0.005
    assert "`image` is one image" in done.notes[0]
    model = onnx.load(tmp_path / "any" / "model.onnx")
    assert [each.name for each in model.graph.input] == ["image"]
    assert {each.key for each in model.metadata_props} >= {"classes", "temperature"}


def test_what_it_cannot_hold_is_refused(head_run: Run) -> None:
    with pytest.raises(InputError, match="--any-size is for --to onnx"):
        export(head_run.folder, to="int8", any_size=True, progress=False)
    with pytest.raises(InputError, match="pads its images"):
        views_of(Preprocessing(48, 40, "bicubic", HALF, HALF))
