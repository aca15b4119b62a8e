"""The main job on small pictures, with the real pretrained backbone at a low resolution."""

import hashlib
import importlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from headstart.api.fit import fit
from headstart.artifacts.bundle import load_network
from headstart.artifacts.run import read_predictions, read_record
from headstart.artifacts.run_start import EPOCHS
from headstart.errors import BudgetError, DataError, InputError, RunError
from headstart.evaluation.trust import Calibration
from headstart.inference.run import Run
from headstart.recipes.parsing import load_recipe

PRETRAINED = ["backbone.resolution=64"]
SMALL = [*PRETRAINED, "backbone.name=test_efficientnet", "backbone.weights=random"]


def weights_of(run: Run) -> str:
    return hashlib.sha256((run.folder / "bundle" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tuned(pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "tuned"
    return fit(pictures, epochs=2, settings=SMALL, out=out, cache_dir=shared_cache)


def test_a_run_holds_everything(tuned: Run) -> None:
    names = {path.name for path in tuned.folder.iterdir()}
    assert names == {
        "run.json", "recipe.toml", "split.csv", "data.csv", "audit.json", "epochs.jsonl",
        "metrics.json", "request.toml",
        "predictions.csv", "report.html", "bundle", "embeddings.safetensors", "evidence.json",
        "pictures",
    }  # fmt: skip
    assert {path.name for path in (tuned.folder / "bundle").iterdir()} == {
        "MODEL_CARD.md",
        "bundle.json",
        "model.onnx",
        "model.safetensors",
        "range.safetensors",
    }
    record = read_record(tuned.folder)
    assert record.status == "done"
    assert record.test_opened_at
    assert record.n_train + record.n_val + record.n_test == 48
    assert [epoch.epoch for epoch in EPOCHS.read(tuned.folder)] == [0, 1, 2]
    assert load_recipe(str(tuned.folder / "recipe.toml")).epochs == 2


def test_it_learned(tuned: Run) -> None:
    assert tuned.metrics.accuracy > 0.7
    calibration = tuned.record.calibration
    assert calibration is not None
    assert (calibration.source, calibration.images) == ("validation images", tuned.record.n_val)
    assert calibration.temperature == tuned.metrics.temperature == tuned.bundle.spec.temperature
    assert calibration.sets == tuple(each.threshold for each in tuned.bundle.spec.sets)
    assert read_record(tuned.folder).calibration == calibration
    low, high = tuned.metrics.accuracy_interval
    assert low < tuned.metrics.accuracy <= high


def test_metrics_are_those_of_the_reloaded_bundle_on_the_files(tuned: Run, pictures: Path) -> None:
    predictions = read_predictions(tuned.folder)
    again = Run.open(tuned.folder).predict([pictures / p.path for p in predictions])
    assert [p.label for p in again] == [p.prediction for p in predictions]
    for old, new in zip(predictions, again, strict=True):
        assert new.probability == pytest.approx(old.probability, abs=1e-4)
    right = np.mean([p.label == p.prediction for p in predictions])
    assert tuned.metrics.accuracy == pytest.approx(right)


def test_alarms_are_those_of_the_sealed_test(
    pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A validation that misleads: a temperature is found that does harm on the test images."""
    misled = Calibration(temperature=20.0, images=6, source="a wrong guess")
    monkeypatch.setattr("headstart.training.finetune.fit_calibration", lambda *_, **__: misled)
    run = fit(
        pictures, strategy="head", settings=SMALL, out=tmp_path / "run", cache_dir=shared_cache
    )
    assert run.metrics.log_loss > 0.5 > (run.metrics.log_loss_uncalibrated or 9)
    assert run.record.alarms[0].startswith("The temperature 20.00 makes")
    assert read_record(run.folder).alarms == run.record.alarms
    for page in ("report.html", "bundle/MODEL_CARD.md"):
        assert "makes the log loss of the test images worse" in (run.folder / page).read_text()


def test_the_report_needs_no_network(tuned: Run) -> None:
    page = (tuned.folder / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="https' not in page
    assert "right" in page.lower()


@pytest.mark.slow
def test_same_seed_same_bytes_cache_cold_or_warm(
    pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file: what may differ is what `benchmarks/same_bytes.py` lists."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    same_bytes = importlib.import_module("same_bytes")

    def fitted(out: str, cache: Path, seed: int = 0) -> Run:
        # A random head is always trained: the probe could win and hide what training does.
        settings = [*SMALL, "head.init=random"]
        run = fit(
            pictures, epochs=2, settings=settings, out=tmp_path / out, cache_dir=cache, seed=seed
        )
        assert run.record.chosen == "fine-tuned"
        return run

    first = fitted("first", shared_cache)
    for name, cache in (("warm", shared_cache), ("cold", tmp_path / "cold-cache")):
        assert same_bytes.differences(first.folder, fitted(name, cache).folder) == []
    assert weights_of(fitted("other", shared_cache, seed=1)) != weights_of(first)


def test_the_head_alone(head_run: Run) -> None:
    run = head_run
    assert run.record.boundary == "features"
    assert run.record.chosen == "probe"
    assert run.metrics.accuracy > 0.7
    # The backbone is the pretrained one, untouched.
    from headstart.backbones.catalog import load_backbone

    fresh = load_backbone(resolution=64).model.state_dict()
    shipped = load_network(run.folder / "bundle").state_dict()
    found = [name for name in shipped if name.endswith("blocks.3.1.conv_pw.weight")]
    assert found
    name = "blocks.3.1.conv_pw.weight"
    assert np.array_equal(shipped[found[0]].numpy(), fresh[name].numpy())


def test_the_articles_first_attempt(pictures: Path, tmp_path: Path) -> None:
    run = fit(pictures, recipe="naive", epochs=1, settings=SMALL, out=tmp_path / "r")
    assert run.record.boundary == "input"
    assert run.record.views == 1
    assert len(EPOCHS.read(run.folder)) == 2


@pytest.mark.slow
@pytest.mark.slow
def test_the_whole_network_under_a_head_that_sees_all_stages(
    pictures: Path, tmp_path: Path
) -> None:
    settings = ["backbone.resolution=64", "freezing=full", "head.features=stages", "batch_size=16"]
    run = fit(pictures, recipe="default", epochs=1, settings=settings, out=tmp_path / "run")
    assert run.record.boundary == "input"
    assert run.bundle.spec.taps
    assert run.bundle.spec.features > 1280
    assert run.metrics.accuracy > 0.5


def test_a_random_head_on_a_frozen_backbone(pictures: Path, tmp_path: Path) -> None:
    settings = [*PRETRAINED, "freezing=head_only", "head.init=random", "optimizer.lr=1e-2"]
    run = fit(pictures, epochs=8, settings=settings, out=tmp_path / "run")
    epochs = EPOCHS.read(run.folder)
    assert epochs[-1].val_loss < epochs[0].val_loss


@pytest.mark.slow
def test_another_architecture_from_scratch(pictures: Path, tmp_path: Path) -> None:
    run = fit(
        pictures,
        backbone="resnet18",
        weights="random",
        epochs=1,
        settings=["backbone.resolution=32"],
        out=tmp_path / "run",
    )
    assert run.record.backbone == "resnet18"
    assert Run.open(run.folder).predict([next(pictures.rglob("*.png"))])[0].label


def test_a_split_can_be_given_back_in(tuned: Run, pictures: Path, tmp_path: Path) -> None:
    run = fit(
        pictures,
        strategy="head",
        epochs=0,
        settings=SMALL,
        split=tuned.folder / "split.csv",
        split_seed=99,
        out=tmp_path / "run",
    )
    assert (run.folder / "split.csv").read_text() == (tuned.folder / "split.csv").read_text()


@pytest.mark.slow
def test_the_budget_is_a_ceiling(pictures: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    run = fit(pictures, budget="45s", settings=SMALL, out=tmp_path / "run")
    assert time.monotonic() - start <= 45 + 10
    assert run.record.stop_reason


def test_a_budget_below_the_cheapest_path_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"the cheapest path takes about \d+ s"):
        fit(pictures, budget="1s", settings=SMALL, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(BudgetError, match="not both"):
        fit(pictures, budget="1m", epochs=3, out=tmp_path / "run")


def test_an_output_folder_in_use_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="in use"):
        fit(pictures, epochs=1, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_broken_files_are_left_out_and_named(two_classes: Path, tmp_path: Path) -> None:
    folder = two_classes
    whole = (folder / "rings" / "000.png").read_bytes()
    (folder / "rings" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "rings" / "text.jpg").write_text("no image")
    (folder / "stripes" / "empty.PNG").write_bytes(b"")
    shutil.copy(folder / "rings" / "001.png", folder / "stripes" / "liar.png")
    Image.new("L", (30, 40)).save(folder / "stripes" / "-dash and späce.JPG")
    run = fit(folder, strategy="head", epochs=0, settings=SMALL, out=tmp_path / "run")
    audit = json.loads((run.folder / "audit.json").read_text())
    assert set(audit["dropped"]) == {
        "rings/truncated.png",
        "rings/text.jpg",
        "stripes/empty.PNG",
        "rings/001.png",
        "stripes/liar.png",
    }
    split = (run.folder / "split.csv").read_text()
    assert "-dash and späce.JPG" in split
    assert "liar" not in split


def test_nothing_is_written_where_nothing_can_be_trained(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        (tmp_path / "data" / kind / "x.jpg").write_text("no image")
    with pytest.raises(DataError):
        fit(tmp_path / "data", epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_few_images_to_validate_are_refused(two_classes: Path, tmp_path: Path) -> None:
    for path in two_classes.rglob("*.png"):
        if int(path.stem) >= 3:
            path.unlink()
    with pytest.raises(DataError, match="needs 4"):
        fit(two_classes, epochs=1, settings=SMALL, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_gap_between_cached_and_fresh_views_is_told(tuned: Run) -> None:
    assert tuned.record.views == 2
    assert tuned.record.cached_view_accuracy is not None
    assert tuned.record.fresh_view_accuracy is not None


def test_an_interrupted_run_says_so(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headstart.training.finetune.train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, epochs=2, settings=SMALL, out=tmp_path / "run", progress=True)
    assert "but no network" in " ".join(capsys.readouterr().err.split())
    record = read_record(tmp_path / "run")
    assert record.status == "interrupted"
    with pytest.raises(RunError):
        Run.open(tmp_path / "run")


def test_an_interrupted_training_ships_its_best_epoch(
    pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the third epoch, of which nothing may be left in the network."""
    from headstart.training import finetune

    real, seen = finetune.train, list[tuple[float, Any]]()

    def train(network: Any, *arguments: Any) -> Any:
        for epoch in real(network, *arguments):
            if epoch.epoch == 3:
                raise KeyboardInterrupt
            state = {name: value.clone() for name, value in network.head.state_dict().items()}
            seen.append((epoch.val_loss, state))
            yield epoch

    monkeypatch.setattr(finetune, "train", train)
    settings = [
        *PRETRAINED,
        "head=linear",
        "head.init=random",
        "blend=1",
        "averaging=none",
        "views=1",
    ]
    run = fit(
        pictures, epochs=9, settings=settings, out=tmp_path / "run", cache_dir=shared_cache
    )  # fmt: skip
    losses = [loss for loss, _ in seen]
    best = losses.index(min(losses))
    assert (run.record.status, run.record.chosen, run.record.epochs) == (
        "done",
        "fine-tuned",
        best + 1,
    )
    assert run.record.stop_reason.startswith("the training was interrupted")
    (note,) = (note for note in run.record.notes if note.startswith("Interrupted"))
    assert f"after 2 of 9 epochs: epoch {best + 1}, which" in note
    assert note in (run.folder / "report.html").read_text(encoding="utf-8")
    acted = {each.family: each.state for each in run.record.acted}
    assert acted["optimizer"] == "acted"
    shipped = load_network(run.folder / "bundle").state_dict()
    for value in seen[best][1].values():
        assert any(torch.equal(value, other) for other in shipped.values())


@pytest.fixture(scope="module")
def everything(pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Many methods at once, as the article combines them."""
    settings = [
        *PRETRAINED, "optimizer=ranger", "batch_mixing=cutmix", "batch_mixing.probability=0.9",
        "metric_loss=triplet", "metric_loss.margin=0.5", "schedule=cosine", "activation=mish",
        "head=mlp", "activation.where=both", "head.init=random", "test_time_flip=true",
        "freezing.blocks=3", "batch_size=16", "augmentation.cutout=0.3", "feature_flip=true",
    ]  # fmt: skip
    out = tmp_path_factory.mktemp("runs") / "everything"
    return fit(pictures, epochs=6, settings=settings, out=out, cache_dir=shared_cache)


def test_the_run_says_what_each_method_did(everything: Run) -> None:
    acted = {(each.family, each.method, each.state) for each in everything.record.acted}
    assert {
        ("activation", "mish", "acted"), ("augmentation", "trivial_augment", "acted"),
        ("batch_mixing", "cutmix", "acted"), ("criterion", "label_smoothing", "acted"),
        ("freezing", "last_blocks", "acted"), ("head", "mlp", "acted"),
        ("metric_loss", "triplet", "acted"), ("optimizer", "ranger", "acted"),
        ("schedule", "cosine", "acted"), ("averaging", "ema", "acted"),
        ("feature_flip", "flip", "acted"), ("test_time_flip", "flip", "acted"),
    } <= acted  # fmt: skip
    page = (everything.folder / "report.html").read_text(encoding="utf-8")
    assert "What each method did" in page
    assert "ReLU6 to Mish" in page
    assert "MAP@R" in page


def test_swapped_activations_and_flips_are_shipped(everything: Run, pictures: Path) -> None:
    predictions = read_predictions(everything.folder)
    again = Run.open(everything.folder).predict([pictures / p.path for p in predictions])
    for old, new in zip(predictions, again, strict=True):
        assert new.probability == pytest.approx(old.probability, abs=1e-4)
    network = load_network(everything.folder / "bundle")
    kinds = {type(module).__name__ for module in network.modules()}
    assert {"Mish", "ReLU6"} <= kinds


def test_the_embedding_finds_similar_images(everything: Run, pictures: Path) -> None:
    image = pictures / "rings" / "003.png"
    found = everything.similar(image, k=4)
    assert len(found) == 4
    similarities = [each.similarity for each in found]
    assert similarities == sorted(similarities, reverse=True)
    assert all((pictures / each.image).exists() for each in found)
    vectors = everything.embed([image, b"no image"])
    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all()
    retrieval = everything.metrics.retrieval
    assert retrieval is not None
    assert 0 < retrieval.map_at_r <= 1
    assert retrieval.recall_at[1] <= retrieval.recall_at[5]


def test_a_training_image_is_most_like_itself(tuned: Run, pictures: Path) -> None:
    split = (tuned.folder / "split.csv").read_text(encoding="utf-8").splitlines()
    name = next(line.split(",")[0] for line in split if line.endswith("train"))
    (itself,) = tuned.similar(pictures / name, k=1)
    assert itself.image == name
    assert itself.similarity > 0.99


def test_settings_that_cannot_act_are_refused(pictures: Path, tmp_path: Path) -> None:
    from headstart.errors import RecipeError

    for setting in ("optimizer=ranger", "schedule.rise=0.3"):
        with pytest.raises(RecipeError, match="closed form"):
            fit(
                pictures,
                strategy="head",
                settings=[*SMALL, setting],
                out=tmp_path / "run",
                epochs=0,
            )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"recipe": "default", "sampler": "random", "jobs": 2},
            r"--sampler, --jobs cannot be used here",
        ),
        ({"epochs": 1, "ensemble": 2}, r"--ensemble cannot be used here"),
        ({"jobs": 2}, r"--jobs 2 needs --executor"),
        ({"executor": "ray", "trial_memory": 1.0}, r"--trial-memory needs --executor processes"),
        ({"address": "auto"}, r"--address needs --executor ray"),
        ({"ensemble": 0}, r"--ensemble must be at least 1; it is 0"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    pictures: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fit(pictures, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_budget_too_small_for_the_methods_says_so(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "headstart.training.reserve.choose_boundary", lambda *_: "features"
    )  # no time
    monkeypatch.setattr("headstart.search.budget.shape_search", lambda *_: None)
    with pytest.raises(BudgetError, match=r"only leaves time to train the head.*activation"):
        fit(pictures, budget=60, settings=[*SMALL, "activation=mish"], out=tmp_path / "run")


def test_methods_that_need_more_than_a_head_are_refused_where_nothing_else_trains(
    pictures: Path, tmp_path: Path
) -> None:
    from headstart.errors import RecipeError

    settings = [*SMALL, "freezing.boundary=features", "metric_loss=triplet"]
    with pytest.raises(RecipeError, match="embedding is frozen"):
        fit(pictures, epochs=1, settings=settings, out=tmp_path / "run")


def test_a_run_that_trains_nothing_says_so_of_each_method(pictures: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "freezing.boundary=features"]
    run = fit(pictures, epochs=1, settings=settings, out=tmp_path / "run")
    states = {each.family: each.state for each in run.record.acted}
    assert states["optimizer"] == states["augmentation"] == "not due"
    assert run.record.chosen == "probe"
