"""Every export on every data set, compared with the run on its sealed test images.

    python benchmarks/exports_table.py

trains a linear head on the frozen backbone for each data set, at `--resolution` pixels, exports it
to every target, and writes the table of docs/exports.md between its two marks. Of data sets with
more than `--classes` classes it takes the first. Every export is kept as a line of JSON as soon as
it is there; started again, the script does only what is missing.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from measure import commit, machine, markdown_table, write_whole
from records import BENCH, DATA, DOCS, read_lines

PAGE = DOCS / "exports.md"
START, END = "<!-- table by benchmarks/exports_table.py -->", "<!-- end of the table -->"
TARGETS = ("onnx", "int8", "openvino", "torch-export", "timm", "hub")
HEAD = ("head.features=last", "head.normalize=none")


def main() -> None:
    args = _options()
    records = read_lines(args.results)
    if not args.render:
        for folder in sorted(path for path in args.data.iterdir() if path.is_dir()):
            _run(folder, args, records)
    write_page(PAGE, records)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of data sets")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--classes", type=int, default=20, help="most classes of a data set")
    parser.add_argument("--render", action="store_true", help="only write the page")
    parser.add_argument("--results", type=Path, default=DOCS / "exports.jsonl", help="JSON lines")
    return parser.parse_args()


def _run(folder: Path, args: argparse.Namespace, records: list[dict[str, Any]]) -> None:
    """Exports a run on one data set to what is missing, and adds the figures to the records."""
    from headstart import fit

    key = {"data": folder.name, "resolution": args.resolution, "classes": args.classes}
    known = {each["target"] for each in records if each.items() >= key.items()}
    missing = [target for target in TARGETS if target not in known]
    if not missing:
        return
    (BENCH / "exports").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BENCH / "exports") as work:
        run = Path(work) / "run"
        settings = [f"backbone.resolution={args.resolution}", *HEAD]
        source = fewer_classes(folder, args.classes, Path(work) / "data")
        fit(source, strategy="head", epochs=0, settings=settings, out=run, progress=False)
        for target in missing:
            record = {**key, "target": target, **exported(run, target)}
            record |= {"machine": machine("no GPU used"), "commit": commit()}
            print(folder.name, target, record.get("refused") or record["parity"]["agreement"])
            records.append(record)
            write_whole(args.results, "".join(f"{json.dumps(each)}\n" for each in records))


def exported(run: Path, target: str) -> dict[str, Any]:
    """Returns the figures of an export, or why it was refused."""
    from headstart import export
    from headstart.errors import InputError

    try:
        done = export(run, to=target, progress=False)
    except InputError as error:
        return {"refused": str(error).partition("sealed test: ")[2] or str(error)}
    kept: dict[str, Any] = done.model_dump(
        mode="json", include={"files", "runtime", "parity", "own_preprocessing"}
    )
    return kept


def fewer_classes(folder: Path, most: int, copy: Path) -> Path:
    """Returns a folder of class folders, or a copy of its first classes if it has too many."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(classes) <= most:
        return folder
    for each in classes[:most]:
        shutil.copytree(each, copy / each.name)
    return copy


def write_page(page: Path, records: list[dict[str, Any]]) -> None:
    """Replaces the table between the two marks of the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    table = render(records) if records else "Not measured yet.\n"
    write_whole(page, f"{before}{START}\n{table}{END}{after}")


def render(records: list[dict[str, Any]]) -> str:
    """Returns the table, one row for each export."""
    rows = [_row(each) for each in sorted(records, key=lambda r: (r["data"], r["target"]))]
    names = ("data", "target", "test images", "same class", "largest difference", "accuracy, run",
             "accuracy, export", "loss in points, 95% interval", "MB")  # fmt: skip
    runtimes = sorted({each["runtime"] for each in records if "runtime" in each})
    first = records[0]
    return (
        f"A linear head on the frozen `tf_efficientnet_lite0` at {first['resolution']} pixels; of "
        f"data sets with more than {first['classes']} classes, the first {first['classes']}. "
        f"{', '.join(runtimes)}; {first['machine']}.\n\n{markdown_table(names, rows)}\n"
    )


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    name, target = record["data"], record["target"]
    if "refused" in record:
        return (name, target, "–", "–", "–", "–", "–", f"refused: {record['refused']}", "–")
    parity = record["parity"]
    low, high = (100 * end for end in parity["loss_interval"])
    return (
        name,
        target,
        str(parity["images"]),
        f"{parity['agreement']:.1%}",
        f"{parity['largest_difference']:.1g}",
        f"{parity['recorded_accuracy']:.1%}",
        f"{parity['accuracy']:.1%}",
        f"{100 * parity['loss']:.1f} ({low:.1f} to {high:.1f})",
        f"{sum(record['files'].values()) / 1e6:.1f}",
    )


if __name__ == "__main__":
    main()
