"""Each command of the pages that trains, or needs what one that trains leaves, is run once.

They run in one folder that holds what the pages name: FOLDER and `flowers` are 30 small drawn
pictures of three classes, POOL and OTHERS some more, `photographs/` has several labels an image,
and RUN is a search on `flowers` that was stopped after its plan and that `resume RUN` has finished.
What is replaced, and nothing else, so that it takes seconds:

- the network: `fit`, `compare FOLDER` and `show` get `--set` for a backbone.name of
  test_efficientnet, random backbone.weights and a backbone.resolution of 64; what continues a run
  has that of RUN, which is the same, and `benefit` the real pretrained one, at `--resolution 64`;
- the length: a search of FOLDER by `--budget`, `--trials` or `--ensemble` gets
  `--trials 1 --epochs 1`, everything else that trains `--epochs 1` and so no search, and `benefit`
  `--seeds 1 --fractions 100`; `compare FOLDER` gets `--recipe naive --set optimizer=adam`, which
  has one method;
- what has `--out` for `benefit` goes on with what `benefit FOLDER` left, as the page says it does;
- `label-next` gets POOL: all of `flowers` have a label.

Commands that are the same after that are run once.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from doc_blocks import COMMANDS, ROOT, commands, is_quick
from PIL import Image

pytestmark = pytest.mark.slow

NOT_RUN = {
    "check demo:solar": "2,624 photographs; the notebooks of examples/ read a part of them",
    "export RUN --to web --download": "it fetches a package; tests/webpage/test_folder.py has one",
    "fit demo:solar --budget 3m --out solar": "as above; examples/from_folder_to_proof.ipynb fits",
    "fit flowers --download": "it asks the hub; tests/search/test_backbones.py stands in for it",
    "fit flowers --executor ray --address auto": "no cluster; tests/search/test_search.py has one",
    "fit flowers --executor processes --jobs 2 --trial-memory 2": "each job "
    "is a process that loads PyTorch; tests/search/test_search.py has such jobs",
    "fit flowers --log mlflow": "it is not installed; tests/export/test_tracking.py stands in",
    "fit flowers --trials 24 --executor ray --address auto": "no cluster, as above",
    "resume RUN --executor ray --address auto": "no cluster, as above",
    "serve RUN": "it ends with Ctrl-C; tests/serving/test_server.py ends it",
}
"""Commands that cannot run here, each with the reason and what runs it instead."""

SMALL = ("backbone.name=test_efficientnet", "backbone.weights=random", "backbone.resolution=64")
TINY = [part for each in SMALL for part in ("--set", each)]
REPLACED = {"--budget", "--trials", "--epochs", "--seeds", "--fractions"}

FOUND = sorted(
    {
        " ".join(words)
        for block in COMMANDS
        for program, *words in commands(block.text)
        if program == "headstart" and not words[0].startswith("--") and not is_quick(words)
    }
)


def cheap(command: str) -> tuple[str, ...]:
    """The command as it is run here: what the docstring of this file says, and nothing else."""
    name, *words = command.split()
    searches = {"--budget", "--trials", "--ensemble"} & set(words)
    rest = [
        word
        for before, word in zip([name, *words], words, strict=False)
        if not {before, word} & REPLACED
    ]
    if name in {"fit", "compare", "benefit"} and "--strategy" not in words:
        rest += ["--epochs", "1"]
    if name == "fit" and searches and words[0] == "flowers":
        rest += ["--trials", "1"]
    if name == "compare" and "--run" not in words:
        rest += ["--recipe", "naive", "--set", "optimizer=adam"]
    if name in {"fit", "compare", "show"} and not {"--from", "--run"} & set(words):
        rest += TINY
    if name == "label-next":
        rest[1] = "POOL"
    if name == "benefit":
        rest += ["--resolution", "64", "--seeds", "1", "--fractions", "100"]
    return (name, *rest)


@dataclass
class Place:
    """The folder, and what each command that was run left and said."""

    folder: Path
    headstart: Callable[..., CompletedProcess[str]]
    done: dict[tuple[str, ...], tuple[CompletedProcess[str], Path]] = field(default_factory=dict)

    def run(self, words: tuple[str, ...]) -> tuple[CompletedProcess[str], Path]:
        """Runs a command once; returns how it ended, and the folder that it wrote to."""
        if words not in self.done:
            before = set(self.folder.glob("runs/*"))
            ended = self.headstart(*words)
            assert ended.returncode == 0, (words, ended.stderr)
            new = set(self.folder.glob("runs/*")) - before
            out = "pictures" if words[0] == "show" else "RUN"
            out = words[words.index("--out") + 1] if "--out" in words else out
            self.done[words] = ended, new.pop() if new else self.folder / out
            assert not new, "one folder a command"
        return self.done[words]


@pytest.fixture(scope="module")
def place(
    pictures: Path,
    quarters_folder: Path,
    headstart: Callable[..., CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    folder = tmp_path_factory.mktemp("training")
    for file in pictures.rglob("*.png"):
        kind = f"flowers/{file.parent.name}" if int(file.stem) < 10 else "POOL"
        (folder / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / kind / f"{file.parent.name}{file.name}")
    (folder / "OTHERS").mkdir()
    for seed in range(12):
        noise = np.random.default_rng(seed).integers(0, 256, (72, 72, 3), np.uint8)
        Image.fromarray(noise).save(folder / "OTHERS" / f"{seed}.png")
    shutil.copytree(quarters_folder, folder / "photographs")
    rows = [f"{p.relative_to(folder)},{p.parent.name}" for p in folder.glob("flowers/*/*")]
    for name in ("images.csv", "labels.csv"):
        (folder / name).write_text("\n".join(["path,label", *sorted(rows)]) + "\n")
    return Place(folder, headstart)


@pytest.fixture(autouse=True)
def here(place: Place, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where the pages are: a search was stopped after its plan, and `resume RUN` finished it."""
    monkeypatch.chdir(place.folder)
    names = "\n".join(str(path) for path in sorted(place.folder.glob("flowers/rings/*")))
    stdin = io.TextIOWrapper(io.BytesIO(names.encode()), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stdin)
    if not (place.folder / "RUN").exists():

        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("headstart.search.search.trial_context", stopped)
            search = ("fit", "flowers", "--trials", "1", "--epochs", "1", "--out", "RUN", *TINY)
            assert place.headstart(*search).returncode == 130
        assert record_of(place.folder / "RUN")["status"] == "interrupted"
        place.run(cheap("resume RUN"))
    return place


