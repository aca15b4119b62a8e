"""The commands as people type them: exit codes, one-line errors, output for machines."""

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from headstart.cli import main as _commands
from headstart.cli.app import app, declared, reporting_errors
from headstart.cli.commands import COMMANDS

SMALL = ["--set", "backbone.resolution=64"]


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(
    pictures: Path,
    shared_cache: Path,
    headstart: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("cli") / "run"
    command = ["fit", pictures, "--strategy", "head", "--epochs", "0", "--out", out, *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(shared_cache))
        done = headstart(*command)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_fit_prints_the_figures_with_their_interval(run: tuple[Path, str]) -> None:
    out, printed = run
    assert "95% interval" in printed
    assert f"{out}/report.html" in printed
    assert (out / "report.html").exists()
    assert json.loads((out / "run.json").read_text())["command"].startswith("headstart fit ")


def test_the_options_of_a_run_are_those_of_another(
    run: tuple[Path, str], headstart: Command, tmp_path: Path
) -> None:
    out, _ = run
    told = headstart("fit", tmp_path / "nowhere", "--config", out, "--budget", "5m", "--seed", 3)
    assert told.returncode == 2
    *lines, error = told.stderr.splitlines()
    assert lines == [
        f'{out}: strategy = "head"',
        f'{out}: set = ["backbone.resolution=64"]',
        f"{out}: epochs = 0 (replaced by the command line)",
        f"reading {tmp_path / 'nowhere'}; results within 5 min 00 s",
    ]
    assert "nowhere" in error
    (tmp_path / "fit.toml").write_text("learning_rate = 1e-3\n")
    wrong = headstart("fit", tmp_path, "--config", tmp_path / "fit.toml")
    assert wrong.returncode == 2
    assert "did you mean --set optimizer.lr=VALUE?" in wrong.stderr


def test_predict_as_table_json_and_csv(
    headstart: Command, run: tuple[Path, str], pictures: Path
) -> None:
    out, _ = run
    images = [pictures / "rings" / "000.png", pictures / "stripes" / "001.png"]
    table = headstart("predict", out, *images)
    assert table.returncode == 0
    assert len(table.stdout.splitlines()) == 3
    parsed = json.loads(headstart("predict", out, *images, "--json").stdout)
    assert [p["image"] for p in parsed] == [str(image) for image in images]
    assert sum(parsed[0]["probabilities"].values()) == pytest.approx(1.0)
    rows = list(csv.DictReader(io.StringIO(headstart("predict", out, *images, "--csv").stdout)))
    assert [row["label"] for row in rows] == [p["label"] for p in parsed]


def test_predict_names_the_image_that_it_cannot_read(
    headstart: Command, run: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    good = pictures / "rings" / "000.png"
    done = headstart("predict", run[0], broken, good, "--json")
    assert done.returncode == 1
    first, second = json.loads(done.stdout)
    assert first["error"]
    assert second["label"]


def test_check_as_lines_and_json(headstart: Command, pictures: Path) -> None:
    assert headstart("check", pictures).returncode == 0
    audit = json.loads(headstart("check", pictures, "--json").stdout)
    assert audit["classes"] == {"checks": 16, "rings": 16, "stripes": 16}


def test_check_says_that_nothing_is_wrong(headstart: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("ants", "bees"):
        (tmp_path / label).mkdir()
        for number in range(12):
            coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
            coarse.resize((256, 256)).save(tmp_path / label / f"{number}.jpg")
    told = headstart("check", tmp_path).stdout.splitlines()
    assert told[-1] == "summary: 24 of 24 images can be used, in 2 classes; no problems found."
    assert "subject" not in " ".join(told)


def test_check_says_what_was_understood(headstart: Command, pictures: Path, tmp_path: Path) -> None:
    for label in ("rings", "stripes"):
        shutil.copytree(pictures / label, tmp_path / "training_set" / label)
    (tmp_path / "test_set" / "rings").mkdir(parents=True)
    shutil.copy(pictures / "rings" / "000.png", tmp_path / "test_set" / "rings")
    (tmp_path / "training_set" / "checks").mkdir()
    shutil.copy(pictures / "checks" / "000.png", tmp_path / "loose.png")
    told = headstart("check", tmp_path).stdout.splitlines()
    assert told[:4] == [
        "understood: split folders ('training_set' is train, 'test_set' is test), each with one "
        "folder per class; 2 classes, 33 images",
        "classes: 'rings' (16 train, 1 test), 'stripes' (16 train)",
        "passed over: Class folders without images, which are empty: 'training_set/checks'.",
        "passed over: Images outside every class folder: 'loose.png'.",
    ]
    understood = json.loads(headstart("check", tmp_path, "--json").stdout)["understood"]
    assert understood["classes"]["rings"] == {"train": 16, "test": 1}
    assert understood["passed_over"][1] == {
        "reason": "loose_image",
        "what": "Images outside every class folder",
        "names": ["loose.png"],
    }


def test_check_reads_an_archive_of_an_export(
    headstart: Command, pictures: Path, tmp_path: Path
) -> None:
    lines = ["id,label"]
    (tmp_path / "in" / "train").mkdir(parents=True)
    for label in ("rings", "stripes"):
        for path in sorted((pictures / label).glob("*.png"))[:4]:
            shutil.copy(path, tmp_path / "in" / "train" / f"{label}{path.name}")
            lines.append(f"{label}{path.stem},{label}")
    (tmp_path / "in" / "train.csv").write_text("\n".join(lines))
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "in")
    told = headstart("check", archive).stdout.splitlines()
    assert told[0].startswith(
        "understood: images with the table 'train.csv', with 'id' as path and 'label' as label, "
        "unpacked from pets.zip to "
    )
    assert told[1] == "classes: 'rings' (4), 'stripes' (4)"
    understood = json.loads(headstart("check", archive, "--json").stdout)["understood"]
    assert "unpacked from pets.zip to " in understood["layout"]
    Path(archive).write_bytes(Path(archive).read_bytes()[:-30])
    refused = headstart("check", archive)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {archive} is damaged or cut off")
    assert refused.stderr.count("\n") == 1


def test_check_says_which_files_are_at_fault_before_it_refuses(
    headstart: Command, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "rings", tmp_path / "rings")
    (tmp_path / "bees").mkdir()
    for number in range(4):
        (tmp_path / "bees" / f"{number}.jpg").write_text("<html>404</html>")
    done = headstart("check", tmp_path)
    assert done.returncode == 2
    assert "bees/0.jpg is left out" in done.stdout
    *_, summary = done.stdout.splitlines()
    assert summary.startswith("summary: 16 of 20 images can be used, in 1 class; 4 warnings and ")
    assert "(usable images: 'bees' 0, 'rings' 16)" in done.stderr
    as_json = headstart("check", tmp_path, "--json")
    found = json.loads(as_json.stdout)
    assert as_json.returncode == 2
    assert sorted(found["dropped"]) == [f"bees/{number}.jpg" for number in range(4)]
    assert found["problem"].startswith("At least two classes with 3 usable images")


def test_fit_says_what_was_understood_before_any_work(
    headstart: Command, pictures: Path, tmp_path: Path
) -> None:
    wrong = ("--epochs", "1", "--set", "freezing.boundary=blocks.33", "--out", tmp_path / "run")
    told = headstart("fit", pictures, *wrong).stderr.splitlines()
    assert told[:3] == [
        f"reading {pictures}",
        "understood: one folder per class; 3 classes, 48 images",
        "classes: 'checks' (16), 'rings' (16), 'stripes' (16)",
    ]


@pytest.mark.parametrize("command", ["check", "suspects", "fit"])
def test_the_layout_and_links_are_options(headstart: Command, command: str, tmp_path: Path) -> None:
    told = headstart(command, tmp_path / "nowhere", "--layout", "patients")
    assert told.returncode == 2
    assert "'classes', 'splits', 'groups'" in " ".join(told.stderr.replace("│", " ").split())
    followed = headstart(command, tmp_path / "nowhere", "--layout", "groups", "--follow-links")
    assert "There is no folder or file" in followed.stderr


def test_backbones_lists_what_is_here(headstart: Command) -> None:
    done = headstart("backbones", "lite", "--json")
    assert done.returncode == 0
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    for number in range(3):
        entry = listed[f"tf_efficientnet_lite{number}"]
        assert (entry["weights"], entry["screened"], entry["why"]) == ("shipped", True, "")


def test_backbones_says_what_a_search_would_look_at(headstart: Command) -> None:
    def told(*flags: str) -> dict[str, str]:
        lines = headstart("backbones", "convnext", *flags).stdout.splitlines()
        return {line.split("\t")[0]: line for line in lines}

    name = "convnext_tiny.in12k_ft_in1k"
    # 28.59 million parameters of four bytes.
    assert told()[name].split("\t")[1:7] == ["hub", "114", "4.47", "224", "84.2", "apache-2.0"]
    assert told()[name].endswith("no: not here; --download may fetch it")
    assert "\tyes: if it is among the best 3" in told("--download")[name]


BAD = {
    "no such folder": (["fit", "{tmp}/nowhere"], "nowhere"),
    "no images": (["fit", "{tmp}/empty"], "no image"),
    "one class": (["fit", "{tmp}/one"], "two classes"),
    "unknown backbone": (
        ["fit", "{data}", "--backbone", "resnet5"],
        "Unknown backbone 'resnet5'; did you mean",
    ),
    "unknown option": (["fit", "{data}", "--bugdet", "5m"], "--bugdet"),
    "unknown method": (["fit", "{data}", "--set", "optimizer=AdanW"], "did you mean 'adamw'"),
    "unknown key": (["fit", "{data}", "--set", "optimizer.lrr=1"], "optimizer.lrr"),
    "value out of range": (["fit", "{data}", "--set", "optimizer.lr=30"], "optimizer.lr"),
    "recipe with an unknown key": (["fit", "{data}", "--recipe", "{tmp}/bad.toml"], "colour"),
    "no such recipe": (["fit", "{data}", "--recipe", "naiv"], "did you mean 'naive'"),
    "unreadable budget": (["fit", "{data}", "--budget", "soon"], "Cannot read the budget"),
    "row outside": (["fit", "{tmp}/outside.csv"], "outside"),
    "row at nothing": (["fit", "{tmp}/nothing.csv"], "gone.png"),
    "several labels": (["suspects", "{tmp}/several.csv"], "multi-label"),
    "output in use": (["fit", "{data}", "--out", "{data}"], "in use"),
    "unknown boundary": (
        ["fit", "{data}", "--epochs", "1", "--set", "freezing.boundary=blocks.33"],
        "did you mean 'blocks.3'",
    ),
    "no run": (["predict", "{tmp}/empty", "x.png"], "no bundle"),
    "both formats": (["predict", "{tmp}", "x.png", "--json", "--csv"], "only one of"),
}


@pytest.mark.parametrize("case", BAD)
def test_misuse_exits_with_2_and_one_line(
    headstart: Command, case: str, pictures: Path, tmp_path: Path
) -> None:
    arguments, message = BAD[case]
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "only").mkdir(parents=True)
    source = pictures / "rings" / "000.png"
    (tmp_path / "one" / "only" / "a.png").write_bytes(source.read_bytes())
    (tmp_path / "bad.toml").write_text('colour = "red"\n')
    (tmp_path / "m").mkdir()
    (tmp_path / "outside.csv").write_text("path,label\n/etc/hostname,a\n")
    (tmp_path / "nothing.csv").write_text("path,label\ngone.png,a\n")
    (tmp_path / "in.png").write_bytes(source.read_bytes())
    (tmp_path / "several.csv").write_text("path,label\nin.png,a;b\n")
    before = sorted(tmp_path.rglob("*"))
    filled = [part.format(tmp=tmp_path, data=pictures) for part in arguments]
    if filled[0] == "fit" and "--out" not in filled:
        filled += ["--out", str(tmp_path / "run")]
    done = headstart(*filled)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_debug_shows_the_traceback(headstart: Command, tmp_path: Path) -> None:
    done = headstart("--debug", "fit", tmp_path / "nowhere")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept(pictures: Path, tmp_path: Path, shared_cache: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "headstart", "fit", str(pictures), "--epochs", "5000",
               "--out", str(out), *SMALL, "--set", "backbone.name=test_efficientnet",
               "--set", "backbone.weights=random"]  # fmt: skip
    # Where tests run in the background, Ctrl-C is ignored, and children would ignore it, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, before)
        try:
            deadline = time.monotonic() + 90
            journal = out / "epochs.jsonl"
            while time.monotonic() < deadline:
                if journal.exists() and len(journal.read_text().splitlines()) > 2:
                    break
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "of 5,000 epochs" in " ".join(errors.split())
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert 1 <= record["epochs"] < 5000


def test_a_full_disk_exits_with_1(
    headstart: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real full disk needs rights that tests do not have: the system call says what it would say.
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    done = headstart("fit", pictures, "--epochs", "1", "--out", out, *SMALL)
    assert done.returncode == 1, done.stderr
    assert "Make room" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EACCES, "Permission denied", "a/run.json"), "a/run.json: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: Read-only .*HEADSTART_CACHE"),
        (OSError(errno.EMFILE, "Too many open files"), "refused an operation: Too many .*ulimit"),
        (OSError("odd"), "refused an operation: odd"),
    ],
)
def test_an_error_of_the_system_is_one_line(
    error: OSError, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    context = typer.Context(typer.main.get_command(app))
    with pytest.raises(typer.Exit) as ended, reporting_errors(context):
        raise error
    assert ended.value.exit_code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(expected, line)
    assert line.endswith(".")


def test_version_and_help(headstart: Command) -> None:
    assert headstart("--version").stdout.startswith("headstart ")
    for command in ("fit", "predict", "check", "backbones"):
        assert headstart(command, "--help").returncode == 0


def test_methods_as_table_page_json_and_markdown(headstart: Command) -> None:
    table = headstart("methods")
    assert table.returncode == 0
    assert "cutmix" in table.stdout
    page = headstart("methods", "ranger")
    assert "Lookahead" in page.stdout
    assert "sync_every" in page.stdout
    parsed = json.loads(headstart("methods", "optimizer", "--json").stdout)
    assert [each["name"] for each in parsed] == ["sgd", "adam", "adamw", "radam", "ranger"]
    assert headstart("methods", "--markdown").stdout.startswith("# Methods")
    wrong = headstart("methods", "rangr")
    assert wrong.returncode == 2
    assert "did you mean 'ranger'" in wrong.stderr


def test_show_draws_pictures(headstart: Command, pictures: Path, tmp_path: Path) -> None:
    done = headstart("show", pictures, "--out", tmp_path / "out", *SMALL)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_predict_folders_patterns_and_what_is_neither(
    headstart: Command, run: tuple[Path, str], pictures: Path
) -> None:
    out, _ = run
    folder = headstart("predict", out, pictures, "--csv")
    assert folder.returncode == 0, folder.stderr
    rows = list(csv.DictReader(io.StringIO(folder.stdout)))
    names = [str(path) for path in sorted(pictures.rglob("*.png"))]
    assert [row["image"] for row in rows] == names
    pattern = headstart("predict", out, f"{pictures}/rings/00*.png")
    assert len(pattern.stdout.splitlines()) == 11
    assert "error" not in pattern.stdout.splitlines()[0]

    wrong = headstart("predict", out, names[0], "none/*.png", "https://example.org/a.jpg", "x.png")
    assert wrong.returncode == 1
    header, good, *bad = [line.split("\t") for line in wrong.stdout.splitlines()]
    assert header == ["image", "class", "probability", "warning", "error"]
    assert good[1] == "checks" and good[4] == ""
    assert all(cells[1:3] == ["–", "–"] for cells in bad)
    assert "No image matches the pattern" in bad[0][4]
    assert "is an address" in bad[1][4]
    assert "x.png" in bad[2][4]


def test_embed_files_and_folders(
    headstart: Command, run: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    out, _ = run
    target = tmp_path / "vectors.csv"
    done = headstart(
        "embed", out, pictures / "rings", pictures / "stripes" / "000.png", "--out", target
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader(target.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 1 + 16 + 1
    assert rows[0][:2] == ["image", "e0"]
    import numpy as np

    target = tmp_path / "vectors.npz"
    assert headstart("embed", out, pictures / "rings", "--out", target).returncode == 0
    with np.load(target, allow_pickle=False) as arrays:
        assert arrays["vectors"].shape[0] == len(arrays["images"]) == 16
    (tmp_path / "folder.csv").mkdir()
    folder = headstart("embed", out, pictures / "rings", "--out", tmp_path / "folder.csv")
    assert folder.returncode == 2
    assert "is a folder" in folder.stderr
    wrong = headstart("embed", out, pictures / "rings", "--out", tmp_path / "vectors.txt")
    assert wrong.returncode == 2
    assert ".csv" in wrong.stderr


def test_what_cannot_be_drawn_by_is_refused_in_a_line(
    headstart: Command, pictures: Path, tmp_path: Path
) -> None:
    for command in ("fit", "compare", "benefit"):
        done = headstart(command, pictures, "--split-seed", -1, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert headstart("show", pictures, "--seed", -1, "--out", tmp_path / "out").returncode == 2
    done = headstart("fit", pictures, "--workers", -1, "--out", tmp_path / "out", *SMALL)
    assert done.returncode == 2
    assert "--workers must be at least 1; it is -1." in done.stderr
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_unicode_are_printed_and_written(
    headstart: Command, run: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image = folder / os.fsdecode(b"caf\xe9.png")
    image.write_bytes((pictures / "rings" / "000.png").read_bytes())
    out, _ = run
    assert headstart("embed", out, folder, "--out", tmp_path / "vectors.csv").returncode == 0
    assert b"caf\xe9.png" in (tmp_path / "vectors.csv").read_bytes()


def test_similar_prints_and_draws(
    headstart: Command, run: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    out, _ = run
    image = pictures / "checks" / "002.png"
    done = headstart("similar", out, image, "-k", 3, "--out", tmp_path / "similar.png")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert (tmp_path / "similar.png").stat().st_size > 1000
    assert "training images: the run keeps no copy" in done.stderr, "its folder is not followed"
    with_data = headstart(
        "similar", out, image, "-k", 3, "--out", tmp_path / "with.png", "--data", pictures
    )
    assert (with_data.returncode, with_data.stderr) == (0, "")
    assert (tmp_path / "with.png").stat().st_size > (tmp_path / "similar.png").stat().st_size
    elsewhere = headstart(
        "similar", out, image, "-k", 3, "--out", tmp_path / "3.png", "--data", tmp_path
    )
    assert "training images: the run keeps no copy" in elsewhere.stderr
    parsed = json.loads(headstart("similar", out, image, "--json").stdout)
    assert len(parsed) == 5
    assert headstart("similar", out, tmp_path / "none.png").returncode == 2
    nowhere = headstart("similar", out, image, "--out", tmp_path / "none" / "similar.png")
    assert nowhere.returncode == 2
    assert "There is no folder" in nowhere.stderr
    assert headstart("similar", out, image, "-k", 0).returncode == 2


def test_fit_prints_the_headline_first_and_how_many_methods_acted(run: tuple[Path, str]) -> None:
    _, printed = run
    assert printed.startswith("sealed test: ")
    assert "1 method acted; not due: " in printed
    assert "first step" not in printed, "only with --verbose"
    assert "recall@1" in printed


def test_the_old_name_of_an_option_is_refused_with_the_new_one(
    headstart: Command, pictures: Path, tmp_path: Path
) -> None:
    done = headstart("fit", pictures, "--engine", "processes", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "--engine is now called --executor." in done.stderr
    assert not (tmp_path / "run").exists()
    assert "--engine" not in headstart("fit", "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_advice_for_more_memory_names_an_option_that_the_command_has(name: str) -> None:
    command = declared(name)[name]
    context = typer.Context(command, obj=False)
    stream = io.StringIO()
    with (
        contextlib.redirect_stderr(stream),
        pytest.raises(typer.Exit) as ended,
        reporting_errors(context),
    ):
        raise MemoryError
    known = {option for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"--[a-z-]+", stream.getvalue()))
    assert ended.value.exit_code == 1
    assert named <= known
    assert bool(named) == bool(known & {"--set", "--workers"})


@pytest.mark.parametrize("moment", ["as it begins", "as its output is flushed"])
def test_an_interruption_outside_a_command_is_one_line(
    moment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_commands, "open_streams", lambda: None)
    monkeypatch.setattr(_commands, "app", interrupted if "begins" in moment else lambda: None)
    if "flushed" in moment:
        monkeypatch.setattr(sys.stdout, "flush", interrupted)
    with pytest.raises(SystemExit) as ended:
        _commands.main()
    monkeypatch.undo()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: Interrupted.\n"


IMPORTED = """
import sys
from headstart.cli.main import main
sys.argv = ["headstart", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules))
"""


def imported(*arguments: str) -> set[str]:
    """Returns the modules that a process with a command has at its end."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", ["fit", "label-next", "leaderboard", "methods", "predict"])
def test_a_command_imports_its_own_module_alone(name: str) -> None:
    homes = {f"headstart.cli.{home}" for home, _ in COMMANDS.values()}
    modules = imported(name, "--help")
    assert modules & homes == {f"headstart.cli.{COMMANDS[name][0]}"}
    assert ("headstart.recipes.options" in modules) == (name in {"fit", "methods"})


def test_the_list_of_commands_imports_none_of_them() -> None:
    homes = {f"headstart.cli.{home}" for home, _ in COMMANDS.values()}
    modules = imported("--help")
    assert "headstart.cli.app" in modules
    assert not modules & {*homes, "pydantic"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_says(name: str) -> None:
    assert declared(name)[name].help == COMMANDS[name][1]
