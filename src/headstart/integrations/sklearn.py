"""The scikit-learn classifier: `fit` and `Run.predict` with the interface of scikit-learn."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import (
    check_classification_targets,
    is_multilabel,
    unique_labels,
)
from sklearn.utils.validation import check_is_fitted, column_or_1d

from headstart.artifacts.bundle_spec import bundle_files
from headstart.errors import DataError, RunError
from headstart.evaluation.label_rules import LabelRule
from headstart.inference.image_inputs import image_inputs
from headstart.inference.run import Run


class HeadstartClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Image classifier for images given as paths, arrays, Pillow images or bytes.

    `X` is a sequence of n images, a table of one column of paths, or a uint8 array (n, height,
    width, 3) or (n, height, width). A pickled object contains the trained classifier itself.
    Like `headstart.fit`, `fit` holds out a validation set and a sealed test set. The metrics on the
    test set are in `run_.metrics`.

    It takes more parameters than other functions, because scikit-learn reads and sets each of them
    by its name.

    Args:
        recipe: A named recipe, or a TOML or JSON file.
        budget: Limit on the wall time, such as `5m`.
        epochs: Number of epochs instead of a budget; the result is then reproducible bit by bit.
        strategy: `head` or `finetune`.
        backbone: Name of a timm model.
        settings: Changes to the recipe such as `optimizer.lr=3e-4`.
        out: Run folder; by default a temporary folder that is deleted with the object.
        cache_dir: Cache folder.
        random_state: Seed for training and for the split.

    Attributes:
        classes_: Class labels (C,), sorted; of an indicator matrix, its column numbers.
        run_: The finished run.

    Example:
        >>> from headstart import HeadstartClassifier
        >>> classifier = HeadstartClassifier(budget="5m")
        >>> classifier.fit(train_paths, train_labels)  # doctest: +SKIP
        >>> classifier.score(test_paths, test_labels)  # doctest: +SKIP
        0.97
    """

    def __init__(
        self,
        recipe: str = "default",
        budget: str | float | None = None,
        epochs: int | None = None,
        strategy: str | None = None,
        backbone: str | None = None,
        settings: Sequence[str] = (),
        out: str | Path | None = None,
        cache_dir: str | Path | None = None,
        random_state: int = 0,
    ) -> None:
        self.recipe = recipe
        self.budget = budget
        self.epochs = epochs
        self.strategy = strategy
        self.backbone = backbone
        self.settings = settings
        self.out = out
        self.cache_dir = cache_dir
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Trains and tests a classifier.

        Args:
            X: Images; see `image_inputs`.
            y: Class labels (n,), or an indicator matrix (n, C): 1 where an image has a label.

        Raises:
            InputError: If `X` and `y` are not enough to train a classifier.
        """
        from headstart.api.fit import fit  # noqa: PLC0415 - imports torch, which predict needs not

        several = is_multilabel(y)
        labels = _indicator(y) if several else column_or_1d(y, warn=True)
        check_classification_targets(labels)
        folder = _own_folder(self)  # holds the run if `out` is None
        paths = _as_paths(X, folder / "images")
        if len(paths) != len(labels):
            raise DataError(f"X has {len(paths)} images and y has {len(labels)} labels.")
        self.classes_ = unique_labels(labels)
        names = [_class_name(self.classes_, label) for label in self.classes_]
        given: list[str | tuple[str, ...]]
        if several:
            given = [tuple(names[column] for column in np.flatnonzero(row)) for row in labels]
        else:
            given = [_class_name(self.classes_, label) for label in labels]
        self.run_ = fit(
            paths,
            labels=given,
            task="multilabel" if several else None,
            recipe=self.recipe,
            budget=self.budget,
            epochs=self.epochs,
            strategy=self.strategy,
            backbone=self.backbone,
            settings=self.settings,
            out=self.out if self.out is not None else folder / "run",
            cache_dir=self.cache_dir,
            seed=self.random_state,
            split_seed=self.random_state,
            progress=False,
        )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Returns calibrated probabilities (n, C) in the order of `classes_`.

        Raises:
            DataError: If an image cannot be read.
        """
        check_is_fitted(self, "run_")
        predictions = self.run_.predict(X)
        if not predictions:
            raise DataError("X contains no images.")
        probabilities = np.zeros((len(predictions), len(self.classes_)))
        names = [_class_name(self.classes_, label) for label in self.classes_]
        for row, prediction in enumerate(predictions):
            if prediction.error:
                raise DataError(prediction.error)
            # A class that was left out for lack of images has probability 0.
            probabilities[row] = [prediction.probabilities.get(name, 0.0) for name in names]
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Returns the most probable class (n,) of each image.

        After `fit` on an indicator matrix, it is one too (n, C): each label has its own threshold.
        """
        check_is_fitted(self, "run_")
        if self.run_.record.task == "multilabel":
            known = {name: rule.threshold for name, rule in _rules(self.run_).items()}
            never = 2.0  # a label that was left out
            names = [_class_name(self.classes_, label) for label in self.classes_]
            limits = [known.get(name, never) for name in names]
            return np.asarray(self.predict_proba(X) >= limits, np.int64)
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(1)]
        return labels

    def __getstate__(self) -> dict[str, Any]:
        # What is dumped carries the classifier: a folder may not outlive this process.
        state = dict(super().__getstate__())
        if "run_" in state:
            state["run_"] = _packed(state["run_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "run_" in state:
            state = {**state, "run_": _unpacked(state["run_"], _own_folder(self) / "run")}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True  # one column of paths
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        tags.non_deterministic = self.epochs is None
        return tags


def _indicator(y: ArrayLike) -> NDArray[np.int64]:
    """Returns an indicator matrix (n, C).

    Raises:
        DataError: If it is sparse.
    """
    if hasattr(y, "toarray"):
        raise DataError("The labels y are a sparse matrix. Give y.toarray().")
    return np.asarray(y, np.int64)


def _rules(run: Run) -> dict[str, LabelRule]:
    """Returns the rule of each label of a run."""
    spec = run.bundle.spec
    return dict(zip(spec.classes, spec.labels, strict=True))


def _own_folder(classifier: HeadstartClassifier) -> Path:
    """Returns a new folder that lives as long as a classifier."""
    folder = Path(tempfile.mkdtemp(prefix="headstart-"))
    weakref.finalize(classifier, shutil.rmtree, folder, ignore_errors=True)
    return folder


def _class_name(classes: NDArray[Any], label: Any) -> str:
    """Returns a unique name of a class: `a` and `a ` must stay apart."""
    text = str(label).strip()
    alike = sum(str(other).strip() == text for other in classes)
    return text if text and alike == 1 else f"{text}#{int(np.searchsorted(classes, label))}"


def _as_paths(X: Any, folder: Path) -> list[Path]:
    """Returns paths unchanged, and writes other images to files in `folder`."""
    given = image_inputs(X)
    if not given:
        raise DataError("X contains no images.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for row, image in enumerate(given):
        if isinstance(image.source, Path):
            paths.append(image.source)
        else:
            paths.append(folder / f"{row:06d}.png")
            paths[-1].write_bytes(image.source)
    return paths


def _packed(run: Run) -> dict[str, bytes]:
    """Returns the files of a run that predictions need, without the places of its images.

    Raises:
        RunError: If the run is no longer there.
    """
    places = {"command": "", "data_root": "", "source": "", "request": None}
    record = run.record.model_copy(update=places)
    files = {"run.json": record.model_dump_json().encode()}
    bundle = [f"bundle/{name}" for name in bundle_files(run.folder / "bundle")]
    try:
        for name in ("metrics.json", "recipe.toml", *bundle):
            files[name] = (run.folder / name).read_bytes()
    except OSError as error:
        raise RunError(f"Cannot read {error.filename}: {error.strerror}.") from None
    return files


def _unpacked(files: dict[str, bytes], folder: Path) -> Run:
    """Writes the files of a run to a folder and opens it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return Run.open(folder)
