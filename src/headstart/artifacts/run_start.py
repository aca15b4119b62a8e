"""What a run starts from and goes through: its recipe, its audit and its epochs."""

from pathlib import Path

from headstart.artifacts.files import write_model, write_text
from headstart.artifacts.journal import Journal
from headstart.artifacts.records import EpochRecord, RunRecord
from headstart.artifacts.run import read_part, write_record
from headstart.data.audit import Audit
from headstart.recipes.parsing import parse_recipe, to_toml
from headstart.recipes.recipe import Recipe

EPOCHS = Journal("epochs.jsonl", EpochRecord)


def write_recipe(folder: Path, recipe: Recipe, name: str = "recipe.toml") -> None:
    """Writes a recipe into the run folder."""
    write_text(folder / name, to_toml(recipe))


def write_start(folder: Path, record: RunRecord, recipe: Recipe, audit: Audit) -> None:
    """Writes the files that are complete before training."""
    write_record(folder, record)
    write_recipe(folder, recipe)
    write_model(folder / "audit.json", audit)


def asked_recipe(record: RunRecord) -> Recipe | None:
    """Returns the recipe that a search was given, or None if it is unknown."""
    if record.request is None or not record.request.recipe:
        return None
    return parse_recipe(record.request.recipe)


def read_audit(folder: Path) -> Audit:
    """Reads `audit.json`.

    Raises:
        RunError: If the folder is not a run.
    """
    return read_part(folder, "audit.json", Audit)


def forget_epochs(folder: Path) -> None:
    """Removes the epochs of a failed training from the journal; keeps epoch 0."""
    EPOCHS.write(folder, [epoch for epoch in EPOCHS.read(folder) if epoch.epoch == 0])
