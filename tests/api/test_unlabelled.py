"""`--unlabelled`: what helps is kept and told, what does not is dropped, and nothing leaks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from headstart import fit
from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.fingerprint import read_fingerprint
from headstart.artifacts.unlabelled import UnlabelledUse
from headstart.errors import InputError, RecipeError
from headstart.features.pseudo_labels import Tried
from headstart.inference.run import Run

HEAD = {"strategy": "head", "epochs": 0, "settings": ("backbone.resolution=64",)}


@pytest.fixture(scope="module")
def pool(
    pictures: Path, noisy_pictures: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Noisy pictures in one folder, a copy of a labelled one, and what is no image."""
    place = tmp_path_factory.mktemp("pool")
    folder = place / "pool"
    folder.mkdir()
    for file in sorted(noisy_pictures(place / "drawn", range(100, 108)).rglob("*.png")):
        shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    shutil.copy(folder / "rings-100.png", folder / "twice.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def dropped(
    headstart: Callable[..., CompletedProcess[str]],
    pictures: Path,
    pool: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, CompletedProcess[str]]:
    """A run whose head is right on all held-out images already, as a command."""
    folder = tmp_path_factory.mktemp("dropped")
    copied = folder / "pool"
    shutil.copytree(pool, copied)
    shutil.copy(pictures / "rings" / "000.png", copied / "copy.png")
    out = ("--strategy", "head", "--epochs", "0", "--set", "backbone.resolution=64", "--json")
    done = headstart("fit", pictures, "--unlabelled", copied, *out, "--out", folder / "run")
    return folder / "run", done


@pytest.fixture(scope="module")
def kept(
    pictures: Path, pool: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run that takes the unlabelled images, whatever they gain on such easy pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tried, "helps", property(lambda tried: tried.gain > -1))
        out = tmp_path_factory.mktemp("kept") / "run"
        return fit(pictures, unlabelled=pool, out=out, cache_dir=shared_cache, **HEAD)


def test_what_does_not_help_changes_nothing_and_is_told(
    dropped: tuple[Path, CompletedProcess[str]], head_run: Run
) -> None:
    folder, done = dropped
    now, before = read_spec(folder / "bundle"), read_spec(head_run.folder / "bundle")
    assert (now.weights_sha256, now.temperature) == (before.weights_sha256, before.temperature)
    found = json.loads(done.stdout)["record"]["unlabelled"]
    assert found["used"] == 0 and found["gain"] <= found["noise"]
    assert "did not help" in found["why_not"]
    assert found["images"] == 27 and found["left_out"]["unreadable"] == 1
    assert sum(found["left_out"][f"like {part} images"] for part in _parts(found)) >= 1
    assert "unlabelled: 27 images in pool, not used: they did not help" in done.stderr
    assert "1 unlabelled image in pool cannot be read" in done.stderr
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "27 images in pool, not used: they did not help" in page


def _parts(found: dict[str, dict[str, int]]) -> list[str]:
    parts = ("sealed test", "validation", "training")
    return [part for part in parts if f"like {part} images" in found["left_out"]]


def test_what_helps_is_in_the_head_its_temperature_and_the_record(
    kept: Run, head_run: Run, pictures: Path
) -> None:
    now, before = read_spec(kept.folder / "bundle"), read_spec(head_run.folder / "bundle")
    assert now.weights_sha256 != before.weights_sha256
    known = kept.record.unlabelled
    assert known is not None and known.used == known.images - sum(known.left_out.values())
    assert known.used >= 20 and known.why_not == ""
    calibration = kept.record.calibration
    assert calibration is not None and "with unlabelled images" in calibration.source
    assert calibration.images == kept.record.n_train + kept.record.n_val
    assert any(step.stage == "unlabelled" for step in kept.record.plan)
    assert kept.metrics.accuracy > 0.9
    found = kept.predict(pictures)
    assert np.mean([each.label in each.image for each in found]) > 0.9
    card = (kept.folder / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"{known.used} unlabelled images" in card


def test_the_folder_is_in_the_run_for_resume(kept: Run, pool: Path) -> None:
    marks = read_fingerprint(kept.folder, "unlabelled.csv")
    assert marks is not None
    assert [mark.path for mark in marks] == sorted(file.name for file in pool.iterdir())
    assert all(len(mark.sha256) == 16 and not mark.label for mark in marks)


def test_several_labels_are_refused(pool: Path, tmp_path: Path) -> None:
    rows = ["image,label", *(f"{file.name},a;b" for file in sorted(pool.iterdir())[1:9])]
    rows += [f"{file.name},b" for file in sorted(pool.iterdir())[9:18]]
    (pool.parent / "labels.csv").write_text("\n".join(rows))
    with pytest.raises(RecipeError, match="--unlabelled needs images with one label each"):
        fit(
            pool.parent / "labels.csv", root=pool, unlabelled=pool, task="multilabel",
            out=tmp_path / "run", **HEAD,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_folder_is_needed(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--unlabelled .* is not a folder"):
        fit(pictures, unlabelled=tmp_path / "none", out=tmp_path / "run", **HEAD)


@pytest.mark.parametrize(
    ("gain", "accuracy", "said"),
    [
        (0.1, 0.02, "lower by 0.100 (standard error 0.030), accuracy 2.0 points higher"),
        (-0.1, -0.01, "higher by 0.100 (standard error 0.030), accuracy 1.0 points lower"),
        (0.0, 0.0, "lower by 0.000 (standard error 0.030), accuracy the same"),
    ],
)
def test_the_words(gain: float, accuracy: float, said: str) -> None:
    use = UnlabelledUse(
        folder="pool", images=9, used=7, left_out={"unreadable": 1, "copies of others": 1},
        gain=gain, noise=0.03, accuracy_gain=accuracy,
    )  # fmt: skip
    ((term, text),) = use.lines
    assert term == "Unlabelled images" and said in text
    assert text.endswith("; left out: 1 unreadable and 1 copies of others")
