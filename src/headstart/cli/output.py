"""Output of the commands: tables for people, JSON or CSV for programs."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from headstart.names import printable, printable_json
from headstart.text import counted, listed, percent, percent_range, wrapped

if TYPE_CHECKING:
    from pydantic import BaseModel

    from headstart.ablation.record import Ledger
    from headstart.artifacts.records import RunRecord
    from headstart.backbones.listing import BackboneInfo
    from headstart.data.audit import Audit
    from headstart.evaluation.metrics import Metrics
    from headstart.inference.predict import Prediction
    from headstart.inference.run import Run
    from headstart.recipes.reference import MethodPage
    from headstart.search.leaderboard import Row


def say(text: object = "", *, error: bool = False) -> None:
    """Prints a text; characters in it that would control the terminal are shown as escapes.

    On a terminal, long lines are broken between words.

    Args:
        text: One or more lines.
        error: Whether it goes to standard error.
    """
    stream = sys.stderr if error else sys.stdout
    shown = printable(str(text), keep="\n")
    print(wrapped(shown, get_terminal_size().columns) if stream.isatty() else shown, file=stream)


def print_json(value: Any) -> None:
    """Prints plain data as JSON."""
    print(printable_json(json.dumps(value, indent=1, ensure_ascii=False)))


def print_model(model: "BaseModel") -> None:
    """Prints a model as JSON."""
    print(printable_json(model.model_dump_json(indent=1)))


def print_audit(audit: "Audit") -> None:
    """Prints how a data set was understood, what is wrong with it, and a summary."""
    from headstart.data.audit import summary_rows

    if audit.understood is not None:
        say(audit.understood)
    rows = summary_rows(audit)
    if rows:
        print_table(("subject", "severity", "finding"), rows)
    found = [
        counted(number, noun)
        for noun, severity in (("warning", "warning"), ("remark", "info"))
        if (number := sum(each.severity == severity for each in audit.findings))
    ]
    several = audit.understood is not None and audit.understood.images is not None
    names = ("label", "labels") if several else ("class", "classes")
    classes = counted(len(audit.classes), *names)
    say(
        f"summary: {audit.n_usable:,} of {counted(audit.n_images, 'image')} can be used, in "
        f"{classes}; {listed(found) or 'no problems found'}."
    )


def print_run(run: "Run", as_json: bool = False, verbose: bool = False) -> None:
    """Prints the results of a finished run, the sealed test first.

    Args:
        run: The run.
        as_json: Whether to print all of it as JSON.
        verbose: Whether to print what each method did, rather than how many acted.
    """
    from headstart.evaluation.label_metrics import SetMetrics

    if as_json:
        parts = {name: getattr(run, name).model_dump(mode="json") for name in ("record", "metrics")}
        print_json({"folder": str(run.folder), **parts})
        return
    from headstart.inference.notebook import headline
    from headstart.progress import format_duration

    metrics, record = run.metrics, run.record
    say(f"sealed test: {headline(metrics)}")
    if isinstance(metrics, SetMetrics):
        from headstart.cli.label_output import COLUMNS, label_lines, label_rows

        say("\n".join(label_lines(metrics)))
        _print_further(record)
        if len(metrics.labels) <= 30:
            print_table(COLUMNS, label_rows(metrics))
    else:
        _print_figures(metrics, record)
    _print_acted(record, verbose)
    say(f"kept: {record.chosen}")
    say(f"ended after {format_duration(record.seconds)}: {record.stop_reason}")
    if not isinstance(metrics, SetMetrics):
        _print_classes(metrics)
    say(f"report: {run.folder / 'report.html'}")
    say(f"use it: `headstart predict {run.folder} IMAGE …`")


def _print_figures(metrics: "Metrics", record: "RunRecord") -> None:
    """Prints the figures of a classifier of one label an image."""
    say(
        f"balanced accuracy {percent(metrics.balanced_accuracy)}, "
        f"macro-F1 {percent(metrics.macro_f1)}, log loss {metrics.log_loss:.3f}, "
        f"calibration error {percent(metrics.ece)}"
    )
    if metrics.temperature != 1 and metrics.log_loss_uncalibrated is not None:
        say(
            f"without its temperature: log loss {metrics.log_loss_uncalibrated:.3f}, "
            f"calibration error {percent(metrics.ece_uncalibrated)}"
        )
    if record.calibration is not None:
        say(f"temperature: {record.calibration.described}")
    _print_further(record)
    for alarm in record.alarms:
        say(f"ALARM: {alarm}")
    if metrics.retrieval is not None:
        recalls = metrics.retrieval.recall_at.items()
        say(
            "nearest training images: "
            + ", ".join(f"recall@{k} {percent(share)}" for k, share in recalls)
            + f", MAP@R {percent(metrics.retrieval.map_at_r)}"
        )


def _print_further(record: "RunRecord") -> None:
    """Prints what became of an earlier run that was continued, and of unlabelled images."""
    lines = record.continued.lines if record.continued else []
    for term, text in [*lines, *(record.unlabelled.lines if record.unlabelled else [])]:
        say(f"{term[0].lower()}{term[1:]}: {text}")


def _print_classes(metrics: "Metrics") -> None:
    """Prints the results of each class, and the most frequent mistakes."""
    if len(metrics.classes) <= 30:
        rows = [
            (each.name, str(each.n), *map(percent, (each.precision, each.recall, each.f1)))
            for each in metrics.classes
        ]
        print_table(("class", "images", "precision", "recall", "F1"), rows)
    for mistake in metrics.top_confusions[:5]:
        times = counted(mistake.count, "time")
        say(f"confused: {mistake.actual!r} taken for {mistake.predicted!r} {times}")


def _print_acted(record: "RunRecord", verbose: bool) -> None:
    """Prints what each method did, or how many acted and which did not."""
    if verbose:
        acted = [
            (each.family, each.method, each.state, str(each.first_step or "–"), each.evidence)
            for each in record.acted
        ]
        print_table(("family", "method", "state", "first step", "effect"), acted)
        return
    by_state: dict[str, list[str]] = {}
    for each in record.acted:
        by_state.setdefault(each.state, []).append(each.family)
    number = counted(len(by_state.pop("acted", [])), "method")
    others = "".join(f"; {state}: {listed(names)}" for state, names in by_state.items())
    say(f"{number} acted{others} (see --verbose or the report)")


def print_leaderboard(rows: "Sequence[Row]", as_json: bool, as_csv: bool) -> None:
    """Prints the trials of a search, best first."""
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow([field.name for field in fields(rows[0])])
        writer.writerows(asdict(row).values() for row in rows)
        return
    table = [
        (
            str(row.rank),
            str(row.trial),
            str(row.epochs),
            "–" if row.val_loss is None else f"{row.val_loss:.3f}",
            percent(row.val_accuracy),
            "–" if row.interval is None else percent_range(row.interval),
            f"failed: {row.failed}" if row.failed else row.changes or "starting recipe",
        )
        for row in rows
    ]
    share = rows[0].right_share
    columns = ("rank", "trial", "epochs", "log loss", share, "95% interval", "recipe")
    print_table(columns, table)


def print_importance(shares: Sequence[tuple[str, float]], as_json: bool, as_csv: bool) -> None:
    """Prints the importance of each choice of a search."""
    from headstart.search.leaderboard import TOO_FEW

    if not shares:
        say(TOO_FEW, error=True)
    if as_json:
        print_json([{"choice": name, "share": share} for name, share in shares])
    elif as_csv:
        csv.writer(sys.stdout).writerows([("choice", "share"), *shares])
    elif shares:
        print_table(("choice", "share"), [(name, percent(share)) for name, share in shares])


def print_ledger(ledger: "Ledger", as_json: bool, as_csv: bool) -> None:
    """Prints the effect of each method."""
    if as_json:
        print_model(ledger)
        return
    several = any(row.mean_average_precision is not None for row in ledger.rows)
    if as_csv:
        columns = [
            "part", "name", "change", "epochs", "seeds", "images", "accuracy", "loss", "gain",
            "low", "high", "loss_gain", "p", "p_holm", "seconds", "acted", "failed",
        ]  # fmt: skip
        if several:
            columns += ["mean_average_precision", "precision_gain", "precision_low",
                        "precision_high"]  # fmt: skip
        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore")
        writer.writeheader()
        for row in ledger.rows:
            low, high = row.interval or (None, None)
            of_precision = row.precision_interval or (None, None)
            acted = "; ".join(f"{each.state}: {each.evidence}" for each in row.acted)
            values = {**row.model_dump(), "name": row.name, "low": low, "high": high}
            values |= dict(zip(("precision_low", "precision_high"), of_precision, strict=True))
            writer.writerow({**values, "acted": acted})
        return
    from headstart.report.ablation import shown

    told = ("exactly their labels",) if several else ("accuracy",)
    names: tuple[str, ...] = (
        "recipe", "gain, points", "95% interval", "p, corrected", *told, "log loss", "change",
        "observed effect",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (r.name, r.gain, r.interval, r.p, r.accuracy, r.loss, r.change, r.acted)
        for r in map(shown, ledger.rows)
    ]
    if several:
        names = (names[0], "mAP", "gain in mAP", "95% interval", *names[1:])
        rows = [
            (row[0], r.precision, r.precision_gain, r.precision_interval, *row[1:])
            for row, r in zip(rows, map(shown, ledger.rows), strict=True)
        ]
    print_table(names, rows)
    if ledger.left_out:
        say(f"not measured for lack of time: {', '.join(ledger.left_out)}", error=True)


def print_predictions(predictions: "list[Prediction]", as_json: bool) -> None:
    """Prints the class of each image, or its prediction set."""
    if as_json:
        print_json([p.model_dump() for p in predictions])
        return
    rows = [
        (p.image, "–", "–", "")
        if p.error
        else (p.image, _shown_labels(p), percent(p.probability or None), p.warning)
        if p.coverage is None
        else (
            p.image,
            ", ".join(f"{name} {percent(p.probabilities[name])}" for name in p.classes),
            percent(round(sum(p.probabilities[name] for name in p.classes), 9)),
            p.warning,
        )
        for p in predictions
    ]
    coverage = next((p.coverage for p in predictions if p.coverage is not None), None)
    several = any(p.labels is not None for p in predictions)
    which = "labels, most probable first" if several else "class"
    if coverage is not None:
        which = f"prediction set ({percent(coverage, 0)} coverage)"
    shown = ("image", which, "probability", "warning")
    if any(p.error for p in predictions):
        with_errors = [(*row, p.error) for row, p in zip(rows, predictions, strict=True)]
        print_table((*shown, "error"), with_errors)
    else:
        print_table(shown, rows)
    unusual = sum(p.other_depth for p in predictions)
    outside = [p for p in predictions if p.out_of_distribution]
    warn_of(
        len(predictions), unusual, len(outside), rejected=not any(p.probability for p in outside)
    )


def _shown_labels(prediction: "Prediction") -> str:
    """Returns the class of an image, or its labels with their probabilities."""
    labels, told = prediction.labels, prediction.probabilities
    if not labels:
        return prediction.label
    return ", ".join(f"{name} {percent(told[name])}" for name in labels)


def warn_of(
    images: int, other_depth: int, out_of_distribution: int, *, rejected: bool = False
) -> None:
    """Says how many images are unlike those of the training; rejected ones got no class."""
    if other_depth:
        say(
            f"warning: {other_depth:,} of {counted(images, 'image')} "
            f"{'has' if other_depth == 1 else 'have'} values of a type that no training image had "
            "(see the warnings). Convert such files as the training images were.",
            error=True,
        )
    if out_of_distribution and rejected:
        say(
            f"{out_of_distribution:,} of {counted(images, 'image')} "
            f"{'is' if out_of_distribution == 1 else 'are'} unknown: unlike the training images.",
            error=True,
        )
    elif out_of_distribution:
        say(
            f"warning: {out_of_distribution:,} of {counted(images, 'image')} "
            f"{'is' if out_of_distribution == 1 else 'are'} out of distribution (unlike the "
            "training images). Do not rely on the predicted class there.",
            error=True,
        )


def print_rows(text: str) -> None:
    """Prints rows for a program; on a terminal, their control characters are escapes."""
    print(printable(text, keep="\n") if sys.stdout.isatty() else text, end="", flush=True)


def print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table on a terminal, and tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(map(printable, row)))
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*(Column(Text(printable(column))) for column in columns), box=None)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def print_methods(pages: "Sequence[MethodPage]") -> None:
    """Prints the full description of methods."""
    for page in pages:
        say(f"{page.family} = {page.name}\n{page.what}\nOn small data: {page.advice}")
        rows = [(f.name, f.default, f.allowed, f.searched or "–", f.meaning) for f in page.fields]
        if rows:
            print_table(("field", "default", "allowed", "searched", "meaning"), rows)
        say()


def print_backbones(infos: "Sequence[BackboneInfo]") -> None:
    """Prints a list of backbones."""

    def number(value: float | None, digits: int) -> str:
        return "?" if value is None else f"{value:.{digits}f}"

    rows = [
        (
            info.name,
            info.weights,
            number(info.megabytes, 0),
            number(info.gmacs, 2),
            str(info.resolution),
            number(info.accuracy, 1),
            info.licence,
            ("yes" if info.screened else "no") + (f": {info.why}" if info.why else ""),
        )
        for info in infos
    ]
    columns = (
        "backbone", "weights", "MB", "GMACs", "pixels", "ImageNet, %", "licence",
        "looked at by a search",
    )  # fmt: skip
    print_table(columns, rows)
