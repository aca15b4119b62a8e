"""`MODEL_CARD.md` in the bundle: intended use, training data, results and limits.

The format is that of Hugging Face: YAML metadata between two lines of dashes, then Markdown.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.artifacts.bundle_spec import BundleSpec, read_spec
from headstart.artifacts.files import write_text
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_metrics, read_record
from headstart.artifacts.set_results import read_set_metrics
from headstart.backbones.places import FEATURES, INPUT
from headstart.evaluation.intervals import basis
from headstart.evaluation.metrics import ClassMetrics, Metrics
from headstart.evaluation.statistics import Interval
from headstart.progress import format_duration
from headstart.report.label_page import figures
from headstart.report.templates import templates
from headstart.text import counted, percent, percent_range

WEAKEST = 5
"""How many of the weakest classes and of the most frequent confusions are named."""

HUB_LICENCES = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-4.0",
        "gpl-3.0",
        "lgpl-3.0",
        "agpl-3.0",
        "mpl-2.0",
        "unknown",
    ]
)
"""Licence names that the Hub knows; any other is `other`, with its name beside it."""

# Characters that JSON writes verbatim but YAML forbids or folds: control characters, line
# separators, byte order marks and lone surrogates, which UTF-8 cannot hold either.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
# Markdown reads an underscore as emphasis at the edge of a word, and literally inside it.
_MARKDOWN = re.compile(r"([\\`*\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_]))")


def write_model_card(folder: Path) -> Path:
    """Writes the model card of a run into its bundle and returns its path.

    Everything in it comes from the run folder.

    Raises:
        RunError: If the folder is not a finished run.
        DiskFullError: If there is no space left.
    """
    record, spec = read_record(folder), read_spec(folder / "bundle")
    if record.task == "multilabel":
        return _write_label_card(folder, record, spec)
    metrics = read_metrics(folder)
    # Names from users go through the filter `text`.
    environment = templates(escape=False)
    environment.filters |= {
        "text": text, "percent": percent, "interval": percent_range, "duration": format_duration,
    }  # fmt: skip
    environment.globals |= {"counted": counted, "basis": basis}
    tested = [each for each in metrics.classes if each.recall is not None]
    card = environment.get_template("model_card.md").render(
        front=front_matter(record, metrics, spec),
        record=record,
        metrics=metrics,
        spec=spec,
        trained=_trained(record),
        figures=_figures(metrics),
        weak=_weak(tested),
        untested=[each.name for each in metrics.classes if each.recall is None],
        confusions=metrics.top_confusions[:WEAKEST],
        command=fenced(record.command) if record.command else "",
        versions=", ".join(f"{name} {number}" for name, number in record.versions.items()),
    )
    path = folder / "bundle" / "MODEL_CARD.md"
    write_text(path, card)
    return path


def _write_label_card(folder: Path, record: RunRecord, spec: BundleSpec) -> Path:
    """Writes the model card of a run with any number of labels an image."""
    metrics = read_set_metrics(folder)
    environment = templates(escape=False)
    environment.filters |= {"text": text, "percent": percent, "interval": percent_range}
    environment.globals |= {"counted": counted, "basis": basis}
    shares = {
        "mean_average_precision": (
            "Mean average precision",
            metrics.mean_average_precision,
            metrics.mean_average_precision_interval,
        ),
        "f1": ("Micro F1", metrics.micro_f1, metrics.micro_f1_interval),
    }
    card = environment.get_template("label_card.md").render(
        front=_front_matter(record, shares, spec),
        record=record,
        metrics=metrics,
        spec=spec,
        figures=figures(metrics),
        untested=any(not each.n for each in metrics.labels),
        versions=", ".join(f"{name} {number}" for name, number in record.versions.items()),
    )
    path = folder / "bundle" / "MODEL_CARD.md"
    write_text(path, card)
    return path


def front_matter(record: RunRecord, metrics: Metrics, spec: BundleSpec) -> str:
    """Returns the metadata as YAML, with strings quoted as in JSON, which YAML accepts."""
    shares = {
        "accuracy": ("Accuracy", metrics.accuracy, metrics.accuracy_interval),
        "balanced_accuracy": (
            "Balanced accuracy", metrics.balanced_accuracy, metrics.balanced_accuracy_interval,
        ),
        "f1": ("Macro F1", metrics.macro_f1, metrics.macro_f1_interval),
    }  # fmt: skip
    return _front_matter(record, shares, spec)


def _front_matter(
    record: RunRecord, shares: Mapping[str, tuple[str, float, Interval]], spec: BundleSpec
) -> str:
    licence = spec.licence.lower()
    known = licence in HUB_LICENCES
    base = _hub_name(spec)
    measured = [
        {
            "type": kind,
            "value": value,
            "name": f"{name} (95% interval {interval[0]:.4f} to {interval[1]:.4f})",
        }
        for kind, (name, value, interval) in shares.items()
    ]
    data: dict[str, Any] = {
        "license": licence if known else "other",
        **({} if known else {"license_name": spec.licence}),
        "library_name": "headstart",
        "tags": ["image-classification", "transfer-learning", "headstart", "timm"],
        "pipeline_tag": "image-classification",
        **({"base_model": base} if base else {}),
        "metrics": list(shares),
        "model-index": [
            {
                "name": f"{record.data_name} {record.backbone}",
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": {
                            "type": "imagefolder", "name": record.data_name, "split": "test",
                        },
                        "metrics": measured,
                    }
                ],
            }
        ],
    }  # fmt: skip
    return "\n".join(_yaml(data))


def text(value: object) -> str:
    r"""Returns any value as text that is safe inside a line of Markdown.

    Example:
        >>> print(text("a*b c"))
        a\*b c
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return _MARKDOWN.sub(r"\\\1", line)


