"""Options of `fit` as a file: what is written is read again, and what is wrong is named."""

from pathlib import Path
from typing import Any

import pytest

from headstart.errors import InputError
from headstart.recipes.config import from_config, read_config, to_config, with_config
from headstart.recipes.keywords import parse_options
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import parse_recipe


def written(folder: Path, text: str) -> Path:
    path = folder / "fit.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "values",
    [
        {"budget": "90s", "settings": ("optimizer=sgd", 'augmentation="flip_crop"')},
        {"epochs": 3, "seed": 1, "split_seed": 2, "layout": "splits", "follow_links": True},
        {"trials": 4, "ensemble": 2, "sampler": "random", "channels": "3,0,1", "boxes": "keep"},
        {"recipe": "naive", "budget": "1h30m"},
        {"recipe": parse_recipe({"optimizer": "sgd", "epochs": 4})},
        {"backbone": 'a"b\\c\x7f', "weights": "random", "budget": 1_000_000.0},
    ],
)
def test_what_is_written_is_read_again(values: dict[str, Any], tmp_path: Path) -> None:
    options = parse_options(FitOptions, values)
    again = parse_options(FitOptions, read_config(written(tmp_path, to_config(options))))
    assert again.budget_s == options.budget_s
    same = {name for name in FitOptions.model_fields if name != "budget"}
    assert again.model_dump(include=same) == options.model_dump(include=same)


def test_a_recipe_file_is_written_out(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('epochs = 5\noptimizer = "sgd"\n')
    options = FitOptions(recipe=str(tmp_path / "own.toml"))
    again = parse_options(FitOptions, read_config(written(tmp_path, to_config(options))))
    assert again.recipe == parse_recipe({"epochs": 5, "optimizer": "sgd"})
    assert again.budget_s == options.budget_s == 600


def test_where_a_run_was_is_not_copied(tmp_path: Path) -> None:
    options = FitOptions(
        out=tmp_path, cache_dir=tmp_path, executor="processes", jobs=2, trial_memory=1.0, workers=1
    )
    assert to_config(options) == 'budget = "600s"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('bugdet = "5m"', r"fit.toml: Unknown option 'bugdet'; did you mean 'budget'\?$"),
        ("lr = 1e-3", r"Unknown option 'lr'; did you mean --set optimizer.lr=VALUE\?$"),
        ("budget = 5", r"fit.toml: The budget '5' has no unit: 5m or 5s\?$"),
        ('budget = "5m"\nepochs = 3', "not both"),
        ("[recipe]\nlr = 1", r"fit.toml: recipe: unknown key 'lr'; did you mean 'optimizer.lr'\?"),
        ('executor = "ray"', "a cluster exchanges code"),
        ('address = "10.0.0.1:6379"', "a cluster exchanges code"),
        ("budget = ", "is not valid TOML"),
        ("trials = 0", "--trials must be at least 1"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_config(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"configuration .*fit.toml cannot be read"):
        read_config(tmp_path / "fit.toml")
    with pytest.raises(InputError, match=r"request.toml cannot be read"):
        read_config(tmp_path)


def test_the_command_line_wins_and_settings_add_up(tmp_path: Path) -> None:
    config = read_config(
        written(tmp_path, 'epochs = 3\nsplit-seed = 2\nseed = 1\nset = ["optimizer=sgd"]\n')
    )
    given = {"budget": "5m", "seed": 7, "settings": ["optimizer.lr=0.1"]}
    options = parse_options(FitOptions, with_config(config, given))
    assert (options.budget, options.epochs, options.seed, options.split_seed) == ("5m", None, 7, 2)
    assert options.settings == ("optimizer=sgd", "optimizer.lr=0.1")
    assert from_config(config, given) == [
        "split_seed = 2",
        'set = ["optimizer=sgd"]',
        "epochs = 3 (replaced by the command line)",
        "seed = 1 (replaced by the command line)",
    ]
