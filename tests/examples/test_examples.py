"""The scripts in `examples/` do what they say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from headstart.inference.run import Run

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, *arguments: object, **environment: str) -> str:
    """Runs a script as a reader would, and returns what it prints."""
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    known = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=known, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_script_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    scripts = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(scripts) == 3
    assert all(f'example("{name}"' in text for name in scripts)


@pytest.mark.slow
def test_train(pictures: Path, tmp_path: Path) -> None:
    said = example("train.py", pictures, "--out", tmp_path / "run")
    assert "sealed images are correct" in said and "(95% interval)" in said
    assert all(f"  {name}: " in said for name in ("checks", "rings", "stripes"))
    assert (tmp_path / "run" / "report.html").is_file()


def test_sort_photos(head_run: "Run", pictures: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for kind in ("checks", "rings", "stripes"):
        content = (pictures / kind / "003.png").read_bytes()
        (photos / f"{kind}.png").write_bytes(content)
    noise = np.random.default_rng(3).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photos / "noise.png")
    (photos / "broken.png").write_bytes(b"no image")
    said = example("sort_photos.py", head_run.folder, photos, tmp_path / "sorted")
    found = {p.name: p.parent.name for p in (tmp_path / "sorted").rglob("*") if p.is_file()}
    assert found.keys() == {each.name for each in photos.iterdir()}
    assert found["noise.png"] == found["broken.png"] == "to look at"
    answers = {Path(each.image).stem: each for each in head_run.predict(photos, set_coverage=0.9)}
    for kind in ("checks", "rings", "stripes"):
        answer = answers[kind]
        sure = len(answer.classes) == 1 and not answer.out_of_distribution
        assert found[f"{kind}.png"] == (answer.label if sure else "to look at")
    assert sum(int(line.rpartition(" ")[2]) for line in said.splitlines()) == 5


@pytest.fixture
def service(head_run: "Run") -> Iterator[str]:
    """The address of a service that wants a key."""
    command = [sys.executable, "-m", "headstart", "serve", str(head_run.folder), "--port", "0"]
    environment = {**os.environ, "HEADSTART_API_KEY": "0123456789abcdef"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        yield said[said.index("http://") :].split()[0]
        process.terminate()


def test_ask_service(service: str, head_run: "Run", pictures: Path) -> None:
    images = [pictures / "rings" / "003.png", pictures / "checks" / "003.png"]
    said = example("ask_service.py", service, *images, HEADSTART_API_KEY="0123456789abcdef")
    wanted: list[Any] = head_run.predict(images)
    for line, image, answer in zip(said.splitlines(), images, wanted, strict=True):
        assert line.startswith(f"{image}: {answer.label} {answer.probability:.1%}")
        assert ("unlike" in line) == answer.out_of_distribution


def test_the_images_for_docker_copy_what_there_is() -> None:
    """Docker is not there to build them."""
    root = EXAMPLES.parent
    for name in ("Dockerfile", "Dockerfile.train"):
        for line in (root / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("COPY "):
                assert all((root / each).exists() for each in line.split()[1:-1]), line
