"""headstart against fastai and against plain features with scikit-learn, on one machine.

Same images, same leak-safe split, same ImageNet weights of `tf_efficientnet_lite0`. Each arm is a
process of its own. Its figures are kept as soon as it ends, so a stopped benchmark continues where
it stopped. Run it with nothing else on the machine:

    python benchmarks/vs_fastai.py --out docs/vs_fastai.json

The table is written beside the JSON file, as Markdown.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from _arm import read_examples
from measure import (
    MEMORY_NOTE,
    Measurement,
    commit,
    machine,
    markdown_table,
    run_measured,
    tail,
    versions,
    write_whole,
)

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / ".bench"
FASTAI = "fastai==2.8.12"
# What fastai needs for vision besides torch. It also asks for spacy, which only text needs.
FASTAI_NEEDS = (
    "fastcore>=2.2.22",
    "fasttransform>=0.0.3",
    "fastprogress>=0.2.4",
    "fastdownload>=0.0.8,<2",
    "plum-dispatch<2.10",
    "pandas",
    "requests",
    "pyyaml",
    "cloudpickle",
)
# A GPU would make this another benchmark; hubs would make it another machine's.
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}

Run = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What every arm is given."""

    data: Path
    split: Path
    split_given: bool
    split_seed: int
    weights: Path
    fastai_python: str
    epochs: int
    budget: str
    work: Path


@dataclass(frozen=True)
class Job:
    """One process: its command, the file whose appearance ends it, and how to read the outcome."""

    command: list[str]
    ends_with: Path
    read: Callable[[], Run]


@dataclass(frozen=True)
class Arm:
    """One way to get a classifier.

    Attributes:
        title: How the table calls it, with `{epochs}` and `{budget}` to be filled in.
        job: Makes the process from the plan, a seed and an empty folder.
        settings: The parts of the plan on which its result depends besides the split.
    """

    title: str
    job: Callable[[Plan, int, Path], Job]
    settings: tuple[str, ...] = ()


def _script_job(command: list[str], plan: Plan, seed: int, folder: Path) -> Job:
    result = folder / "result.json"
    common = {"data": plan.data, "split": plan.split, "weights": plan.weights, "seed": seed}
    options = [part for name, value in common.items() for part in (f"--{name}", str(value))]
    return Job(
        [*command, *options, "--result", str(result)],
        ends_with=result,
        read=lambda: json.loads(result.read_text()),
    )


def _fastai(way: str) -> Callable[[Plan, int, Path], Job]:
    def job(plan: Plan, seed: int, folder: Path) -> Job:
        script = [plan.fastai_python, str(HERE / "_fastai_arm.py")]
        command = [*script, "--way", way, "--epochs", str(plan.epochs)]
        return _script_job(command, plan, seed, folder)

    return job


def _sklearn(plan: Plan, seed: int, folder: Path) -> Job:
    return _script_job([sys.executable, str(HERE / "_sklearn_arm.py")], plan, seed, folder)


def _headstart(strategy: str) -> Callable[[Plan, int, Path], Job]:
    def job(plan: Plan, seed: int, folder: Path) -> Job:
        run = folder / "run"
        budget = ["--budget", plan.budget] if strategy == "finetune" else []
        command = fit_command(plan.data, run, strategy=strategy, seed=seed, more=budget)
        # Unless a split was given, headstart finds the near-duplicates and splits on its own time.
        how = ["--split", str(plan.split)] if plan.split_given else _split_seed(plan.split_seed)
        return Job([*command, *how], run / "metrics.json", lambda: _read_headstart(run, plan.split))

    return job


def fit_command(
    data: Path, run: Path, *, strategy: str, seed: int, more: Sequence[str] = ()
) -> list[str]:
    fit = [sys.executable, "-m", "headstart", "fit", str(data), "--strategy", strategy]
    return [*fit, "--seed", str(seed), "--out", str(run), *more]


def _split_seed(seed: int) -> list[str]:
    return ["--split-seed", str(seed)]


