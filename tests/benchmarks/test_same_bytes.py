"""All files of a run have the same bytes: two runs here, eight by `benchmarks/same_bytes.py`."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("same_bytes")


@pytest.mark.slow
def test_every_file_of_a_run_is_the_same_wherever_it_runs(
    script: ModuleType, tmp_path: Path
) -> None:
    settings = ("backbone.name=test_efficientnet", "backbone.weights=random", "views=1")
    options = ["--epochs", "1", *(part for each in settings for part in ("--set", each))]
    data = script.drawn(tmp_path / "drawn")
    runs = script.run_all(tmp_path, data, script.VARIANTS[:2], options)
    for run in runs[1:]:
        assert script.differences(runs[0], run) == []
    names = script.comparable(runs[0])
    assert {"run.json", "report.html", "bundle/model.safetensors", "embeddings.safetensors"} <= (
        names.keys()
    )
    assert {file for file in runs[0].rglob("*") if file.is_file()} == {
        runs[0] / name for name in names
    }, "no file is left out"
    # What must not differ is seen, in every kind of file.
    for name, before, after in (
        ("run.json", '"classes"', '"clases"'),
        ("epochs.jsonl", '"lr"', '"rl"'),
        ("report.html", "across", "acrross"),
        ("bundle/MODEL_CARD.md", "across", "acrross"),
        ("predictions.csv", "across", "acrross"),
    ):
        file = runs[1] / name
        text = file.read_text()
        file.write_text(text.replace(before, after, 1))
        assert script.differences(runs[0], runs[1]) == [name]
        file.write_text(text)


def test_only_the_listed_fields_are_replaced(script: ModuleType, tmp_path: Path) -> None:
    def write(name: str, seconds: float, loss: float) -> Path:
        run = tmp_path / name
        run.mkdir()
        step = {"stage": "probe", "seconds": seconds}
        record = {"seconds": seconds, "source": f"/{name}", "data_root": f"/{name}", "plan": [step]}
        (run / "run.json").write_text(json.dumps(record))
        line = json.dumps(
            {"train_loss": loss, "lr": 0.1, "seconds": seconds, "images_per_s": 1 / seconds}
        )
        (run / "epochs.jsonl").write_text(f"{line}\n{line}\n")
        command = f"<code>headstart report {run}</code>"
        page = f"<p>loss {loss}</p><td>{seconds:.0f} s</td>{command}"
        (run / "report.html").write_text(page)
        return run

    first = write("a", 1.0, 0.5)
    assert script.differences(first, write("b", 2.0, 0.5)) == []
    assert script.differences(first, write("c", 2.0, 0.6)) == ["epochs.jsonl", "report.html"]
