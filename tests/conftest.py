"""Small picture folders, one cache for all tests, and features of the shared data sets."""

import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import cache
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

# What lies in the Hugging Face cache of whoever runs the tests must not change them.
os.environ["HF_HUB_CACHE"] = str(Path(tempfile.gettempdir()) / "headstart-tests-without-weights")

if TYPE_CHECKING:
    import torch

    from headstart.backbones.catalog import PretrainedBackbone
    from headstart.backbones.cut import Traced
    from headstart.features.extractor import FeatureExtractor
    from headstart.inference.run import Run
    from headstart.training.experiment import Experiment

CLASSES = ("checks", "rings", "stripes")
DATA = Path(os.environ.get("HEADSTART_DATA", Path(__file__).parents[2] / "shared" / "data"))


class Whole(NamedTuple):
    """All usable images of a data set."""

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    classes: np.ndarray


def picture(kind: str, seed: int, side: int = 72) -> Image.Image:
    """A noisy pattern whose class is easy to see."""
    rng = np.random.default_rng([CLASSES.index(kind), seed])
    y, x = np.mgrid[:side, :side].astype(float)
    period, phase = rng.uniform(6, 11), rng.uniform(0, 6)
    waves = {
        "checks": np.sin(x / period * 6 + phase) * np.sin(y / period * 6 + phase),
        "rings": np.sin(np.hypot(x - rng.uniform(20, 50), y - rng.uniform(20, 50)) / period * 6),
        "stripes": np.sin(y / period * 6 + phase),
    }[kind]
    colour = rng.uniform(60, 120, 3)
    pixels = 120 + waves[:, :, None] * colour + rng.normal(0, 12, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, each: int, classes: tuple[str, ...] = CLASSES) -> Path:
    for kind in classes:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture(kind, number).save(folder / kind / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 16 pictures, in class folders."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), 16)


@pytest.fixture(scope="session")
def noisy_pictures() -> Callable[..., Path]:
    """Writes pictures that are hard to tell apart, by seeds of their own."""

    def write(folder: Path, seeds: range) -> Path:
        for kind in CLASSES:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for seed in seeds:
                clear = np.asarray(picture(kind, seed), np.float32)
                rng = np.random.default_rng([7, CLASSES.index(kind), seed])
                noisy = clear + rng.normal(0, 80, clear.shape)
                image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
                image.save(folder / kind / f"{seed:03d}.png")
        return folder

    return write


@pytest.fixture(scope="session")
def mislabelled_pictures() -> Callable[[Path], Path]:
    """Writes 40 pictures a class, of which every fifth lies in the next class's folder."""

    def write(folder: Path) -> Path:
        write_pictures(folder, 40)
        for kind, wrong in zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True):
            for number in range(0, 40, 5):
                name = f"{number:03d}.png"
                (folder / kind / name).rename(folder / wrong / f"{kind}-{name}")
        return folder

    return write