def _read_headstart(run: Path, split: Path) -> Run:
    from headstart.artifacts.run import read_predictions, read_record
    from headstart.artifacts.run_start import EPOCHS

    if _parts(run / "split.csv") != _parts(split):
        raise ValueError(f"{run} was trained on another split than {split}.")
    predictions = read_predictions(run)
    record = read_record(run)
    how, images_per_s = f"kept the {record.chosen} head; {record.stop_reason}", None
    speeds = [epoch.images_per_s for epoch in EPOCHS.read(run) if epoch.images_per_s]
    if speeds:
        trained = record.n_train * len(speeds)
        suffix_s = sum(record.n_train / speed for speed in speeds)
        views_s = sum(step.seconds or 0 for step in record.plan if step.stage == "views")
        images_per_s = trained / suffix_s
        how = (
            f"kept the {record.chosen} weights; boundary `{record.boundary}`, {record.views} "
            f"cached views, {len(speeds)} epochs of the suffix; {record.stop_reason}; "
            f"{trained / (suffix_s + views_s):.1f} images/s with the making of the views counted in"
        )
    return {
        "wrong": [p.path for p in predictions if p.prediction != p.label],
        "n": len(predictions),
        "images_per_s": images_per_s,
        "how": how,
    }


def _parts(split: Path) -> dict[str, str]:
    return {example.path: example.part for example in read_examples(split)}


ARMS = {
    "fastai-frozen": Arm(
        "fastai `fit_one_cycle({epochs})`, frozen body", _fastai("frozen"), ("epochs",)
    ),
    "fastai-frozen-bn": Arm(
        "fastai `fit_one_cycle({epochs})`, frozen body, `train_bn=False`",
        _fastai("frozen-bn"),
        ("epochs",),
    ),
    "fastai-fine-tune": Arm("fastai `fine_tune({epochs})`", _fastai("fine-tune"), ("epochs",)),
    "sklearn": Arm("timm features, scikit-learn `LogisticRegression`", _sklearn),
    "headstart-head": Arm("`headstart fit --strategy head`", _headstart("head")),
    "headstart-finetune": Arm(
        "`headstart fit --strategy finetune --budget {budget}`", _headstart("finetune"), ("budget",)
    ),
}


