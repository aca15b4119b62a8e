"""The scikit-learn classifier on paths and arrays, and scikit-learn's own checks."""

import copy
import gc
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from headstart import fit
from headstart.errors import DataError, RunError
from headstart.integrations.sklearn import HeadstartClassifier

TABLE = "It fits a table of numbers, and images are paths or arrays of bytes."
EXPECTED_TO_FAIL = {
    "check_classifier_data_not_an_array": TABLE,
    "check_classifiers_classes": TABLE,
    "check_classifiers_one_label": TABLE,
    "check_classifiers_train": TABLE,
    "check_dict_unchanged": TABLE,
    "check_dont_overwrite_parameters": TABLE,
    "check_estimators_dtypes": TABLE,
    "check_estimators_fit_returns_self": TABLE,
    "check_estimators_overwrite_params": TABLE,
    "check_estimators_pickle": TABLE,
    "check_f_contiguous_array_estimator": TABLE,
    "check_fit2d_1feature": TABLE,
    "check_fit2d_1sample": TABLE,
    "check_fit_check_is_fitted": TABLE,
    "check_fit_idempotent": TABLE,
    "check_fit_score_takes_y": TABLE,
    "check_methods_sample_order_invariance": TABLE,
    "check_methods_subset_invariance": TABLE,
    "check_pipeline_consistency": TABLE,
    "check_positive_only_tag_during_fit": TABLE,
    "check_readonly_memmap_input": TABLE,
}
NOT_RUN = {"check_array_api_input"}
"""It runs only where the variable SCIPY_ARRAY_API is set."""

PASSED = 20


def test_check_estimator_of_scikit_learn() -> None:
    """All of its checks are run; those that fail are those that are expected to."""
    results = check_estimator(
        small(), expected_failed_checks=EXPECTED_TO_FAIL, on_skip=None, on_fail="raise"
    )
    found: dict[str, set[str]] = {}
    for each in results:
        found.setdefault(each["status"], set()).add(each["check_name"])
    assert found.keys() == {"passed", "xfail", "skipped"}
    assert found["xfail"] == set(EXPECTED_TO_FAIL)
    assert found["skipped"] == NOT_RUN
    assert len(found["passed"]) == PASSED


def test_the_page_says_which_checks_fail() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"passes {PASSED} of the {PASSED + len(EXPECTED_TO_FAIL) + len(NOT_RUN)} checks" in page
    named = set(re.findall(r"`(check_(?!estimator`)\w+)`", page))
    assert named == {*EXPECTED_TO_FAIL, *NOT_RUN}


def small(**changes: object) -> HeadstartClassifier:
    settings = {"strategy": "head", "epochs": 0, "settings": ["backbone.resolution=64"]}
    return HeadstartClassifier(**{**settings, **changes})  # type: ignore[arg-type]


