"""Files of each kind, damaged at random, with the readers and commands that use them."""

import hashlib
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from _mutations import (
    ODD_TEXT,
    damaged_bytes,
    damaged_json,
    damaged_lines,
    damaged_table,
    damaged_text,
    odd_text,
)
from headstart.ablation.record import Ledger, LedgerRow, write_ledger
from headstart.api.diff import diff
from headstart.artifacts.embeddings import read_embeddings
from headstart.backbones.catalog import build_backbone
from headstart.backbones.engine import Engine
from headstart.backbones.weights import load_state, read_weights
from headstart.certificate.record import BenefitPlan, Certificate, write_certificate
from headstart.cli.output import print_leaderboard, print_run
from headstart.data.entries import SUMS, file_sum
from headstart.data.pixels import open_pixels
from headstart.data.sources import load_dataset
from headstart.data.splits import read_split
from headstart.errors import HeadstartError
from headstart.features.cache import cached_activations, evict
from headstart.inference.bundle import load_bundle
from headstart.inference.predict import predict_images
from headstart.inference.run import Run
from headstart.recipes.parsing import NAMED, load_recipe, to_toml, with_settings
from headstart.report.model_card import write_model_card
from headstart.report.page import write_report
from headstart.search.leaderboard import importance_of, leaderboard_of

ROOT = Path(__file__).resolve().parents[1]
STORED_RUN = ROOT / "tests" / "fixtures" / "run_6dddef2" / "finished"
BACKBONE = "test_efficientnet"
Damage = Callable[[bytes, random.Random], bytes]

# --- files of a run

RUN_FILES: dict[str, Damage] = {
    "run.json": damaged_json, "trials.jsonl": damaged_lines, "metrics.json": damaged_json,
    "suspects.csv": damaged_table, "split.csv": damaged_table, "predictions.csv": damaged_table,
    "epochs.jsonl": damaged_lines, "audit.json": damaged_json, "evidence.json": damaged_json,
    "search.toml": damaged_text, "recipe.toml": damaged_text, "ledger.json": damaged_json,
    "certificate/certificate.json": damaged_json, "bundle/bundle.json": damaged_json,
}  # fmt: skip


def a_run(folder: Path) -> Path:
    """Writes a small run with all files that a report is drawn from."""
    shutil.copytree(STORED_RUN, folder)
    rows = [
        LedgerRow(
            part="ladder", families=(), change="", epochs=2, images=20, accuracy=0.5, loss=0.9,
        ),
        LedgerRow(
            part="ladder", families=("optimizer",), change="sgd to adamw", epochs=2, seeds=1,
            images=20, accuracy=0.6, loss=0.8, gain=0.1, interval=(-0.1, 0.3), loss_gain=0.1, p=0.2,
            p_holm=0.4, seconds=1.5,
        ),
        LedgerRow(
            part="left_out", families=("averaging",), change="ema to none", epochs=2, seeds=1,
            images=20, accuracy=0.6, loss=0.8, gain=0.0, interval=(-0.2, 0.2), loss_gain=0.0, p=1.0,
            p_holm=1.0,
        ),
    ]  # fmt: skip
    write_ledger(folder, Ledger(epochs=2, seeds=1, folds=1, rows=tuple(rows)))
    (folder / "certificate").mkdir()
    write_certificate(folder / "certificate", a_certificate())
    return folder