def fenced(code: str) -> str:
    """Returns a fenced code block whose fence is longer than any fence in the code."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    printable = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in code
    )
    return f"{fence}sh\n{printable}\n{fence}"


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Returns the lines of YAML for mappings, lists and scalars."""
    if isinstance(value, Mapping):
        lines = []
        for key, inner in value.items():
            if isinstance(inner, Mapping | list):
                lines += [f"{indent}{key}:", *_yaml(inner, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {_scalar(inner)}")
        return lines
    lines = []
    for inner in value:
        if isinstance(inner, Mapping | list):
            first, *rest = _yaml(inner, indent + "  ")
            lines += [f"{indent}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{indent}- {_scalar(inner)}")
    return lines


def _scalar(value: str | float) -> str:
    """Returns a scalar as JSON that is valid YAML, too."""
    written = json.dumps(value, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _hub_name(spec: BundleSpec) -> str:
    """Returns the name of the pretrained network on the Hub, or an empty string."""
    choice = spec.recipe.get("backbone")
    if isinstance(choice, dict) and choice.get("weights", "pretrained") != "pretrained":
        return ""
    from timm.models import get_pretrained_cfg  # noqa: PLC0415 - heavy

    try:
        config = get_pretrained_cfg(spec.backbone)
    except (RuntimeError, ValueError):
        return ""
    if config is None or not config.hf_hub_id:
        return ""
    whole = not config.hf_hub_id.endswith("/")
    return str(config.hf_hub_id) if whole else f"{config.hf_hub_id}{spec.backbone}"


def _trained(record: RunRecord) -> str:
    """Returns a phrase for the part of the network that was trained."""
    if record.head_alone or record.boundary == FEATURES:
        return "the head only, on features of the frozen backbone"
    if record.boundary == INPUT:
        return "the whole network"
    boundary = text(record.boundary)
    return f"everything after {boundary}; the layers before it keep their pretrained weights"


def _figures(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Returns the test results as (name, value, 95% interval)."""
    shares = [
        ("Accuracy", metrics.accuracy, metrics.accuracy_interval),
        ("Balanced accuracy", metrics.balanced_accuracy, metrics.balanced_accuracy_interval),
        ("Macro F1", metrics.macro_f1, metrics.macro_f1_interval),
    ]
    return [
        *((name, percent(value), percent_range(ends)) for name, value, ends in shares),
        ("Log loss", f"{metrics.log_loss:.3f}", ""),
        ("Calibration error", percent(metrics.ece), ""),
    ]


def _weak(tested: Sequence[ClassMetrics]) -> list[ClassMetrics]:
    """Returns the classes with the lowest recall, without those that are always right."""
    imperfect = [each for each in tested if each.recall is not None and each.recall < 1]
    return sorted(imperfect, key=lambda each: (each.recall, -each.n, each.name))[:WEAKEST]