def main() -> None:
    args = _options()
    work = BENCH / "vs_fastai"
    work.mkdir(parents=True, exist_ok=True)
    fastai_arms = [name for name in args.arms if name.startswith("fastai")]
    fastai_python = args.fastai_python or (fastai_venv() if fastai_arms else sys.executable)
    split = args.split or _make_split(args.data, args.split_seed, work)
    plan = Plan(
        data=args.data.resolve(),
        split=split.resolve(),
        split_given=args.split is not None,
        split_seed=args.split_seed,
        weights=args.weights.resolve() if args.weights else _weights(work),
        fastai_python=fastai_python,
        epochs=args.epochs,
        budget=args.budget,
        work=work,
    )
    digest = hashlib.sha256(json.dumps(sorted(_parts(plan.split).items())).encode()).hexdigest()
    base = {"data": args.data.name, "split": digest[:16]}
    _warm_up(plan, bool(fastai_arms))

    done = _read(args.out)
    failed = []
    for repeat in range(args.repeats):
        for name in args.arms:
            key = {**base, "arm": name, "repeat": repeat}
            key |= {each: getattr(plan, each) for each in ARMS[name].settings}
            if any(run["key"] == key for run in done) and not args.again:
                continue
            print(f"{name}, run {repeat + 1} of {args.repeats} ...", flush=True)
            try:
                run = _run_arm(name, plan, repeat)
            except (RuntimeError, ValueError) as error:
                print(f"{name} failed: {error}", file=sys.stderr)
                failed.append(name)
                continue
            print(f"  {run['accuracy']:.1%} in {run['known_s']:.1f} s", flush=True)
            done = [each for each in done if each["key"] != key] + [{"key": key, **run}]
            write_whole(args.out, json.dumps({"runs": done}, indent=1) + "\n")

    ours = [run for run in done if base.items() <= run["key"].items()]
    if ours:
        table = render(ours, _parts(plan.split), plan)
        write_whole(args.out.with_suffix(".md"), table)
        print(table)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}. Run the command again to try them again.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = Path(os.environ.get("HEADSTART_DATA", HERE.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=shared / "flowers17")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument(
        "--again", action="store_true", help="replace the earlier results of these arms"
    )
    parser.add_argument("--repeats", type=int, default=1, help="runs of each arm; seeds 0, 1, ...")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the fastai arms")
    parser.add_argument("--budget", default="5m", help="budget of headstart-finetune")
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument(
        "--split", type=Path, help="CSV file with path,split; by default headstart makes it"
    )
    parser.add_argument("--weights", type=Path, help="lite0 for timm, as a safetensors file")
    parser.add_argument(
        "--fastai-python", help="interpreter with fastai and timm; by default a venv is made"
    )
    parser.add_argument("--out", type=Path, default=BENCH / "vs_fastai.json")
    args = parser.parse_args()
    if not args.data.is_dir():
        parser.error(f"there is no folder {args.data}; name one with --data")
    return args


def _read(path: Path) -> list[Run]:
    return json.loads(path.read_text())["runs"] if path.exists() else []


def fastai_venv() -> str:
    """Makes a venv with fastai that sees this interpreter's packages; returns its Python."""
    venv = BENCH / "fastai"
    python = venv / "bin" / "python"
    ready = venv / "ready"
    if ready.exists():
        return str(python)
    print(f"making a venv with {FASTAI} ...", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run(
        [str(python), "-c", where], check=True, capture_output=True, text=True
    ).stdout.strip()
    # --system-site-packages would show the interpreter below this venv, not this venv.
    mine = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site, "headstart_benchmark.pth").write_text("\n".join(sorted(mine)) + "\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", FASTAI], check=True)
    subprocess.run([*install, *FASTAI_NEEDS], check=True)
    subprocess.run([str(python), "-c", "import fastai.vision.all"], check=True)
    ready.touch()
    return str(python)


def _weights(work: Path) -> Path:
    """Writes the weights that headstart itself uses, under timm's names."""
    from safetensors.torch import save_file

    from headstart.backbones.catalog import load_backbone

    path = work / "tf_efficientnet_lite0.safetensors"
    if not path.exists():
        state = load_backbone("tf_efficientnet_lite0").model.state_dict()
        draft = path.with_name(f".{path.name}")
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, draft)
        draft.replace(path)
    return path


def _make_split(data: Path, seed: int, work: Path) -> Path:
    """Lets headstart make the leak-safe split, before anything is timed."""
    split = work / f"split-{data.name}-{seed}.csv"
    if not split.exists():
        print("making the split ...", flush=True)
        folder = _empty(work / "split")
        run = folder / "run"
        command = [*fit_command(data, run, strategy="head", seed=0), *_split_seed(seed)]
        measured = _measure(command, folder, folder / "log.txt")
        if measured.returncode != 0:
            raise SystemExit(f"Making the split failed:\n{tail(folder / 'log.txt')}")
        shutil.copyfile(run / "split.csv", split.with_name(f".{split.name}"))
        split.with_name(f".{split.name}").replace(split)
        shutil.rmtree(folder)
    return split


def _warm_up(plan: Plan, with_fastai: bool) -> None:
    """Reads the images and the libraries once, so that no arm pays for a cold disk."""
    for example in read_examples(plan.split):
        (plan.data / example.path).read_bytes()
    code = "import torch, torchvision, timm, sklearn.linear_model, onnxruntime"
    subprocess.run([sys.executable, "-c", code], check=True)
    if with_fastai:
        subprocess.run([plan.fastai_python, "-c", "import fastai.vision.all, timm"], check=True)


