import base64
import xml.etree.ElementTree as ET
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.ablation.record import LedgerRow
from headstart.artifacts.records import EpochRecord, TestPrediction
from headstart.report.figures import (
    THUMBNAIL,
    accuracy_curve,
    confusion_image,
    gain_chart,
    loss_curves,
    photograph,
    reliability_diagram,
    waterfall,
)


def epoch(number: int, train_loss: float | None, val_loss: float, accuracy: float) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        progress=number / 2,
        lr=1e-3,
        train_loss=train_loss,
        val_loss=val_loss,
        val_accuracy=accuracy,
        images_per_s=None,
        seconds=1,
    )


EPOCHS = [epoch(0, None, 0.5, 0.9), epoch(1, 1.5, 0.4, 0.925), epoch(2, 1.1, 0.25, 0.95)]


def prediction(probability: float, right: bool) -> TestPrediction:
    label = "a" if right else "b"
    return TestPrediction(
        path="x.png",
        label=label,
        prediction="a",
        probability=probability,
        probability_of_label=probability if right else 1 - probability,
    )


def decoded(uri: str, kind: str) -> Image.Image:
    start = f"data:image/{kind};base64,"
    assert uri.startswith(start)
    return Image.open(BytesIO(base64.b64decode(uri.removeprefix(start))))


def parsed(svg: str) -> ET.Element:
    """The SVG as XML; inside HTML its namespaces go without saying."""
    return ET.fromstring(svg.replace("xlink:href", "href"))


def marks(svg: str, colour: str) -> int:
    """How many marks (one an epoch or a bin) are filled with a colour."""
    fill = f"fill: var(--{colour})"
    return sum(fill in element.get("style", "") for element in parsed(svg).iter())


def test_curves_mark_every_epoch_but_the_untrained_one() -> None:
    svg = loss_curves(EPOCHS)
    # One mark more each: the legend's.
    assert marks(svg, "second") == 2 + 1
    assert marks(svg, "first") == 3 + 1
    assert marks(accuracy_curve(EPOCHS), "first") == 3


def test_accuracy_curve_names_first_and_last_value() -> None:
    texts = ["".join(text.itertext()) for text in parsed(accuracy_curve(EPOCHS)).iter("text")]
    assert "90.0" in texts
    assert texts.count("95.0") >= 1


def test_reliability_diagram_has_a_dot_for_each_bin_that_holds_images() -> None:
    # Two images in (0.8, 0.9], one in (0.9, 1], and one in (0.2, 0.3], below one half.
    predictions = [
        prediction(0.85, True),
        prediction(0.81, False),
        prediction(0.95, True),
        prediction(0.3, False),
    ]
    assert marks(reliability_diagram(predictions), "first") == 3


def test_curves_take_their_colours_from_the_page_and_share_no_ids() -> None:
    svgs = [
        loss_curves(EPOCHS),
        accuracy_curve(EPOCHS),
        reliability_diagram([prediction(0.9, True)]),
    ]
    seen: set[str] = set()
    for svg in svgs:
        assert "#0" not in svg
        assert "<style" not in svg
        assert "http" not in svg
        ids = [element.get("id") for element in parsed(svg).iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= {name for name in ids if name}
        links = [use.get("href", "") for use in parsed(svg).iter("use")]
        assert {link.removeprefix("#") for link in links} <= set(ids)


def test_same_figures_give_the_same_bytes() -> None:
    assert loss_curves(EPOCHS) == loss_curves(EPOCHS)


def test_confusion_image_is_blue_on_the_diagonal_and_fuller_for_larger_shares() -> None:
    n = 196
    confusion = np.zeros((n, n), int)
    np.fill_diagonal(confusion, 4)
    confusion[3, 3], confusion[3, 7], confusion[3, 8] = 1, 2, 1
    image = decoded(confusion_image(confusion.tolist()), "png")
    scale = image.width // n
    assert image.size == (n * scale, n * scale)
    pixels = np.asarray(image)[scale // 2 :: scale, scale // 2 :: scale].astype(int)
    red, _, blue, alpha = np.moveaxis(pixels, 2, 0)
    assert alpha[5, 5] == 255
    assert blue[5, 5] > red[5, 5]
    assert red[3, 7] > blue[3, 7]
    assert 255 > alpha[3, 7] > alpha[3, 8] > 60
    assert alpha[7, 3] == 0  # row is the label, column the answer


def test_photograph_is_small(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "big.png")
    uri = photograph(tmp_path / "big.png")
    assert uri is not None
    assert decoded(uri, "jpeg").size == (2 * THUMBNAIL, THUMBNAIL)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_no_photograph_where_the_image_is_gone_or_broken(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    assert photograph(path) is None


def row(part: Any, name: str, accuracy: float, gain: float | None = None) -> LedgerRow:
    interval = None if gain is None else (gain - 0.05, gain + 0.05)
    families = (name,) if name else ()
    return LedgerRow(
        part=part, families=families, change="", epochs=6, accuracy=accuracy, gain=gain,
        interval=interval,
    )  # fmt: skip


def test_the_waterfall_names_every_step_and_its_gain() -> None:
    rows = [
        row("ladder", "", 0.8),
        row("ladder", "batch_mixing", 0.9, 0.1),
        row("ladder", "averaging", 0.875, -0.025),
    ]
    svg = waterfall(rows, whole=True)
    text = " ".join(parsed(svg).itertext())
    for shown in ("naive", "batch mixing", "averaging", "chosen recipe", "80.0", "+10.0", "87.5"):
        assert shown in text
    assert "\N{MINUS SIGN}2.5" in text
    for variable in ("--ink", "--muted", "--line", "--first", "--second"):
        assert variable in svg
    assert "100" in text
    assert "120" not in text, "no share of images is above 100 %"
    assert "chosen recipe" not in waterfall(rows, whole=False)


def test_the_chart_of_gains_names_the_methods() -> None:
    rows = [row("left_out", "schedule", 0.8, 0.1), row("left_out", "averaging", 0.9, 0.0)]
    text = " ".join(parsed(gain_chart(rows)).itertext())
    assert "schedule" in text
    assert "without" not in text, "the gain is that of having it"
    assert "+10.0" in text
    assert " 0.0 " in text