def a_certificate() -> Certificate:
    curve = {
        "rate": 0.01, "accuracy": (0.3, 0.6), "low": (0.1, 0.4), "high": (0.5, 0.8),
        "loss": (1.1, 0.7), "seconds": (0.0, 1.0), "plateau": 0.7, "plateau_interval": (0.5, 0.9),
        "no_plateau": "",
    }  # fmt: skip
    verdict = {
        "answer": "yes", "pretrained": 0.6, "scratch": 0.3, "advantage": 0.3,
        "interval": (0.1, 0.5), "why": "The interval is above 0.",
    }  # fmt: skip
    level = {"share": 0.9, "accuracy": 0.5, "epochs": {"pretrained": 1.0, "scratch": None}}
    arms = {"pretrained": curve, "scratch": curve}
    fraction = {
        "fraction": 1.0, "images": 20, "seeds": 1, "curves": arms,
        "verdicts": [{**verdict, "question": each} for each in ("start", "slope", "asymptote")],
        "levels": [{**level, "seconds": level["epochs"]}],
    }  # fmt: skip
    plan = BenefitPlan(
        pixels="a", recipe={}, split_seed=0, epochs=1, images=20, held=10, fractions=(1.0,),
        seeds=1, rates=(0.01,), chosen={"pretrained": 0.01, "scratch": 0.01},
    )  # fmt: skip
    expected = {
        "labels": 40, "accuracy": 0.7, "interval": (0.5, 0.9), "new_images": (0.4, 1.0),
        "gain": 0.1, "gain_interval": (-0.1, 0.3),
    }  # fmt: skip
    labels = {
        "images": 20, "sizes": (5, 10, 15, 20), "accuracy": (0.4, 0.5, 0.6, 0.6), "low": (0.3,) * 4,
        "high": (0.8,) * 4, "expected": [{**expected, "labels": 20}, expected], "band": [expected],
        "test": {"hidden": 0.5, "expected": expected, "accuracy": 0.6, "held": True},
        "answer": "yes", "why": "More labels help.",
    }  # fmt: skip
    return Certificate.model_validate(
        {
            "name": "a", "command": "headstart benefit a", "started_at": "", "seconds": 1.0,
            "budget_s": None, "backbone": BACKBONE, "weights": "", "resolution": 64, "chance": 0.3,
            "held": 10, "plan": plan, "fractions": [fraction], "labels": labels, "notes": (),
            "versions": {}, "machine": "",
        }
    )  # fmt: skip


def use_run(folder: Path, whole: Path) -> None:
    """Does what commands do with a run; each goes on where another refuses."""
    refused: list[HeadstartError] = []
    for step in (
        lambda: print_run(Run.open(folder)),
        lambda: print_leaderboard(leaderboard_of(folder), as_json=False, as_csv=False),
        lambda: importance_of(folder),
        lambda: write_report(folder),
        lambda: write_model_card(folder),
        lambda: diff(folder, whole),
        lambda: diff(whole, folder),
        lambda: load_recipe(str(folder / "recipe.toml")),
    ):
        try:
            step()
        except HeadstartError as error:
            refused.append(error)
            if "\n" in str(error):
                raise
    if refused:
        raise refused[0]


def fuzz_run(work: Path, draw: random.Random) -> Iterator[tuple[Path, Callable[[], Any]]]:
    whole = a_run(work / "whole")
    damaged = Path(shutil.copytree(whole, work / "damaged"))
    drawn = ("ledger.json", "certificate/certificate.json")  # their figures take a while
    for name in drawn:
        (damaged / name).unlink()
    while True:
        name, by_field = draw.choice(list(RUN_FILES.items()))
        content = (whole / name).read_bytes()
        damage = by_field if draw.random() < 0.7 else damaged_bytes
        (damaged / name).write_bytes(damage(content, draw))
        yield damaged / name, lambda: use_run(damaged, whole)
        if name in drawn:
            (damaged / name).unlink()
        else:
            (damaged / name).write_bytes(content)


# --- bundles


def use_bundle(folder: Path) -> None:
    picture = Image.new("RGB", (70, 70), (200, 30, 90))
    (found,) = predict_images(load_bundle(folder), picture)
    shares = list(found.probabilities.values())
    assert len(shares) > 1 and abs(sum(shares) - 1) < 1e-3, f"nonsense: {found!r}"


def fuzz_bundle(work: Path, draw: random.Random) -> Iterator[tuple[Path, Callable[[], Any]]]:
    """Damages bundles and writes the new hashes into bundle.json, as a forger would."""
    whole = STORED_RUN / "bundle"
    folder = Path(shutil.copytree(whole, work / "bundle"))
    hashes = {
        "model.safetensors": ("weights_sha256",), "range.safetensors": ("distribution", "sha256"),
    }  # fmt: skip
    while True:
        name = draw.choice(["bundle.json"] * 4 + list(hashes))
        content = (whole / name).read_bytes()
        if name == "bundle.json":
            damage = damaged_json if draw.random() < 0.8 else damaged_bytes
            (folder / name).write_bytes(damage(content, draw))
        else:
            damage = damaged_tensors if draw.random() < 0.7 else damaged_bytes
            (folder / name).write_bytes(damage(content, draw))
            spec: Any = json.loads((whole / "bundle.json").read_bytes())
            inner = spec
            *way, last = hashes[name]
            for key in way:
                inner = inner[key if key in inner else "range"]
            inner[last] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            (folder / "bundle.json").write_text(json.dumps(spec))
        yield folder / name, lambda: use_bundle(folder)
        for file in ("bundle.json", name):
            shutil.copy(whole / file, folder / file)