def _run_arm(name: str, plan: Plan, seed: int) -> Run:
    """Runs one arm and returns its record.

    Raises:
        RuntimeError: The process failed.
        ValueError: It used another split.
    """
    folder = _empty(plan.work / f"{name}-{seed}")
    log = folder / "log.txt"
    job = ARMS[name].job(plan, seed, folder)
    measured = _measure(job.command, folder, log)
    if measured.returncode != 0:
        raise RuntimeError(f"exit status {measured.returncode}, log {log}:\n{tail(log)}")
    outcome = job.read()
    tested = {path for path, part in _parts(plan.split).items() if part == "test"}
    if outcome["n"] != len(tested) or not tested.issuperset(outcome["wrong"]):
        raise ValueError(f"{name} was not tested on the test images of {plan.split}.")
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "headstart")
    return {
        **outcome,
        "accuracy": 1 - len(outcome["wrong"]) / outcome["n"],
        "known_s": round(job.ends_with.stat().st_mtime - measured.started, 2),
        "exit_s": round(measured.wall_s, 2),
        "peak_anon_mb": round(measured.peak_anon_mb, 1),
        "peak_rss_anon_mb": round(measured.peak_rss_anon_mb, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(sys.executable, packages)
        | (versions(plan.fastai_python, ["fastai"]) if name.startswith("fastai") else {}),
        "commit": commit(),
    }


def _measure(command: list[str], folder: Path, log: Path) -> Measurement:
    cache = folder / "cache"  # empty: headstart has nothing from earlier runs
    try:
        return run_measured(command, log, {**ENVIRONMENT, "HEADSTART_CACHE": str(cache)})
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def render(runs: list[Run], parts: dict[str, str], plan: Plan) -> str:
    """Returns the Markdown page for the runs on one split."""
    arms = {
        name: [run for run in runs if _same(run, name, plan)]
        for name in ARMS
        if any(_same(run, name, plan) for run in runs)
    }
    counts = {part: list(parts.values()).count(part) for part in ("train", "val", "test")}
    any_run = next(iter(arms.values()))[0]
    used = {name: value for run in runs for name, value in run["versions"].items()}
    return "\n".join(
        [
            f"# headstart and fastai on {any_run['key']['data']}",
            "",
            _rows(arms, plan),
            "",
            *_comparison(arms, plan),
            f"- Machine: {'; '.join(sorted({run['machine'] for run in runs}))}.",
            f"- Versions: {', '.join(f'{name} {value}' for name, value in sorted(used.items()))}; "
            f"headstart at commit {', '.join(sorted({run['commit'] for run in runs}))}.",
            f"- Dates: {', '.join(sorted({run['date'] for run in runs}))}.",
            f"- One leak-safe split for all: {counts['train']} train, {counts['val']} val, "
            f"{counts['test']} test images. Every arm trains on train, uses val for what it has to "
            "choose or show, and uses test once, at its end. The interval is Wilson's 95% interval "
            "for the mean accuracy on these test images.",
            "- One set of ImageNet weights for all: `tf_efficientnet_lite0`, 224 px.",
            "- fastai: `Resize(256)`, `aug_transforms(size=224)`, batches of 64, 2 loader "
            "processes, otherwise its defaults. Its speed counts only its training batches, "
            "without validation.",
            "- headstart: nothing cached from earlier runs"
            + (
                "; the split file was given."
                if plan.split_given
                else "; its time includes finding near-duplicates and splitting."
            ),
            "- Time runs from the start of the process. All images and libraries had been read "
            "once before.",
            f"- {MEMORY_NOTE}",
            *(f"- {_title(name, plan)}: {run['how']}." for name, run in _explained(arms)),
            *(f"- {line}" for line in _paired(arms, parts, plan)),
            "",
        ]
    )


def _same(run: Run, name: str, plan: Plan) -> bool:
    settings = {each: getattr(plan, each) for each in ARMS[name].settings}
    return {"arm": name, **settings}.items() <= run["key"].items()


def _title(name: str, plan: Plan) -> str:
    return ARMS[name].title.format(epochs=plan.epochs, budget=plan.budget)


def _explained(arms: dict[str, list[Run]]) -> list[tuple[str, Run]]:
    return [(name, run) for name, runs in arms.items() for run in runs if "how" in run]


def _mean(runs: list[Run], value: Callable[[Run], float | None]) -> float | None:
    values = [found for run in runs if (found := value(run)) is not None]
    return mean(values) if values else None


def _shown(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _rows(arms: dict[str, list[Run]], plan: Plan) -> str:
    from headstart.evaluation.intervals import wilson

    header = (
        "method",
        "runs",
        "test accuracy (95% interval)",
        "s to test accuracy",
        "s to exit",
        "peak memory, MB",
        "images/s trained",
    )
    rows = []
    for name, runs in arms.items():
        accuracy, n = mean(run["accuracy"] for run in runs), runs[0]["n"]
        low, high = wilson(accuracy, n)
        rows.append(
            (
                _title(name, plan),
                str(len(runs)),
                f"{accuracy:.1%} ({low:.1%} to {high:.1%})",
                _shown(_mean(runs, lambda run: run["known_s"])),
                _shown(_mean(runs, lambda run: run["exit_s"])),
                _shown(_mean(runs, lambda run: run["peak_anon_mb"])),
                _shown(_mean(runs, lambda run: run["images_per_s"]), 1),
            )
        )
    return markdown_table(header, rows)


def _comparison(arms: dict[str, list[Run]], plan: Plan) -> list[str]:
    """Returns the tables of ratios, as far as there are arms to compare."""
    if len({name.startswith("headstart") for name in arms}) < 2:
        return []
    return [
        "Speedup in time to the test accuracy, of the row over the column:",
        "",
        _ratios(arms, lambda run: run["known_s"], lambda mine, other: other / mine, plan),
        "",
        "Speedup in trained images per second, of the row over the column:",
        "",
        _ratios(arms, lambda run: run["images_per_s"], lambda mine, other: mine / other, plan),
        "",
    ]


def _ratios(
    arms: dict[str, list[Run]],
    value: Callable[[Run], float | None],
    ratio: Callable[[float, float], float],
    plan: Plan,
) -> str:
    """Returns a table of headstart's arms against all others."""
    others = [name for name in arms if not name.startswith("headstart")]
    rows = []
    for name, runs in arms.items():
        if name.startswith("headstart"):
            mine = _mean(runs, value)
            theirs = [_mean(arms[other], value) for other in others]
            shown = [_shown(ratio(mine, each), 1) if mine and each else "-" for each in theirs]
            rows.append([_title(name, plan), *shown])
    return markdown_table(["", *(_title(other, plan) for other in others)], rows)


def _paired(arms: dict[str, list[Run]], parts: dict[str, str], plan: Plan) -> list[str]:
    """Returns what exact McNemar tests say of headstart's first runs against the others'."""
    from headstart.evaluation.statistics import holm, mcnemar_exact

    tested = [path for path, part in parts.items() if part == "test"]
    right = {
        name: np.array([path not in set(runs[0]["wrong"]) for path in tested])
        for name, runs in arms.items()
    }
    pairs = [
        (mine, other)
        for mine in arms
        if mine.startswith("headstart")
        for other in arms
        if not other.startswith("headstart")
    ]
    if not pairs:
        return []
    adjusted = holm([mcnemar_exact(right[mine], right[other]) for mine, other in pairs])
    return [
        f"{_title(mine, plan)} against {_title(other, plan)}: "
        f"{int(np.sum(right[mine] & ~right[other]))} images are right only in the first, "
        f"{int(np.sum(~right[mine] & right[other]))} only in the second "
        f"(exact McNemar, first runs, Holm-adjusted p = {p:.2g})."
        for (mine, other), p in zip(pairs, adjusted, strict=True)
    ]


if __name__ == "__main__":
    main()
