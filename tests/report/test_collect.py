"""What a run keeps of its images, so that its report can be drawn when they are gone."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from headstart.api.fit import fit
from headstart.artifacts.evidence import read_evidence, read_picture
from headstart.artifacts.records import TestPrediction
from headstart.artifacts.run import read_predictions, read_split_parts
from headstart.inference.run import Run
from headstart.report.collect import right_beside
from headstart.report.images import shown_mistakes

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def gone(
    mislabelled_pictures: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A run that makes mistakes, and whose images are gone."""
    folder = tmp_path_factory.mktemp("gone")
    images = mislabelled_pictures(folder / "images")
    settings = ["backbone.resolution=64", "augmentation=trivial_augment", "views=2"]
    run = fit(images, epochs=1, out=folder / "run", settings=settings)
    shutil.rmtree(images)
    return run


def test_mistakes_have_pictures_heat_and_neighbours(gone: Run) -> None:
    wrong = shown_mistakes(read_predictions(gone.folder))
    assert wrong, "some labels are wrong"
    evidence, parts = read_evidence(gone.folder), read_split_parts(gone.folder)
    assert evidence.neighbours.keys() == {each.path for each in wrong}
    for each in wrong:
        assert read_picture(gone.folder, "photograph", each.path)
        assert read_picture(gone.folder, "colour", each.path)
        near = evidence.neighbours[each.path]
        assert len(near) == 3
        assert all(parts[other.image] == "train" for other in near)
        assert [n.similarity for n in near] == sorted((n.similarity for n in near), reverse=True)
        assert all(read_picture(gone.folder, "photograph", other.image) for other in near)
    assert evidence.notes == ()


def test_a_right_answer_of_the_same_class_stands_beside_a_mistake(gone: Run) -> None:
    said = {each.path: each for each in read_predictions(gone.folder)}
    evidence = read_evidence(gone.folder)
    assert evidence.right.keys() == {each.path for each in shown_mistakes([*said.values()])}
    for wrong, other in evidence.right.items():
        assert said[other.image].label == said[other.image].prediction == said[wrong].label
        assert read_picture(gone.folder, "photograph", other.image)
        assert read_picture(gone.folder, "colour", other.image)


def test_the_most_similar_right_answer_is_chosen() -> None:
    def said(path: str, label: str, prediction: str) -> TestPrediction:
        return TestPrediction(
            path=path, label=label, prediction=prediction, probability=0.9, probability_of_label=0.1
        )

    all_of = [
        said("a", "ant", "bee"), said("b", "ant", "ant"), said("c", "ant", "ant"),
        said("d", "bee", "bee"), said("e", "wasp", "bee"),
    ]  # fmt: skip
    vectors = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [1, 0]], np.float32)
    place = {each.path: row for row, each in enumerate(all_of)}
    found = right_beside(all_of, [all_of[0], all_of[4]], vectors, place)
    # d is nearest but no ant, and no wasp is right. The cosine of (1, 0) and (1, 1) is 1/√2.
    assert {name: near.image for name, near in found.items()} == {"a": "c"}
    assert found["a"].similarity == pytest.approx(0.5**0.5)


def test_neighbours_are_those_that_similar_finds(
    gone: Run, mislabelled_pictures: Callable[[Path], Path], tmp_path: Path
) -> None:
    images = mislabelled_pictures(tmp_path / "images")  # the same once more
    name, near = next(iter(read_evidence(gone.folder).neighbours.items()))
    found = gone.similar(images / name, k=3)
    assert [each.image for each in found] == [each.image for each in near]
    assert [each.similarity for each in found] == pytest.approx(
        [each.similarity for each in near], abs=0.02
    )


def test_the_map_shows_test_and_training_images(gone: Run) -> None:
    drawn = read_evidence(gone.folder).map
    assert drawn is not None
    parts = read_split_parts(gone.folder)
    said = {each.path: each.prediction for each in read_predictions(gone.folder)}
    shown = {point.image: point.prediction for point in drawn.points}
    assert shown == {
        name: said.get(name, "") for name, part in parts.items() if part in {"train", "test"}
    }
    assert (gone.folder / "pictures" / "map.jpg").exists()


def test_the_report_is_drawn_from_the_run_folder_alone(gone: Run, headstart: Command) -> None:
    path = gone.folder / "report.html"
    before = path.read_text(encoding="utf-8")
    path.unlink()
    done = headstart("report", gone.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(path)
    after = path.read_text(encoding="utf-8")
    assert "no picture" not in after
    # The time that a run took is written after its report.
    assert len(re.findall("<img", after)) == len(re.findall("<img", before)) > 4
    again = headstart("report", gone.folder / "bundle")
    assert again.returncode == 2
    assert "is no" in again.stderr
