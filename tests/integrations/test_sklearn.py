"""The scikit-learn classifier on paths and arrays, and scikit-learn's own checks.

scikit-learn's checks feed tables of floats, which are no images. These cannot hold and are listed:
every check that fits on such a table. What remains concerns construction, parameters, cloning,
tags, and what an unfitted estimator does.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import estimator_checks_generator

from headstart.errors import DataError
from headstart.integrations.sklearn import HeadstartClassifier

MAKE_SENSE = {
    "check_classifiers_regression_target",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}

NEED_TABLES = {
    "check_array_api_input",
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_train",
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",  # nothing is pickled: the bundle is what is kept
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
}


def name_of(check: object) -> str:
    return getattr(getattr(check, "func", check), "__name__", "")


class TakesTables(HeadstartClassifier):
    """scikit-learn makes its checks only for estimators that say they take tables."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


CHECKS = [
    pytest.param(estimator, check, id=name_of(check))
    for estimator, check in estimator_checks_generator(TakesTables(), legacy=True, mark=None)
    if name_of(check) in MAKE_SENSE
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learn(estimator: HeadstartClassifier, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_all_checks_that_make_sense_ran() -> None:
    assert {parameter.id for parameter in CHECKS} == MAKE_SENSE
    assert not MAKE_SENSE & NEED_TABLES


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