@pytest.fixture(scope="session")
def headstart() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in this process: a new one would load torch again, for seconds."""
    from headstart.cli.main import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["headstart", *map(str, arguments)]
        out, errors, code = StringIO(), StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
            patch.setattr(sys, "argv", command)
            # A budget counts from the start of the process, which is that of all tests here.
            patch.setattr(import_module("headstart.cli.fit"), "process_start", time.monotonic)
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            except Exception:
                traceback.print_exc()
                code = 1
        return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())

    return run


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """Two classes of 8 pictures that a test may spoil."""
    return write_pictures(tmp_path / "data", 8, ("rings", "stripes"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, in whatever process they run: it is made for that."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "cache").mkdir(exist_ok=True)
    return folder / "cache"


@pytest.fixture(autouse=True)
def _private_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(shared_cache))


@pytest.fixture(scope="session", autouse=True)
def _pairs_are_found_once() -> Iterator[None]:
    """Runs on the same pictures ask the same question, and its answer takes a quarter second."""
    audit = import_module("headstart.data.audit")
    search, found = audit.near_duplicates, dict[str, Any]()

    def once(thumbnails: Any, labels: Any) -> Any:
        arrays = [np.ascontiguousarray(each) for each in (*thumbnails, labels)]
        parts = [f"{each.dtype}{each.shape}".encode() + each.tobytes() for each in arrays]
        key = sha256(b"".join(parts)).hexdigest()
        if key not in found:
            found[key] = search(thumbnails, labels)
        return list(found[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "near_duplicates", once)
        yield


class StandIn(ThreadingHTTPServer):
    """Serves the weights of repositories, as the hub does, and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], stalls: bool) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked = list[str]()
        self.files = {f"/{name}/resolve/main/model.safetensors": files[name] for name in files}
        self.stalls, self.closing = stalls, threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """HEAD and GET of the file; everything else is not there."""

    server: StandIn

    def log_message(self, *_: object) -> None:
        """Prints nothing."""

    def do_HEAD(self) -> None:
        """The head of the answer to GET."""
        self.server.asked.append(f"{self.command} {self.path}")
        content = self.server.files.get(self.path)
        self.send_response(200 if content or self.path == "/" else 404)
        if content:
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        """The file, or the first half of it and then nothing."""
        self.do_HEAD()
        content = self.server.files.get(self.path, b"")
        if self.server.stalls:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.closing.wait(60)
        else:
            self.wfile.write(content)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache on a machine without a network."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def serve_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StandIn]]:
    """Starts a hub for this process and those that it starts."""
    from huggingface_hub import constants

    servers: list[StandIn] = []

    def start(files: dict[str, bytes], *, stalls: bool = False) -> StandIn:
        server = StandIn(files, stalls)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(hub_cache))
        return server

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def add_to_cache() -> "Callable[[Path, str, dict[str, torch.Tensor]], Path]":
    """Writes weights into a Hugging Face cache, as a download does; returns their file."""

    def add(cache: Path, repository: str, tensors: "dict[str, torch.Tensor]") -> Path:
        from safetensors.torch import save_file

        commit = "0123456789abcdef0123456789abcdef01234567"
        folder = cache / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        for each in (folder / "blobs", folder / "refs", snapshot):
            each.mkdir(parents=True)
        (folder / "refs" / "main").write_text(commit)
        save_file(tensors, folder / "blobs" / "aa")
        (snapshot / "model.safetensors").symlink_to(Path("../../blobs/aa"))
        return folder / "blobs" / "aa"

    return add