def record_of(run: Path) -> Any:
    return json.loads((run / "run.json").read_text())


def test_what_is_not_run_is_in_the_pages_and_run_elsewhere() -> None:
    assert set(NOT_RUN) <= set(FOUND)
    for why in NOT_RUN.values():
        for path in re.findall(r"(?:tests|examples)/\S+\.\w+", why):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("command", [each for each in FOUND if each not in NOT_RUN])
def test_it_leaves_what_the_pages_say(command: str, here: Place) -> None:
    words = cheap(command)
    if words[0] == "benefit" and "--out" in words:
        begun = here.run(cheap("benefit flowers"))[1]
        shutil.copytree(begun, here.folder / words[words.index("--out") + 1])
    done, out = here.run(words)
    if words[0] in {"fit", "resume"}:
        left_a_run(words, out, done.stdout)
    elif words[0] == "benefit":
        assert "Higher start?" in done.stdout
        assert "<svg" in (out / "certificate.html").read_text()
    elif words[0] == "compare":
        if "--run" in words:  # without it, and without --out, nothing is written
            assert json.loads((out / "ledger.json").read_text())["rows"]
        assert "left out" in done.stdout or "naive" in done.stdout
    elif words[0] == "show":
        assert len(list(out.glob("*.png"))) == 4
    elif words[0] == "export":
        assert list((out / "export" / "int8").glob("*.onnx"))
    elif words[0] == "predict":
        with (here.folder / "found.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 10
    else:
        assert words[0] in {"leaderboard", "label-next"}
        few = "Fewer than 8 recipes were tried" if "--importance" in words else ""
        assert few in done.stderr
        assert few or len(done.stdout.splitlines()) > 1


def left_a_run(words: tuple[str, ...], out: Path, said: str) -> None:
    """What a page says of every run, and of the options of this one."""
    record = record_of(out)
    assert record["status"] == "done"
    assert "95% interval" in said
    assert "report.html" in said
    for name in ("report.html", "recipe.toml", "split.csv", "metrics.json", "predictions.csv"):
        assert (out / name).exists(), name
    for name in ("model.onnx", "model.safetensors", "MODEL_CARD.md", "bundle.json"):
        assert (out / "bundle" / name).exists(), name
    assert bool(record["continued"]) == ("--from" in words)
    if "--background" in words:
        assert json.loads((out / "bundle" / "bundle.json").read_text())["background"]["images"]
    searched = {"--trials", "--config", "resume"} & set(words)  # RUN, which --config reads, did
    assert (out / "trials.jsonl").exists() == bool(searched)
