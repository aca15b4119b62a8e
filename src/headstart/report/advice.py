"""What to do next, from the figures of a run."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from headstart.artifacts.endings import ended_for_time
from headstart.artifacts.journal import Trial
from headstart.artifacts.records import RunRecord
from headstart.certificate.record import Certificate
from headstart.evaluation.metrics import ClassMetrics, Metrics
from headstart.progress import format_duration
from headstart.search.stopping import NOT_PAYING, enough
from headstart.text import counted, listed, percent, percent_range, sentence

_WEAKEST = 3
_BEHIND = 0.05
"""How far below that of the middle class the lower end of a recall must lie to be named."""
_WIDE = 0.1
"""Width of the interval of the accuracy above which more test images are proposed."""
_REASONS = {
    "label": ("has a doubtful label", "have doubtful labels"),
    "copies": ("has a copy with another label", "have copies with other labels"),
    "outlier": ("is far from its class", "are far from their classes"),
}  # fmt: skip


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Attributes:
        title: What to do, in a few words.
        why: The figures that it follows from, in sentences.
        section: Section of the report that shows more; may be empty.
        command: Command for it; may be empty.
    """

    title: str
    why: str
    section: str = ""
    command: str = ""


def what_next(
    record: RunRecord,
    metrics: Metrics,
    suspects: Sequence[dict[str, str]],
    trials: Sequence[Trial] = (),
    certificate: Certificate | None = None,
) -> list[Advice]:
    """Returns what would improve a classifier, or the knowledge about it, most likely first.

    Args:
        record: Record of the run.
        metrics: Metrics on the sealed test.
        suspects: Rows of the table of suspicious images.
        trials: Trials of its search.
        certificate: Its transfer certificate, with the forecast for more labels.
    """
    found = [
        check_labels(suspects),
        collect(metrics.classes),
        confused(metrics),
        more_labels(certificate),
        budget(record, trials),
        more_tests(metrics),
    ]
    return [each for each in found if each is not None]


def check_labels(suspects: Sequence[dict[str, str]]) -> Advice | None:
    """Proposes to look at the suspicious images, of which it counts the reasons and the classes."""
    if not suspects:
        return None
    kinds = Counter(row.get("kind", "") for row in suspects)
    reasons = [
        f"{number:,} {words[number > 1]}"
        for kind, words in _REASONS.items()
        if (number := kinds[kind])
    ]
    (label, most), *_ = Counter(row["label"] for row in suspects).most_common(1)
    where = f" Most of them are labelled “{label}” ({most})." if 1 < most < len(suspects) else ""
    return Advice(
        f"Look at the labels of {counted(len(suspects), 'image')}",
        (f"Of the images that were not sealed, {listed(reasons)}.{where} " if reasons else "")
        + "Correct what is wrong and run again.",
        "suspects",
    )


def collect(classes: Sequence[ClassMetrics]) -> Advice | None:
    """Proposes to collect images of the classes with the lowest lower end of their recall.

    It is low where the recall is low or where few images were tested. A class is named if it lies
    clearly below the middle one.
    """
    tested = [each for each in classes if each.recall is not None]
    if len(tested) < 2:
        return None
    middle = median(each.recall_interval[0] for each in tested)
    behind = [each for each in tested if each.recall_interval[0] < middle - _BEHIND]
    weakest = sorted(behind, key=lambda each: (each.recall_interval[0], each.name))[:_WEAKEST]
    if not weakest:
        return None
    figures = [
        f"{each.name} {percent(each.recall, 0)} of {counted(each.n, 'image')} "
        f"({percent_range(each.recall_interval, 0)})"
        for each in weakest
    ]
    return Advice(
        f"Collect more images of {listed([each.name for each in weakest])}",
        f"{'Its' if len(weakest) == 1 else 'Their'} recall is low or uncertain: {listed(figures)}; "
        "95% intervals in brackets.",
        "classes",
    )


def confused(metrics: Metrics) -> Advice | None:
    """Proposes to compare the two classes that are confused most often, if more than once."""
    if not metrics.top_confusions or metrics.top_confusions[0].count < 2:
        return None
    pair = metrics.top_confusions[0]
    images = next(each.n for each in metrics.classes if each.name == pair.actual)
    wrong = counted(metrics.n - metrics.correct, "mistake")
    return Advice(
        f"Compare {pair.actual} with {pair.predicted}",
        f"{pair.count} of {counted(images, 'image')} of {pair.actual} were taken for "
        f"{pair.predicted}, which is {pair.count} of {wrong}. If you cannot tell them apart "
        "either, sharper pictures or a single class for both help; else more images of both.",
        "confusion",
    )


def more_labels(certificate: Certificate | None) -> Advice | None:
    """Returns what the certificate forecasts for twice as many labels; None without a forecast."""
    if certificate is None or certificate.labels is None:
        return None
    titles = {
        "yes": "Label more images of all classes",
        "no": "More labels of the same kind would hardly help",
    }
    title = titles.get(certificate.labels.answer, "More labels may or may not help")
    return Advice(title, sentence(certificate.labels.why), "transfer")


def budget(record: RunRecord, trials: Sequence[Trial]) -> Advice | None:
    """Returns whether a longer budget would help, from why the run ended."""
    if not record.stop_reason:
        return None
    if not record.searched:
        return None if record.budget_s is None else _search(record)
    ended = f"This run ended because {record.stop_reason}."
    tried = [trial for trial in trials if trial.rung == 0]
    saturated = enough(tried, len(tried)) if tried else ""
    if saturated or NOT_PAYING in record.stop_reason:
        why = f"{ended} More data would help more." if NOT_PAYING in record.stop_reason else (
            f"After {counted(len(tried), 'recipe')}, {saturated}."
        )  # fmt: skip
        same = "Keep the budget as it is"
        title = "More trials would hardly help" if record.budget_s is None else same
        return Advice(title, why, "done")
    if record.budget_s is None:
        return None
    limit = format_duration(record.budget_s)
    again = _fit(record, 2 * record.budget_s)
    if ended_for_time(record.stop_reason):
        return Advice(
            f"Allow more than {limit}", f"{ended} More time would be used.", "done", again
        )
    if tried:
        ended += f" It tried {counted(len(tried), 'recipe')}, and a longer budget plans more."
    return Advice(f"A budget above {limit} may help a little", ended, "done", again)


def _search(record: RunRecord) -> Advice:
    """Proposes a search after a run that trained one recipe."""
    return Advice(
        "Search for a better recipe",
        f"This run trained one recipe. {sentence(record.stop_reason)} A search also compares heads "
        "and ways of training within the same budget, and keeps the best.",
        "done",
        _fit(record, record.budget_s or 0),
    )


def _fit(record: RunRecord, budget_s: float) -> str:
    """Returns the command that searches on the same images; empty without a path to them."""
    if not record.source:
        return ""
    flags = ["--budget", f"{budget_s / 60:.3g}m", *record.reading.flags]
    return shlex.join(["headstart", "fit", record.source, *flags])


def more_tests(metrics: Metrics) -> Advice | None:
    """Proposes more test images if the interval of the accuracy is wide."""
    low, high = metrics.accuracy_interval
    if high - low <= _WIDE:
        return None
    return Advice(
        "Test on more images for a surer result",
        f"{counted(metrics.n, 'test image')} leave an interval of {100 * (high - low):.0f} points, "
        f"from {percent(low, 0)} to {percent(high, 0)}. Four times as many independent images "
        "would halve it.",
        "figures",
    )