def test_paths_with_text_labels(pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    model = small().fit(paths, labels)
    assert model.classes_.tolist() == ["checks", "rings", "stripes"]
    probabilities = model.predict_proba(paths[:5])
    assert probabilities.shape == (5, 3)
    assert np.allclose(probabilities.sum(1), 1)
    assert model.score(paths, labels) > 0.8
    assert model.run_.metrics.n > 0
    assert clone(model).get_params() == model.get_params()


def test_arrays_with_numbers_as_labels_keep_their_order(pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    # As text, 10 comes before 9: columns must follow the numbers.
    labels = np.array([{"checks": 10, "rings": 9, "stripes": 2}[p.parent.name] for p in paths])
    model = small().fit(images, labels)
    assert model.classes_.tolist() == [2, 9, 10]
    assert model.score(images, labels) > 0.8


def test_a_series_counts_by_its_index_and_not_by_position(pictures: Path) -> None:
    pandas = pytest.importorskip("pandas")
    paths = sorted(pictures.rglob("*.png"))[::4]
    shuffled = pandas.Series(paths, index=range(100, 100 + len(paths)))
    model = small().fit(shuffled, [path.parent.name for path in paths])
    assert model.predict(shuffled[:3]).tolist() == model.predict(paths[:3]).tolist()


@pytest.fixture(scope="module")
def fitted(pictures: Path) -> HeadstartClassifier:
    paths = sorted(pictures.rglob("*.png"))
    return small().fit(paths, [path.parent.name for path in paths])


def test_a_dump_predicts_in_another_process(
    fitted: HeadstartClassifier, pictures: Path, tmp_path: Path
) -> None:
    paths = [str(path) for path in sorted(pictures.rglob("*.png"))[::7]]
    expected = fitted.predict(paths).tolist()  # the network is in memory from here on
    joblib.dump(fitted, tmp_path / "a.joblib")
    code = (
        "import joblib, json, sys\n"
        "model = joblib.load(sys.argv[1])\n"
        "joblib.dump(model, sys.argv[1] + '.again')\n"
        "print(json.dumps(model.predict(sys.argv[2:]).tolist()), model.run_.metrics.n)\n"
        "assert not {'torch', 'torchvision', 'timm'} & set(sys.modules)"
    )
    for name in ("a.joblib", "a.joblib.again"):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / name, *paths],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split("]") == [json.dumps(expected)[:-1], f" {fitted.run_.metrics.n}\n"]


def test_a_dump_names_no_place(fitted: HeadstartClassifier, pictures: Path) -> None:
    packed = pickle.dumps(fitted)
    for place in (fitted.run_.folder, pictures, Path.cwd()):
        assert str(place).encode() not in packed


def test_copies_outlive_the_original(pictures: Path, fitted: HeadstartClassifier) -> None:
    first = pickle.loads(pickle.dumps(fitted))
    second = copy.deepcopy(first)
    folder = first.run_.folder
    assert folder.is_dir() and folder != second.run_.folder
    del first
    gc.collect()
    assert not folder.exists()
    assert second.predict([pictures / "rings" / "000.png"]).shape == (1,)
    assert second.get_params() == fitted.get_params()


def test_an_unfitted_classifier_is_copied() -> None:
    assert pickle.loads(pickle.dumps(small())).get_params() == small().get_params()


def test_a_run_is_pickled_without_its_network(fitted: HeadstartClassifier, pictures: Path) -> None:
    image = pictures / "rings" / "000.png"
    expected = fitted.run_.predict(image)
    assert pickle.loads(pickle.dumps(fitted.run_)).predict(image) == expected


def test_a_dump_of_a_run_that_was_removed_is_refused(
    fitted: HeadstartClassifier, tmp_path: Path
) -> None:
    gone = pickle.loads(pickle.dumps(fitted))
    shutil.rmtree(gone.run_.folder)
    with pytest.raises(RunError, match="is not a bundle"):
        pickle.dumps(gone)


def test_all_forms_of_the_same_images(fitted: HeadstartClassifier, pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.png"))[::12]
    opened = [Image.open(path) for path in paths]
    expected = fitted.predict_proba(paths)
    forms = {
        "text": [str(path) for path in paths],
        "column": np.array([[str(path)] for path in paths]),
        "objects": np.array(paths, dtype=object),
        "bytes": [path.read_bytes() for path in paths],
        "Pillow": opened,
        "array": np.stack([np.asarray(image) for image in opened]),
        "list of arrays": [np.asarray(image) for image in opened],
    }
    for name, images in forms.items():
        assert np.array_equal(fitted.predict_proba(images), expected), name
    assert fitted.predict_proba(pictures).shape == (48, 3)
    assert np.allclose(fitted.predict_proba(str(paths[0])), expected[:1])
    assert fitted.run_.predict(str(paths[0])) == fitted.run_.predict([str(paths[0])])
    sizes = [np.zeros((10, 20, 3), np.uint8), np.zeros((20, 10, 3), np.uint8)]
    assert fitted.predict(sizes).shape == (2,)


def test_bytes_and_pillow_images_train_it(pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.png"))[::2]
    images = [path.read_bytes() if row % 2 else Image.open(path) for row, path in enumerate(paths)]
    model = small().fit(images, [path.parent.name for path in paths])
    assert model.score(paths, [path.parent.name for path in paths]) > 0.8


def test_a_class_too_rare_to_learn_warns(pictures: Path, tmp_path: Path) -> None:
    paths = [path for path in sorted(pictures.rglob("*.png")) if path.parent.name != "rings"]
    paths += [pictures / "rings" / f"{number:03d}.png" for number in range(2)]
    labels = [path.parent.name for path in paths]
    with pytest.warns(UserWarning, match=r"never predicted: 1 class .*'rings'"):
        model = small().fit(paths, labels)
    assert "rings" in model.classes_
    assert any("'rings'" in note for note in model.run_.record.notes)
    settings = ["backbone.resolution=64"]
    with pytest.warns(UserWarning, match="'rings'"):
        fit(
            paths, labels=labels, strategy="head", epochs=0, settings=settings,
            out=tmp_path / "run",
        )  # fmt: skip


def test_a_sparse_matrix_is_refused_by_its_name() -> None:
    from scipy.sparse import csr_array

    with pytest.raises(DataError, match="A sparse matrix holds no images"):
        small().fit(csr_array(np.eye(4)), [0, 0, 1, 1])


def test_wrong_input() -> None:
    for shape in ((4, 8, 8, 1), (4, 3, 8, 8), (4, 8, 8, 4)):
        with pytest.raises(DataError, match="of shape"):
            small().fit(np.zeros(shape, np.uint8), [0, 0, 1, 1])
    with pytest.raises(DataError, match="uint8"):
        small().fit(np.zeros((4, 8, 8, 3)), [0, 0, 1, 1])
    with pytest.raises(DataError, match="4 images and y has 3"):
        small().fit(np.zeros((4, 8, 8, 3), np.uint8), [0, 0, 1])
    with pytest.raises(NotFittedError):
        small().predict(np.zeros((4, 8, 8, 3), np.uint8))


def test_an_indicator_matrix_gives_an_indicator_matrix(pictures: Path) -> None:
    paths = sorted(pictures.rglob("*.png"))
    kinds = np.array([path.parent.name for path in paths])
    marks = np.stack([kinds != "rings", kinds == "stripes", np.zeros(len(paths))], 1)
    marks = marks.astype(np.int64)
    classifier = small(strategy="head").fit(paths, marks)
    assert classifier.classes_.tolist() == [0, 1, 2]
    told, given = classifier.predict_proba(paths), classifier.predict(paths)
    assert told.shape == given.shape == marks.shape
    assert set(np.unique(given)) <= {0, 1}
    assert not given[:, 2].any()  # no image has it, so it was not learned
    assert (given == marks).mean() > 0.8
    again = pickle.loads(pickle.dumps(classifier))
    assert (again.predict(paths[:5]) == given[:5]).all()