def damaged_tensors(content: bytes, draw: random.Random) -> bytes:
    """Returns a safetensors file with a damaged header, or with odd numbers in a tensor."""
    size = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + size], bytearray(content[8 + size :])
    if draw.random() < 0.5:
        at = 4 * draw.randrange(max(len(data) // 4 - 8, 1))
        odd = draw.choice((np.nan, np.inf, -np.inf, 1e38, 0.0))
        data[at : at + 16] = np.full(4, odd, np.float32).tobytes()
    else:
        header = damaged_json(header, draw)
    return len(header).to_bytes(8, "little") + header + bytes(data)


# --- weight files


def fuzz_weights(work: Path, draw: random.Random) -> Iterator[tuple[Path, Callable[[], Any]]]:
    model = build_backbone(BACKBONE, resolution=64)
    state = model.state_dict()
    small = {name: state[name] for name in list(state)[:3]}
    torch.save(state, work / "zip.pth")
    torch.save({"state_dict": state, "epoch": 3, "lr": 0.1}, work / "training.pth")
    torch.save(small, work / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(state, work / "older.pth", _use_new_zipfile_serialization=False)
    save_file(state, work / "weights.safetensors")
    names = ["zip.pth", "training.pth", "old.pth", "older.pth", "weights.safetensors"]
    whole = {name: (work / name).read_bytes() for name in names}

    def use(path: Path) -> None:
        load_state(model, read_weights(path), path, "classifier")
        if not all(torch.isfinite(each.float()).all() for each in model.state_dict().values()):
            raise AssertionError("weights that are not finite were read")

    while True:
        name = draw.choice(names)
        content = whole[name]
        if name == "weights.safetensors":
            damage: Damage = damaged_tensors if draw.random() < 0.5 else damaged_bytes
        elif name in ("zip.pth", "training.pth") and draw.random() < 0.6:
            damage = damaged_archive
        else:  # most of the file is tensors: the pickle is at its beginning
            damage = damaged_start if draw.random() < 0.7 else damaged_bytes
        path = work / f"damaged{Path(name).suffix}"
        path.write_bytes(damage(content, draw))
        yield path, lambda path=path: use(path)


def damaged_start(content: bytes, draw: random.Random) -> bytes:
    cut = draw.choice((100, 1000, 8000))
    return damaged_bytes(content[:cut], draw) + content[cut:]


def damaged_archive(content: bytes, draw: random.Random) -> bytes:
    """Returns a zip archive in which one file is damaged, with the right checksums."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as copy:
        names = source.namelist()
        pickles = [name for name in names if name.endswith(".pkl")]
        chosen = pickles[0] if draw.random() < 0.8 else draw.choice(names)
        for name in names:
            inside = source.read(name)
            copy.writestr(name, damaged_bytes(inside, draw) if name == chosen else inside)
    return target.getvalue()


# --- recipes and --set


def fuzz_recipes(work: Path, draw: random.Random) -> Iterator[tuple[Path, Callable[[], Any]]]:
    recipes = list(NAMED.values())
    fields = [
        f"{family}.{name}" if isinstance(value, dict) else family
        for family, value in recipes[0].model_dump().items()
        for name in (value if isinstance(value, dict) else {"": 0})
    ]
    while True:
        recipe = draw.choice(recipes)
        if draw.random() < 0.5:
            settings = [
                f"{draw.choice((*fields, 'optimizer', 'head', *ODD_TEXT))}={odd_text(draw)}"
                for _ in range(draw.choice((1, 1, 2)))
            ]
            path = work / "settings.json"
            path.write_text(json.dumps(settings))
            yield path, lambda recipe=recipe, settings=settings: with_settings(recipe, settings)
        elif draw.random() < 0.5:
            path = work / "recipe.toml"
            damage = damaged_text if draw.random() < 0.7 else damaged_bytes
            path.write_bytes(damage(to_toml(recipe).encode(), draw))
            yield path, lambda path=path: load_recipe(str(path))
        else:
            path = work / "recipe.json"
            damage = damaged_json if draw.random() < 0.7 else damaged_bytes
            path.write_bytes(damage(recipe.model_dump_json().encode(), draw))
            yield path, lambda path=path: load_recipe(str(path))


# --- caches, embeddings, splits and tables of images


DOUBLES = Engine(lambda views: 2.0 * views.astype(np.float32), {"engine": "doubles"}, batch_size=4)
"""An engine whose output is twice its input."""


def fuzz_caches(work: Path, draw: random.Random) -> Iterator[tuple[Path, Callable[[], Any]]]:
    views = np.arange(80, dtype=np.float32).reshape(8, 10)

    def activations() -> None:
        def batches() -> Iterator[np.ndarray]:
            return iter([views[:4], views[4:]])

        found = cached_activations(work, {"a": 1}, 8, batches, DOUBLES, "")
        assert np.array_equal(found, 2 * views), "other activations than those that were asked for"

    activations()
    (entry,) = (work / "activations").iterdir()
    whole = {path: path.read_bytes() for path in entry.iterdir()}
    pixels = work / "pixels" / "b"
    pixels.mkdir(parents=True)
    facts: dict[str, Any] = {"status": "ok", "width": 4, "height": 4, "memory": 0, "learned": None}
    facts |= dict.fromkeys(("reason", "sha256", "mode", "format", "pixels", "patient"), "")
    index = {"facts": [facts], "sizes": [[4, 4]], "offsets": [0], "bytes": 48}
    whole[pixels / "index.json"] = json.dumps(index).encode()
    whole[pixels / SUMS] = b"0" * 64 + b"  index.json\n"
    whole[pixels / "pixels.u8"], whole[pixels / "thumbnails.u8"] = bytes(48), bytes(64 * 64)

    def decoded() -> None:
        found = open_pixels(work, "b")
        if found is not None and found.facts and found.facts[0].status == "ok":
            assert found.image(0).shape[2] == 3

    while True:
        for path, content in whole.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        path = draw.choice([*[path for path in whole if path.suffix == ".json"] * 3, *whole])
        content = whole[path]
        if draw.random() < 0.15:
            name = odd_text(draw)[:40].replace("/", "-").replace("\0", "0")
            stray = work / draw.choice(("activations", "pixels")) / f".draft-{name}"
            stray.mkdir(exist_ok=True)
            yield stray, lambda: evict(work, 10**9)
            continue
        if path.suffix == ".json":
            damage = damaged_json if draw.random() < 0.7 else damaged_bytes
            path.write_bytes(damage(content, draw))
        elif path.name == SUMS:
            path.write_bytes(damaged_bytes(content, draw))
        else:
            path.write_bytes(content[: draw.randrange(len(content))])
        if draw.random() < 0.8:  # as a forger or another version would: the checksums are right
            names = sorted({each.name for each in whole if each.parent == path.parent} - {SUMS})
            lines = [f"{file_sum(path.parent / each)}  {each}\n" for each in names]
            (path.parent / SUMS).write_text("".join(lines))
        yield path, decoded if path.parent == pixels else activations


def fuzz_tables(work: Path, draw: random.Random) -> Iterator[tuple[Path, Callable[[], Any]]]:
    names = [f"{kind}/{number}.png" for kind in ("a", "b") for number in range(4)]
    for name in names:
        (work / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(work / name)
    rows = [f"{name},{name[0]}" for name in names]
    table = ("path,label\n" + "\n".join(rows) + "\n").encode()
    split = ("path,split\n" + "".join(f"{name},train\n" for name in names)).encode()
    lines = b"".join(
        json.dumps({"path": name, "label": name[0]}).encode() + b"\n" for name in names
    )
    embeddings = (STORED_RUN / "embeddings.safetensors").read_bytes()
    while True:
        match draw.randrange(4):
            case 0:
                path, content, damage = work / "manifest.csv", table, damaged_table
            case 1:
                path, content, damage = work / "manifest.jsonl", lines, damaged_lines
            case 2:
                path, content, damage = work / "split.csv", split, damaged_table
            case _:
                path, content, damage = work / "e.safetensors", embeddings, damaged_tensors
        path.write_bytes((damage if draw.random() < 0.7 else damaged_bytes)(content, draw))
        if path.name == "split.csv":
            yield path, lambda path=path: read_split(path, names)
        elif path.suffix == ".safetensors":
            yield path, lambda path=path: read_embeddings(path)
        else:
            yield path, lambda path=path: load_dataset(path)
