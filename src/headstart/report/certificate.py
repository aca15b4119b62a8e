"""The transfer certificate as a picture and as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.artifacts.files import replacing, write_text
from headstart.certificate.record import ArmName, Certificate, Curve, OnFraction, Verdict
from headstart.certificate.verdicts import ARMS, describe_test
from headstart.report.inline_svg import inline_svg
from headstart.report.templates import templates
from headstart.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and vermilion of Okabe and Ito (2008) on white. The arms also differ in line style.
_COLOURS: dict[ArmName, str] = {"pretrained": "#0072b2", "scratch": "#b84a00"}
_LINES: dict[ArmName, str] = {"pretrained": "-", "scratch": "--"}
_NAMES: dict[ArmName, str] = {"pretrained": "pretrained weights", "scratch": "from scratch"}
_INK, _MUTED, _LINE, _GREEN, _PAPER = "#1b1f24", "#57606a", "#d5dbe1", "#00755a", "#ffffff"
_VARIABLES = {
    _INK: "ink", _MUTED: "muted", _LINE: "line", _GREEN: "third", _PAPER: "paper",
    _COLOURS["pretrained"]: "first", _COLOURS["scratch"]: "second",
}  # fmt: skip
"""CSS variables of a page by the colours of the picture."""
QUESTIONS = {"start": "Higher start", "slope": "Higher slope", "asymptote": "Higher asymptote"}


def certificate_svg(certificate: Certificate, *, wide: bool = False) -> str:
    """Returns an <svg> element that shows both arms and the accuracy over the number of labels.

    Args:
        certificate: The certificate.
        wide: Whether the two charts stand side by side, for a desktop.
    """
    with _own_settings():
        figure = _draw(certificate, wide=wide)
        return inline_svg(figure, "certificate-wide" if wide else "certificate", _VARIABLES)


def write_certificate_page(folder: Path, certificate: Certificate) -> Path:
    """Writes `certificate.svg`, `.png` and `.html`, and returns the page's path.

    Raises:
        DiskFullError: If there is no space left.
    """
    for kind in ("svg", "png"):
        with replacing(folder / f"certificate.{kind}") as draft, draft.open("wb") as file:
            _save(certificate, file, kind)
    html = (
        templates(escape=True)
        .get_template("certificate.html")
        .render(
            certificate=certificate,
            questions=QUESTIONS,
            arms=_NAMES,
            svg=certificate_svg(certificate),
            wide_svg=certificate_svg(certificate, wide=True),
            test=describe_test(certificate.labels.test) if certificate.labels else "",
        )
    )
    path = folder / "certificate.html"
    write_text(path, html)
    return path


def _own_settings() -> Any:
    from matplotlib import rc_context  # noqa: PLC0415 - heavy

    # Text stays text: it uses the reader's font and can be searched.
    return rc_context({"svg.fonttype": "none", "svg.hashsalt": "certificate", "font.size": 10})


def _save(certificate: Certificate, file: Any, kind: str) -> None:
    with _own_settings():
        figure = _draw(certificate)
        none = {"Date": None, "Creator": None, "Format": None, "Type": None}
        metadata = none if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=200, metadata=metadata)


def _draw(certificate: Certificate, *, wide: bool = False) -> "Figure":
    """Draws the charts below each other, narrow enough for a phone, or side by side."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    both = certificate.labels is not None or len(certificate.fractions) > 1
    wide = wide and both
    # In inches from the bottom.
    width, height = (9.6, 4.95) if wide else (4.8, 8.9 if both else 4.95)
    lower = 3.95 if both and not wide else 0.0
    figure = Figure(figsize=(width, height), facecolor=_PAPER)

    def panel(left: float, bottom: float, tall: float) -> "Axes":
        return figure.add_axes((left / width, bottom / height, 4.08 / width, tall / height))

    axes = panel(0.62, lower + 1.85, 2.8)
    _draw_training(axes, certificate)
    axes.legend(*axes.get_legend_handles_labels(), **_legend(-0.165, 9.5))
    for row, verdict in enumerate(certificate.verdicts):
        y = (lower + 0.82 - 0.25 * row) / height
        _number(figure, 0.2 / width, y, str(row + 1))
        figure.text(
            0.36 / width,
            y,
            _answer(verdict, certificate.fractions[-1]),
            color=_INK,
            va="center",
            fontsize=9.5,
        )
    if both:
        axes = panel(5.42, 1.85, 2.8) if wide else panel(0.62, 1.3, 2.3)
        _draw_labels(axes, certificate)
        axes.legend(*axes.get_legend_handles_labels(), **_legend(-0.165 if wide else -0.2, 8.5))
    return figure


