"""What is printed of a classifier that gives an image any number of labels."""

from headstart.evaluation.label_metrics import SetMetrics
from headstart.text import percent, percent_range

COLUMNS = ("label", "images", "AP", "95% interval", "threshold", "precision", "recall", "F1")


def label_lines(metrics: SetMetrics) -> list[str]:
    """Returns the results over all labels as lines."""
    return [
        f"micro-F1 {percent(metrics.micro_f1)} (95% interval "
        f"{percent_range(metrics.micro_f1_interval)}), macro-F1 {percent(metrics.macro_f1)} "
        f"({percent_range(metrics.macro_f1_interval)}), all labels right on "
        f"{percent(metrics.exact)} of the images",
        f"log loss {metrics.log_loss:.4f} ({metrics.log_loss_uncalibrated:.4f} before "
        f"calibration), calibration error {percent(metrics.ece)}",
    ]


def label_rows(metrics: SetMetrics) -> list[tuple[str, ...]]:
    """Returns the cells of `COLUMNS` for each label."""
    return [
        (
            each.name,
            str(each.n),
            percent(each.average_precision),
            percent_range(each.average_precision_interval),
            f"{each.threshold:.2f}",
            *map(percent, (each.precision, each.recall, each.f1)),
        )
        for each in metrics.labels
    ]
