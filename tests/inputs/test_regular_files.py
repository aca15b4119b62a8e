"""Paths that are not files: refused at once, where reading them would wait for ever."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headstart.artifacts.embeddings import read_embeddings
from headstart.artifacts.evidence import read_evidence, read_picture
from headstart.artifacts.fingerprint import read_fingerprint
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.run import read_predictions, read_record, read_split_parts
from headstart.backbones.weights import read_weights
from headstart.data.entries import SUMS, use
from headstart.data.images import load_image
from headstart.data.sources import load_dataset
from headstart.data.splits import read_split
from headstart.diagnose.reasons import read_suspects_csv
from headstart.errors import InputError
from headstart.inference.bundle import load_bundle
from headstart.inputs.regular_files import open_regular, read_text
from headstart.progress import SILENT
from headstart.recipes.parsing import load_recipe

RUN = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "finished"
Command = Callable[..., subprocess.CompletedProcess[str]]
Maker = Callable[[Path], None]


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Ends a test that waits for a writer that never comes."""

    def stop(*_: object) -> None:
        raise TimeoutError("reading it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def a_socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    os.fchdir(here)
    os.close(here)


KINDS: dict[str, Maker] = {
    "a named pipe": os.mkfifo,
    "a socket": a_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": os.mkdir,
}
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "recipe": ("recipe.toml", lambda path: load_recipe(str(path))),
    "recipe in JSON": ("recipe.json", lambda path: load_recipe(str(path))),
    "PyTorch weights": ("weights.pth", read_weights),
    "weights": ("weights.safetensors", read_weights),
    "split": ("split.csv", lambda path: read_split(path, ["a.png"])),
    "image": ("a.png", lambda path: load_image(path, None, 64)),
    "run": ("run.json", lambda path: read_record(path.parent)),
    "journal": ("trials.jsonl", lambda path: TRIALS.read(path.parent)),
    "predictions": ("predictions.csv", lambda path: read_predictions(path.parent)),
    "split of a run": ("split.csv", lambda path: read_split_parts(path.parent)),
    "fingerprint": ("data.csv", lambda path: read_fingerprint(path.parent)),
    "evidence": ("evidence.json", lambda path: read_evidence(path.parent)),
    "suspects": ("suspects.csv", read_suspects_csv),
    "embeddings": ("embeddings.safetensors", read_embeddings),
    "description": ("bundle/bundle.json", lambda path: load_bundle(path.parent)),
    "network": ("bundle/model.safetensors", lambda path: load_bundle(path.parent)),
    "range": ("bundle/range.safetensors", lambda path: load_bundle(path.parent)),
}
TABLES = ("a.csv", "a.tsv", "a.jsonl", "a.parquet")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_read(reader: str, kind: str, run: Path) -> None:
    name, read = READERS[reader]
    (run / name).unlink(missing_ok=True)
    KINDS[kind](run / name)
    with pytest.raises(InputError) as refused:
        read(run / name)
    said = str(refused.value)
    assert f"it is {kind}, not a regular file" in said and "\n" not in said


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", list(KINDS)[:3])
def test_tables_of_images_are_regular_files(kind: str, name: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / name)
    with pytest.raises(InputError, match="There is no folder or file"):
        load_dataset(tmp_path / name)
    folder = tmp_path / "export" / "train"
    folder.mkdir(parents=True)
    KINDS[kind](folder / "_classes.csv")  # as Roboflow names it
    with pytest.raises(InputError, match=f"it is {kind}"):
        load_dataset(folder.parent)


def test_a_pipe_is_no_cache_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    os.mkfifo(tmp_path / "entry" / SUMS)
    assert use(tmp_path / "entry", SILENT) is None
    (tmp_path / "pictures").mkdir()
    assert read_picture(tmp_path, "heat", "a.png") is None


def test_a_missing_file_and_a_strange_name_are_errors_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    with pytest.raises(OSError, match="NUL"):
        read_text(Path("a\0b"))
    (tmp_path / "text").write_bytes(b"a\r\nb\n")
    assert read_text(tmp_path / "text") == "a\nb\n"


def test_commands_refuse_pipes(pictures: Path, tmp_path: Path, headstart: Command) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    refused = headstart("fit", pictures, "--recipe", pipe, "--out", tmp_path / "out")
    assert refused.returncode == 2
    error = refused.stderr.splitlines()[-1]
    assert error.startswith(f"error: The recipe {pipe} cannot be read: it is a named pipe")
