from pathlib import Path

import pytest

from headstart.errors import RecipeError
from headstart.methods.optimizer import SGD
from headstart.recipes.parsing import NAMED, load_recipe, parse_recipe, to_toml, with_settings
from headstart.recipes.recipe import Recipe


@pytest.mark.parametrize("name", NAMED)
def test_named_recipes_round_trip_through_files(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    (tmp_path / "r.json").write_text(recipe.model_dump_json())
    assert load_recipe(str(tmp_path / "r.toml")) == recipe
    assert load_recipe(str(tmp_path / "r.json")) == recipe


def test_a_mean_of_heads_round_trips_through_files(tmp_path: Path) -> None:
    heads = [
        {"features": "stages", "penalty": 1e-5},
        {"features": "last+covariance", "penalty": 0.03, "smoothing": 0.1, "temperature": 0.7},
    ]
    whole = {"name": "linear", "features": "stages+covariance", "normalize": "unit"}
    recipe = parse_recipe({"head": {**whole, "mean_of": heads}})
    assert [each.penalty for each in recipe.head.solutions] == [1e-5, 0.03]
    (tmp_path / "r.toml").write_text(to_toml(recipe))
    (tmp_path / "r.json").write_text(recipe.model_dump_json())
    assert load_recipe(str(tmp_path / "r.toml")) == recipe
    assert load_recipe(str(tmp_path / "r.json")) == recipe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer=AdanW", "unknown optimizer 'AdanW'; did you mean 'adamw'?"),
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        ("optimizer.learning_rate=1", "did you mean 'optimizer.lr'?"),
        ("optimizer.weight-decay=1", "did you mean 'optimizer.weight_decay'?"),
        (
            "optimizer.momentum=0.9",
            "'optimizer.momentum'; it belongs to another method: set optimizer=sgd first.",
        ),
        ("learning_rate=1e-3", "unknown key 'learning_rate'; did you mean 'optimizer.lr'?"),
        ("Learning-Rate=1e-3", "did you mean 'optimizer.lr'?"),
        ("lr=1e-3", "did you mean 'optimizer.lr'?"),
        ("resolution=224", "did you mean 'backbone.resolution'?"),
        ("imgsz=224", "did you mean 'backbone.resolution'?"),
        ("dropout=0.2", "did you mean 'head.dropout'?"),
        ("head.drop=0.2", "did you mean 'head.dropout'?"),
        ("model=resnet50", "did you mean 'backbone'?"),
        ("num_epochs=3", "did you mean 'epochs'?"),
        ("mixup=0.2", "did you mean 'batch_mixing=mixup'?"),
        ("batch_mixing.mixup=0.2", "'batch_mixing.mixup'; did you mean 'batch_mixing=mixup'?"),
        ("colour=red", "unknown key 'colour'."),
        ("optimizer.colour=1", "unknown key 'optimizer.colour'."),
        ("optimizer.lr=30", "optimizer.lr = 30: input should be less than or equal to 10"),
        ("optimzer.lr=3", "unknown key 'optimzer.lr'; did you mean 'optimizer'?"),
        ("head.init=rnd", "head.init = 'rnd'"),
        ("head=lin", "unknown head 'lin'; did you mean 'linear'?"),
        ("epochs=many", "epochs = 'many'"),
        ("epochs", "has no value"),
        ("seed.x=1", "seed"),
    ],
)
def test_wrong_settings_say_what_is_wrong(setting: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        with_settings(Recipe(), [setting])
    assert message in str(error.value)


def test_all_errors_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe({"epochs": -1, "optimizer": {"name": "sgd", "lr": -1}, "colour": "red"})
    for part in ("epochs", "optimizer.lr", "colour"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"colour": "red"}, "Unknown key 'colour'."),
        ({"epochs": -1}, "epochs = -1: input should be greater than or equal to 0."),
        (
            {"test_time_flip": True, "augmentation": {"name": "flip_crop", "flip": False}},
            "test_time_flip needs classes that mirroring does not change, and augmentation.flip = "
            "false means that mirror images may differ in class; turn test_time_flip off or "
            "augmentation.flip on.",
        ),
    ],
)
def test_an_error_is_one_sentence(data: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_recipe(data)
    assert str(error.value) == message
    with pytest.raises(RecipeError) as error:
        parse_recipe(data, "r.toml")
    assert str(error.value) == f"r.toml: {message[0].lower()}{message[1:]}"


def test_settings_apply_in_order() -> None:
    recipe = with_settings(Recipe(), ["optimizer=sgd", "optimizer.lr=0.02", "batch_size=8"])
    assert recipe.optimizer == SGD(lr=0.02)
    assert recipe.batch_size == 8
    assert with_settings(recipe, ["backbone=resnet18"]).backbone.name == "resnet18"
    assert with_settings(recipe, ["augmentation.flip=false"]).augmentation.flip is False


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.toml", "optimizer = ", "not valid TOML"),
        ("r.json", "[1, 2]", "one table"),
        ("r.json", "{", "not valid JSON"),
        ("r.toml", "[optimiser]\nlr = 1", "did you mean 'optimizer'"),
    ],
)
def test_bad_files(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(path))


def test_unknown_names() -> None:
    with pytest.raises(RecipeError, match="did you mean 'naive'"):
        load_recipe("naiv")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe("nowhere.toml")


def test_a_head_that_remembers_is_not_blended() -> None:
    nearest = {"head": "nearest", "metric_loss": "triplet"}
    assert parse_recipe(nearest).blend == 1
    with pytest.raises(RecipeError, match="leave blend at 1"):
        parse_recipe({**nearest, "blend": 0.5})


@pytest.mark.parametrize("setting", ["activation=squish", "activation=silu"])
def test_other_names_that_people_use_are_understood(setting: str) -> None:
    recipe = with_settings(Recipe(), [setting, "activation.where=suffix"])
    assert recipe.activation.name == "swish"
    with pytest.raises(RecipeError, match="did you mean 'swish'"):
        with_settings(Recipe(), ["activation=swisch"])
