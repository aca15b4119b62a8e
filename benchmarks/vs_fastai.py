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
from datetime import UTC, datetime
from pathlib import Path

from _arm import read_examples
from fastai_arms import ARMS, Plan, Run, fit_command, parts_of, split_options
from fastai_page import render
from measure import (
    Measurement,
    commit,
    machine,
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
    digest = hashlib.sha256(json.dumps(sorted(parts_of(plan.split).items())).encode()).hexdigest()
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
        table = render(ours, parts_of(plan.split), plan)
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
        command = [*fit_command(data, run, strategy="head", seed=0), *split_options(seed)]
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
    tested = {path for path, part in parts_of(plan.split).items() if part == "test"}
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


if __name__ == "__main__":
    main()
