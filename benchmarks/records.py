"""One run of `headstart fit` as one record, kept as a line of JSON; and what pages say of records.

Which test images were right goes into the record, so that runs can be compared image by image
when their folders are gone.
"""

import json
import os
import re
import shutil
import sys
import tomllib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measure import commit, machine, run_measured, tail, versions

Record = dict[str, Any]

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / ".bench"
DOCS = HERE.parent / "docs"
DATA = Path(os.environ.get("HEADSTART_DATA", HERE.parent.parent / "shared" / "data"))
# A GPU would make this another benchmark; hubs would make it another machine's.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
PACKAGES = ("headstart", "torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow", "scipy")

_ID_CHARACTERS = 8


def fit(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    device: str = "no GPU used",
) -> Record:
    """Runs `headstart fit ARGUMENTS` in a process with an empty cache and returns its record.

    Args:
        arguments: All but `--out`.
        folder: Emptied; the run and its log stay there, the cache does not.
        environment: Added to that of this process.
        device: Of the record's machine.

    Raises:
        RuntimeError: The command failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run, log, cache = folder / "run", folder / "log.txt", folder / "cache"
    command = [sys.executable, "-m", "headstart", "fit", *arguments, "--out", str(run)]
    try:
        measured = run_measured(command, log, {**environment, "HEADSTART_CACHE": str(cache)})
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    if measured.returncode != 0:
        raise RuntimeError(f"exit status {measured.returncode}, log {log}:\n{tail(log)}")
    return {
        **read_run(run),
        "wall_s": round(measured.wall_s, 2),
        "peak_anon_mb": round(measured.peak_anon_mb, 1),
        "peak_rss_anon_mb": round(measured.peak_rss_anon_mb, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(device),
        "versions": versions(sys.executable, PACKAGES),
        "commit": commit(),
    }


def read_run(run: Path) -> Record:
    """Returns what a finished run found, without its tables by class: 196 classes make 38,416."""
    from headstart.artifacts.run import read_metrics, read_predictions, read_record

    tables = {"classes", "class_names", "confusion", "top_confusions"}
    # Paths of this machine, and what the record says itself.
    left_out = {"command", "data_root", "source", "request", "classes", "machine", "versions"}
    predictions = sorted(read_predictions(run), key=lambda prediction: prediction.path)
    return {
        "metrics": read_metrics(run).model_dump(mode="json", exclude=tables),
        "run": read_record(run).model_dump(mode="json", exclude=left_out),
        "recipe": tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8")),
        "trials": Counter(
            f"{trial['stage']}, {trial['state']}" if "stage" in trial else trial["state"]
            for trial in read_trials(run)
        ),
        # In the order of their paths: a hash of each path, and whether it was right.
        "images": "".join(f"{zlib.crc32(each.path.encode()):08x}" for each in predictions),
        "right": "".join(str(int(each.prediction == each.label)) for each in predictions),
    }


def read_trials(run: Path) -> list[Record]:
    """Returns the lines of a search's journal; none where nothing was searched."""
    return read_lines(run / "trials.jsonl")


def read_lines(path: Path) -> list[Record]:
    """Returns the records of a file of JSON lines, none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def right(record: Record) -> NDArray[np.bool_]:
    """Returns whether each test image was right, in the order of `image_ids`."""
    return np.array(list(record["right"])) == "1"


def image_ids(record: Record) -> list[str]:
    """Returns a short hash of the path of each test image."""
    text = record["images"]
    return [text[at : at + _ID_CHARACTERS] for at in range(0, len(text), _ID_CHARACTERS)]


def check_paired(first: Record, second: Record) -> None:
    """Refuses to compare runs on different images.

    Raises:
        ValueError: The two were tested on different images.
    """
    if first["images"] != second["images"]:
        raise ValueError(
            "The two runs were not tested on the same images, so they cannot be compared."
        )


def share_removed(
    naive: Sequence[Record], better: Sequence[Record]
) -> tuple[float, float, float] | None:
    """Returns the share of the naive error that is removed, with a 95% interval over test images.

    Args:
        naive: Runs that differ in their seed alone, on one test set.
        better: The same of what is compared with them.

    Returns:
        The share and the ends of its BCa interval, or None where nothing was wrong.
    """
    from headstart.evaluation.statistics import bootstrap_interval

    check_paired(naive[0], better[0])
    before, after = (
        1 - np.mean([right(record) for record in records], axis=0) for records in (naive, better)
    )
    if not before.any():
        return None

    def share(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 - weights @ after / np.maximum(weights @ before, 1e-12)

    low, high = bootstrap_interval(share, len(before))
    return float(1 - after.sum() / before.sum()), low, high


def accuracy(records: Sequence[Record]) -> str:
    """Returns the mean accuracy over seeds, with Wilson's interval for that many images."""
    from headstart.evaluation.intervals import wilson

    share, n = float(np.mean([right(record) for record in records])), len(records[0]["right"])
    low, high = wilson(share, n)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def shown_p(p: float) -> str:
    """Returns a p-value as a page shows it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def did(record: Record) -> str:
    """Returns what a run kept, why it ended, and its steps, as Markdown."""
    run = record["run"]
    steps = "".join(
        f"\n  - {step['stage']}: {in_todays_words(step['planned'])}"
        + (f"; {in_todays_words(step['happened'])}" if step["happened"] else "")
        + (f" ({step['seconds']:.1f} s)" if step["seconds"] is not None else "")
        for step in run["plan"]
    )
    reason = in_todays_words(run["stop_reason"])
    return f"kept {run['chosen']}; ended because {reason}.{steps}"


def in_todays_words(text: str) -> str:
    """Returns what an earlier version wrote into a record with plurals and terms of today.

    Example:
        >>> in_todays_words("1 recipes for 3 epochs; 1 trials; best: x, 35 of 36 right")
        '1 recipe for 3 epochs; 1 trial; best: x, 35 of 36 correct'
    """
    text = re.sub(r"\b1 (recipe|trial|head|epoch|view|image|backbone)s\b", r"1 \1", text)
    text = re.sub(r"(\d+ of \d+) right\b", r"\1 correct", text)
    text = re.sub(r"cross-validated in (\d+) parts", r"\1-fold cross-validated", text)
    text = re.sub(r"(\d) %", r"\1%", text)
    return text.replace(
        "fine-tuning does not pay: no trial validates better than the head that it began with",
        "fine-tuning does not help: no trial has a lower validation loss than its initial head",
    ).replace("kept are weights", "kept: weights")


def provenance(records: Sequence[Record]) -> list[str]:
    """Returns lines on the machines, versions, commits and dates of the records."""

    def every(name: str, between: str = ", ") -> str:
        return between.join(sorted({record[name] for record in records}))

    used = {f"{name} {value}" for record in records for name, value in record["versions"].items()}
    return [
        f"- Machine: {every('machine', '; ')}.",
        f"- Versions: {', '.join(sorted(used))}; headstart at commit {every('commit')}.",
        f"- Dates: {every('date')}.",
    ]
