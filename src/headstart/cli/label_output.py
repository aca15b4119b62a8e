"""Output of a classifier that gives an image any number of labels."""

from headstart.cli.output import print_table, say
from headstart.evaluation.label_metrics import SetMetrics
from headstart.text import percent, percent_range


def print_labels(metrics: SetMetrics) -> None:
    """Prints the results of a classifier that gives an image any number of labels."""
    say(
        f"micro-F1 {percent(metrics.micro_f1)} (95% interval "
        f"{percent_range(metrics.micro_f1_interval)}), macro-F1 {percent(metrics.macro_f1)} "
        f"({percent_range(metrics.macro_f1_interval)}), all labels right on "
        f"{percent(metrics.exact)} of the images"
    )
    say(
        f"log loss {metrics.log_loss:.4f} ({metrics.log_loss_uncalibrated:.4f} before calibration),"
        f" calibration error {percent(metrics.ece)}"
    )
    if len(metrics.labels) > 30:
        return
    rows = [
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
    names = ("label", "images", "AP", "95% interval", "threshold", "precision", "recall", "F1")
    print_table(names, rows)