def _legend(y: float, size: float) -> dict[str, Any]:
    return {
        "frameon": False, "labelcolor": _INK, "loc": "upper center", "bbox_to_anchor": (0.45, y),
        "ncols": 2, "handlelength": 2.4, "fontsize": size, "columnspacing": 1.2,
    }  # fmt: skip


def _answer(verdict: Verdict, result: OnFraction) -> str:
    """Returns a verdict as one line of text."""
    low, high = (100 * end for end in verdict.interval)
    figures = f"{100 * verdict.advantage:+z.0f} points ({low:+z.0f} to {high:+z.0f})"
    if verdict.question == "slope":
        figures = figures.replace("points", "points per epoch")
    rising = [arm for arm in ARMS if result.curves[arm].no_plateau]
    if verdict.answer == "cannot tell" and verdict.question == "asymptote" and rising:
        figures = f"no plateau{' from scratch' if rising == ['scratch'] else ' reached'}"
    return f"higher {verdict.question}: {verdict.answer}, {figures}"


def _number(place: Any, x: float, y: float, text: str, **how: Any) -> None:
    """Draws a number in a filled circle on a figure or on axes."""
    place.text(
        x, y, text, color=_PAPER, fontsize=8.5, fontweight="bold", ha="center", va="center",
        bbox={"boxstyle": "circle,pad=0.22", "facecolor": _GREEN, "edgecolor": _PAPER}, zorder=6,
        **how,
    )  # fmt: skip


def _style(axes: "Axes", x_label: str, title: str) -> None:
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel("held-out accuracy, %", color=_INK)
    axes.set_title(
        title, color=_INK, loc="left", fontsize=10.5, fontweight="bold", parse_math=False
    )
    axes.grid(color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=_INK)
    axes.spines[:].set_visible(False)


