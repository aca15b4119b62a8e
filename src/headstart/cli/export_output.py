"""What `export` prints: where an export is, and its figures beside those of the run."""

from collections.abc import Iterator

from headstart.cli.output import say
from headstart.export.export import Exported
from headstart.export.parity import Parity
from headstart.export.set_parity import SetParity
from headstart.text import counted, data_size, listed, percent, percent_range


def print_export(done: Exported) -> None:
    """Prints where an export is, and its figures beside those of the run."""
    size = data_size(sum(done.files.values()))
    say(f"export: {done.folder} ({size}: {listed(list(done.files))})")
    for line in (*_figures(done), *_own_preprocessing(done)):
        say(line)
    for note in done.notes:
        say(f"note: {note}")


def _figures(done: Exported) -> Iterator[str]:
    parity = done.parity
    yield (
        f"{counted(parity.images, 'sealed test image')} in {done.runtime}: {_agreement(parity)}, "
        f"and the largest difference of a probability is {parity.largest_difference:.2g}"
    )
    yield from _of_sets(parity) if isinstance(parity, SetParity) else _of_classes(parity)


def _agreement(parity: Parity | SetParity) -> str:
    if isinstance(parity, Parity):
        return f"{percent(parity.agreement)} get the class that the run gave them"
    same = 1 - len(parity.differing) / parity.images
    return (
        f"{percent(same)} get the labels that the run gave them (F1 of the labels "
        f"{percent(parity.agreement)})"
    )


def _of_classes(parity: Parity) -> Iterator[str]:
    yield (
        f"accuracy {percent(parity.accuracy)} (95% interval "
        f"{percent_range(parity.accuracy_interval)}), in the run "
        f"{percent(parity.recorded_accuracy)}"
    )
    if parity.loss or parity.differing:
        yield f"loss of accuracy: {_loss(parity)}, another class for {_names(parity)}"


def _of_sets(parity: SetParity) -> Iterator[str]:
    for name, found, interval, recorded in (
        (
            "mean average precision",
            parity.mean_average_precision,
            parity.mean_average_precision_interval,
            parity.recorded_mean_average_precision,
        ),
        ("micro F1", parity.micro_f1, parity.micro_f1_interval, parity.recorded_micro_f1),
    ):
        yield (
            f"{name} {percent(found)} (95% interval {percent_range(interval)}), in the run "
            f"{percent(recorded)}"
        )
    if parity.differing:
        yield f"loss of micro F1: {_loss(parity)}, other labels for {_names(parity)}"


def _loss(parity: Parity | SetParity) -> str:
    low, high = (100 * end for end in parity.loss_interval)
    return f"{100 * parity.loss:.1f} points (95% interval {low:.1f} to {high:.1f})"


def _names(parity: Parity | SetParity) -> str:
    more = len(parity.differing) - 5
    return listed(parity.differing[:5]) + (f" and {more} more" if more > 0 else "")


def _own_preprocessing(done: Exported) -> Iterator[str]:
    if (own := done.own_preprocessing) is not None:
        yield (
            f"with its own preprocessing of the files: {_agreement(own)}, largest difference "
            f"{own.largest_difference:.2g}"
        )