@pytest.fixture(scope="session")
def head_run(pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A finished run of a head on the frozen backbone at 64 pixels; who changes it copies it."""
    from headstart.api.fit import fit

    return fit(
        pictures, strategy="head", epochs=0, settings=["backbone.resolution=64"],
        out=tmp_path_factory.mktemp("head") / "run", cache_dir=shared_cache,
    )  # fmt: skip


@pytest.fixture(scope="session")
def quarters_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 grey noisy pictures; each label is a coloured quarter, and some have none."""
    folder = tmp_path_factory.mktemp("quarters")
    random = np.random.default_rng(5)
    colours = {"red": (210, 60, 60), "green": (60, 200, 80), "blue": (70, 90, 220)}
    rows = []
    for number in range(72):
        pixels = random.normal(128, 40, (64, 64, 3))
        names = [name for name in colours if random.random() < 0.4]
        for place, name in zip(random.permutation(4), names, strict=False):
            y, x = 32 * (place // 2), 32 * (place % 2)
            pixels[y : y + 32, x : x + 32] += np.subtract(colours[name], 128)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
        rows.append(f"{number:02}.png,{';'.join(names)}")
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def labels_run(
    quarters_folder: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> "Run":
    """A finished run of any number of labels an image; who changes it copies it."""
    from headstart.api.fit import fit

    return fit(
        quarters_folder / "labels.csv", strategy="head", progress=False,
        settings=("backbone.name=test_efficientnet", "backbone.weights=random"),
        out=tmp_path_factory.mktemp("labels") / "run", cache_dir=shared_cache,
    )  # fmt: skip


@pytest.fixture(scope="session")
def experiment(pictures: Path, shared_cache: Path) -> "Experiment":
    """The pictures decoded and split, for the real pretrained backbone at 64 pixels."""
    from headstart.data.sources import load_dataset
    from headstart.recipes.parsing import parse_recipe
    from headstart.training.experiment import SplitChoice, prepare
    from headstart.training.run_context import Resources

    recipe = parse_recipe({"backbone": {"resolution": 64}})
    resources = Resources(cache_dir=shared_cache, workers=1)
    return prepare(load_dataset(pictures), recipe, SplitChoice(), resources)


@pytest.fixture(scope="session")
def _traced_backbones() -> Callable[[bool], "tuple[PretrainedBackbone, Traced]"]:
    """Gives the backbone at 64 pixels as it was loaded; tracing it anew takes a second."""
    from headstart.backbones.catalog import load_backbone
    from headstart.backbones.cut import trace

    @cache
    def load(
        drop_path: bool,
    ) -> "tuple[PretrainedBackbone, Traced, dict[str, Any], dict[str, Any]]":
        backbone = load_backbone(resolution=64, drop_path=0.2 if drop_path else 0.0)
        state = deepcopy(backbone.model.state_dict())
        leaves = {name: m for name, m in backbone.model.named_modules() if not list(m.children())}
        return backbone, trace(backbone.model, 64), state, leaves

    def restore(drop_path: bool) -> "tuple[PretrainedBackbone, Traced]":
        backbone, traced, state, leaves = load(drop_path)
        for name, module in leaves.items():
            parent, _, attribute = name.rpartition(".")
            setattr(backbone.model.get_submodule(parent), attribute, module)
        backbone.model.load_state_dict(state)
        backbone.model.requires_grad_(True).eval()
        return backbone, traced

    return restore


@pytest.fixture
def fresh_extractor(
    experiment: "Experiment",
    _traced_backbones: Callable[[bool], "tuple[PretrainedBackbone, Traced]"],
) -> Callable[..., "FeatureExtractor"]:
    """Makes an extractor with a backbone that a test may change; one at a time."""

    def make(drop_path: float = 0.0) -> "FeatureExtractor":
        backbone, traced = _traced_backbones(drop_path > 0)
        return replace(experiment.extractor, backbone=backbone, traced=traced)

    return make


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """Gives the folder of a shared data set; skips where it is not there."""

    def find(name: str) -> Path:
        if not (DATA / name).is_dir():
            pytest.skip("the shared data are not here")
        return DATA / name

    return find


@pytest.fixture(scope="session")
def real_features(data: Callable[[str], Path], shared_cache: Path) -> Callable[[str], Whole]:
    """Gives the pretrained backbone's features of a shared data set, at 128 pixels."""

    @cache
    def load(name: str) -> Whole:
        kept = shared_cache / f"{name}.npz"
        if not kept.exists():
            draft = shared_cache / f"{name}-{os.getpid()}.npz"
            np.savez(draft, **_features_of(data(name), shared_cache)._asdict())
            draft.rename(kept)
        with np.load(kept) as arrays:
            return Whole(**arrays)

    return load


@pytest.fixture(scope="session")
def flowers(real_features: Callable[[str], Whole]) -> Whole:
    """Features of flowers17 in the 128 directions of most variance, which heads solve faster."""
    whole = real_features("flowers17")
    centred = whole.features - whole.features.mean(0)
    directions = np.linalg.eigh(centred.T @ centred)[1][:, -128:]
    return whole._replace(features=np.ascontiguousarray(centred @ directions))


@pytest.fixture(scope="session")
def flowers_out_of_fold(flowers: Whole) -> np.ndarray:
    """What heads say of each flower that have seen neither it nor its group."""
    from headstart.diagnose.suspects import out_of_fold_probabilities

    return out_of_fold_probabilities(flowers.features, flowers.labels, 17, flowers.groups)


def _features_of(folder: Path, cache_dir: Path) -> Whole:
    import torch

    from headstart.backbones.catalog import load_backbone
    from headstart.backbones.cut import trace
    from headstart.backbones.places import FEATURES
    from headstart.data.audit import audit
    from headstart.data.decode import decode_dataset
    from headstart.data.sources import load_dataset
    from headstart.features.extractor import FeatureExtractor, activations, open_prefix
    from headstart.progress import SILENT

    backbone = load_backbone(resolution=128)
    dataset = load_dataset(folder)
    pixels = decode_dataset(dataset.items, backbone.preprocessing.resize, cache_dir, 1)
    audited = audit(dataset, pixels.facts, 128)
    names = [dataset.items[int(row)].label for row in audited.kept]
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names], np.int64)
    extractor = FeatureExtractor(
        pixels, {"train": audited.kept}, {"train": labels}, audited.groups, classes, backbone,
        trace(backbone.model, 128), torch.device("cpu"), cache_dir, SILENT,
    )  # fmt: skip
    features = activations(extractor, open_prefix(extractor, FEATURES), "train")
    return Whole(np.asarray(features, np.float32), labels, audited.groups, np.array(classes))