def _draw_training(axes: "Axes", certificate: Certificate) -> None:
    """Draws the accuracy of both arms over the epochs and marks start, slope and asymptote."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    result = certificate.fractions[-1]
    epochs = np.arange(len(result.curves["pretrained"].accuracy))
    for arm, curve in result.curves.items():
        colour = _COLOURS[arm]
        axes.fill_between(
            epochs, 100 * np.array(curve.low), 100 * np.array(curve.high),
            color=colour, alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.plot(
            epochs, 100 * np.array(curve.accuracy), _LINES[arm], color=colour, marker="o",
            markersize=3.5, label=_NAMES[arm],
        )  # fmt: skip
    axes.axhline(100 * certificate.chance, color=_MUTED, linewidth=1, linestyle=":")
    axes.text(epochs[-1], 100 * certificate.chance - 1.5, "chance", color=_MUTED, fontsize=8.5,
              ha="right", va="top")  # fmt: skip
    _mark(axes, result)
    size = f"{counted(result.images, 'image')}, {counted(result.seeds, 'seed')}"
    _style(axes, "epoch", f"{certificate.name}: {size}")
    axes.set_xlim(-0.04 * epochs[-1], 1.14 * epochs[-1])
    axes.set_ylim(-6, 108)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark(axes: "Axes", result: OnFraction) -> None:
    """Marks the three questions with arrows and numbers."""
    better, worse = result.curves["pretrained"], result.curves["scratch"]
    _span(axes, 1, worse.accuracy[1], better.accuracy[1])
    _number(axes, 1, 100 * (worse.accuracy[1] + 2 * better.accuracy[1]) / 3, "1")
    rise = int(np.argmax(np.diff(better.accuracy)))
    low, high = 100 * better.accuracy[rise], 100 * better.accuracy[rise + 1]
    axes.annotate(
        "", (rise + 1, high), (rise, low),
        arrowprops={"arrowstyle": "-|>", "color": _GREEN, "linewidth": 2.6, "shrinkA": 0,
                    "shrinkB": 0},
    )  # fmt: skip
    _number(axes, rise + 0.4, low + 0.4 * (high - low), "2")
    edge = len(better.accuracy) - 1
    tops = [_end(better), _end(worse)]
    for value, arm, curve in zip(tops, ARMS, (better, worse), strict=True):
        style = "-" if curve.plateau is not None else ":"
        axes.plot([edge, 1.11 * edge], [100 * value] * 2, style, color=_COLOURS[arm], linewidth=1)
    _span(axes, 1.07 * edge, tops[1], tops[0])
    _number(axes, 1.07 * edge, 50 * (tops[0] + tops[1]), "3")


def _end(curve: Curve) -> float:
    return curve.accuracy[-1] if curve.plateau is None else curve.plateau


def _span(axes: "Axes", x: float, low: float, high: float) -> None:
    axes.annotate(
        "", (x, 100 * high), (x, 100 * low),
        arrowprops={"arrowstyle": "<|-|>", "color": _GREEN, "linewidth": 1.4, "shrinkA": 0,
                    "shrinkB": 0},
    )  # fmt: skip


def _draw_labels(axes: "Axes", certificate: Certificate) -> None:
    """Draws accuracy over the number of labels: measured, forecast with its band, and both arms."""
    from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: PLC0415

    labels = certificate.labels
    ticks = [result.images for result in certificate.fractions]
    if labels is not None:
        sizes = np.array(labels.sizes)
        shares = 100 * np.array([labels.low, labels.accuracy, labels.high])
        band = [each for each in labels.band if each.labels >= labels.sizes[-1]]
        x = [each.labels for each in band]
        ends = 100 * np.array([each.new_images for each in band])
        axes.fill_between(x, ends[:, 0], ends[:, 1], color=_GREEN, alpha=0.15, linewidth=0)
        axes.plot(x, [100 * each.accuracy for each in band], ":", color=_GREEN, linewidth=2,
                  label="forecast, 95% band")  # fmt: skip
        axes.vlines(sizes, shares[0], shares[2], color=_GREEN, linewidth=1.2)
        axes.plot(sizes, shares[1], "D-", color=_GREEN, markersize=4, linewidth=1,
                  label="head on frozen features")  # fmt: skip
        axes.axvline(labels.images, color=_MUTED, linewidth=1, linestyle=":")
        axes.annotate(
            "labels now", (labels.images, 0), (-4, 4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right", va="bottom", color=_MUTED, fontsize=8.5,
            rotation=90,
        )  # fmt: skip
        ticks = [labels.sizes[0], labels.sizes[3], labels.images, labels.expected[-1].labels]
    for arm in ARMS:
        ends_of = [100 * r.curves[arm].accuracy[-1] for r in certificate.fractions]
        images = [r.images for r in certificate.fractions]
        epochs = len(certificate.fractions[-1].curves[arm].accuracy) - 1
        axes.plot(images, ends_of, _LINES[arm], color=_COLOURS[arm], marker="o", markersize=4.5,
                  label=f"{_NAMES[arm]}, {counted(epochs, 'epoch')}")  # fmt: skip
    title = "More labels" if labels is None else f"Would twice as many labels help? {labels.answer}"
    _style(axes, "training images (logarithmic)", title)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted(set(ticks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(top=102)
