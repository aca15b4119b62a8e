import base64
import csv
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.artifacts.evidence import Evidence, Neighbour, write_evidence, write_pictures
from headstart.artifacts.journal import TRIALS, Trial
from headstart.artifacts.records import EpochRecord, PlanStep, RunRecord, TestPrediction
from headstart.artifacts.run import (
    SEARCH_RECIPE,
    read_metrics,
    read_predictions,
    write_record,
    write_result,
)
from headstart.artifacts.run_start import EPOCHS, write_recipe, write_start
from headstart.data.audit import Audit, Finding
from headstart.diagnose.reasons import SUSPECTS, Suspect, write_suspects_csv
from headstart.errors import RunError
from headstart.evaluation.metrics import Metrics, compute_metrics
from headstart.evaluation.trust import Calibration
from headstart.recipes.recipe import Recipe
from headstart.report.page import headline, write_report
from headstart.report.shared import MATRIX_AS_TABLE
from headstart.text import percent

NONE = "\N{EN DASH}"
AUDIT = Audit(n_images=40, n_usable=40, classes={}, dropped={}, findings=())
NASTY = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """What a reader of the page meets: its tags with attributes, and its text by tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in {"td", "th"}:
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def record(folder: Path, classes: Sequence[str], **changes: Any) -> RunRecord:
    known: dict[str, Any] = {
        "status": "done",
        "command": "headstart fit photos --epochs 2",
        "started_at": "2025-03-04T05:06:07+00:00",
        "seconds": 75.0,
        "data_name": "photos",
        "data_root": str(folder / "photos"),
        "n_train": 30,
        "n_val": 6,
        "n_test": 4,
        "classes": tuple(classes),
        "backbone": "tf_efficientnet_lite0",
        "backbone_source": "a local file",
        "boundary": "blocks.4",
        "chosen": "fine-tuned",
        "plan": [PlanStep(stage="views", planned="4 views", happened="4 views", seconds=61.0)],
        "notes": ["one note"],
    }
    return RunRecord(**(known | changes))


def evaluation(
    labels: Sequence[int], answers: Sequence[int], classes: Sequence[str]
) -> tuple[Metrics, list[TestPrediction]]:
    """Metrics and predictions; the later the image, the surer the answer."""
    logits = np.zeros((len(labels), len(classes)))
    logits[np.arange(len(labels)), answers] = 3
    metrics = compute_metrics(logits, labels, classes, 1.0)
    predictions = [
        TestPrediction(
            path=f"{classes[label]}/{row}.png",
            label=classes[label],
            prediction=classes[answer],
            probability=0.5 + row / (2 * len(labels) + 2),
            probability_of_label=0.1,
        )
        for row, (label, answer) in enumerate(zip(labels, answers, strict=True))
    ]
    return metrics, predictions


def make_run(
    folder: Path,
    made: RunRecord,
    metrics: Metrics,
    predictions: Sequence[TestPrediction],
    epochs: int = 2,
    audit: Audit = AUDIT,
) -> Path:
    folder.mkdir(exist_ok=True)
    write_start(folder, made, Recipe(), audit)
    for number in range(epochs + 1):
        epoch = EpochRecord(
            epoch=number,
            progress=0,
            lr=1e-3,
            train_loss=0.7 if number else None,
            val_loss=0.5,
            val_accuracy=0.8 + number / 10,
            images_per_s=50 if number else None,
            seconds=1,
        )
        EPOCHS.append(folder, epoch)
    write_result(folder, metrics, predictions)
    write_split(folder, [prediction.path for prediction in predictions])
    return folder


def write_split(folder: Path, names: Sequence[str]) -> None:
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "split"), *((name, "test") for name in names)])


def read(folder: Path, data: Path | None = None) -> tuple[str, Page]:
    path = write_report(folder, data)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    classes = ("ant", "bee", "wasp")
    metrics, predictions = evaluation([0, 0, 1, 1], [0, 1, 0, 1], classes)
    for prediction in predictions:
        path = tmp_path / "photos" / prediction.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), "green").save(path)
    return make_run(tmp_path / "run", record(tmp_path, classes), metrics, predictions)


def test_headline_says_how_often_it_is_right_with_an_interval() -> None:
    metrics, _ = evaluation([0] * 190 + [1] * 150, [0] * 190 + [1] * 141 + [0] * 9, ["a", "b"])
    # 331 of 340: 97.35 %; Wilson's interval by hand: 0.96824 plus and minus 0.01777.
    assert headline(metrics).replace("\N{NO-BREAK SPACE}", " ") == (
        "Correct on 97.4% of new images like these (95% interval 95.0% to 98.6%)"
    )


@pytest.mark.parametrize(
    ("groups", "ending"),
    [
        (85, "to 98.8%, from 85 independent groups)"),
        (5, "a rough guide from only 5 independent groups)"),
        (340, "94.7% to 98.4%)"),
        (None, "94.7% to 98.4%)"),
    ],
)
def test_headline_says_on_how_many_groups_it_stands(groups: int | None, ending: str) -> None:
    labels, answers = np.arange(340) % 2, np.arange(340) % 2
    answers[::34] = 1
    logits = 4.0 * np.eye(2)[answers]
    number = None if groups is None else np.arange(340) % groups
    metrics = compute_metrics(logits, labels, ["a", "b"], 1.0, groups=number)
    assert headline(metrics).endswith(ending)


@pytest.mark.parametrize(
    ("share", "digits", "shown"),
    [
        (0.9735, 1, "97.4%"),
        (0.9735, 0, "97%"),
        (1.0, 1, "100%"),
        (0.9999, 1, "99.9%"),
        (0.999, 0, "99%"),
        (0.0, 0, "0%"),
        (0.0001, 1, "0.1%"),
    ],
)
def test_only_certainty_is_shown_as_certainty(share: float, digits: int, shown: str) -> None:
    assert percent(share, digits) == shown


def test_page_needs_nothing_from_outside(small_run: Path) -> None:
    html, page = read(small_run, small_run.parent / "photos")
    assert "http:" not in html
    assert "https:" not in html
    assert page.every("script") == [{}], "one of its own, with no source elsewhere"
    assert not page.every("link")
    images = page.every("img")
    assert images
    assert all((image["src"] or "").startswith("data:image/") for image in images)
    policies = [meta for meta in page.every("meta") if "http-equiv" in meta]
    policy = policies[0]["content"] or ""
    assert "default-src 'none'" in policy
    script = html[html.index("<script>") + 8 : html.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy, "no other script runs"


def test_page_can_be_read_without_eyes(small_run: Path) -> None:
    _, page = read(small_run)
    assert page.every("html") == [{"lang": "en"}]
    assert len(page.every("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(image.get("alt") for image in page.every("img"))
    assert all(header.get("scope") in {"col", "row"} for header in page.every("th"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {(link["href"] or "").removeprefix("#") for link in page.every("a")}
    assert links
    assert links <= set(ids)
    labels = {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert labels <= set(ids)
    pictures = [attrs for attrs in page.every("div") if attrs.get("role") == "img"]
    assert all(attrs["aria-label"] for attrs in pictures)
    assert len([svg for svg in page.every("svg") if "aria-hidden" not in svg]) < len(pictures)


def test_page_says_what_was_done(small_run: Path) -> None:
    _, page = read(small_run)
    for text in (
        "30 for training, 6 for validation, 4 sealed for the test; 3 classes",
        "tf_efficientnet_lite0, weights: a local file",
        "everything after blocks.4",
        "at the start 80.0%, after epoch 2 100%",
        "one note",
        "headstart fit photos --epochs 2",
        f"headstart predict {small_run} IMAGE",
        f"headstart.Run.open('{small_run}')",
    ):
        assert text in page.text
    assert ["views", "4 views", "4 views", "1 min 01 s"] in page.cells


def test_page_says_what_the_probabilities_stand_on(tmp_path: Path) -> None:
    classes = ("ant", "bee")
    metrics, predictions = evaluation([0, 0, 1, 1], [0, 1, 0, 1], classes)
    made = record(
        tmp_path, classes, alarms=["Trust <b>nothing</b>."],
        calibration=Calibration(
            temperature=2.0, images=54, log_loss=0.25, log_loss_uncalibrated=0.5, source="trial"
        ),
    )  # fmt: skip
    tempered = metrics.model_copy(
        update={"temperature": 2.0, "log_loss_uncalibrated": 1.625, "ece_by_chance": 0.042}
    )
    _, page = read(make_run(tmp_path / "run", made, tempered, predictions))
    assert "2.00, from 54 images (trial); their log loss: 0.500 without it, 0.250 with it" in (
        page.text
    )
    assert "0 is best; 1.625 without the temperature (2.00)" in page.text
    assert "it was right; right probabilities have about 4.2% on as few images; " in page.text
    assert "Alarm: Trust <b>nothing</b>." in page.text
    # An older run kept neither.
    older = tempered.model_copy(update={"log_loss_uncalibrated": None, "ece_by_chance": None})
    _, page = read(make_run(tmp_path / "b", record(tmp_path, classes), older, predictions))
    assert "0 is best" in page.text and "0 is best;" not in page.text
    assert "right probabilities" not in page.text
    assert "Alarm" not in page.text


def test_page_of_a_head_that_was_kept_says_so(tmp_path: Path) -> None:
    classes = ("ant", "bee")
    metrics, predictions = evaluation([0, 0, 1, 1], [0, 1, 0, 1], classes)
    made = record(
        tmp_path, classes, chosen="head on frozen features", test_opened_at="now",
        test_opened_before=["before"],
    )  # fmt: skip
    _, page = read(make_run(tmp_path / "run", made, metrics, predictions))
    assert "the head only; the backbone is frozen" in page.text
    assert "everything after" not in page.text
    assert "opened 2 times, because the run was stopped during the test" in page.text
    assert "opened once" not in page.text


def test_tables_show_classes_by_recall_and_the_confusion_matrix(tmp_path: Path) -> None:
    classes = ("ant", "bee", "wasp")
    # ant: 1 of 2 found, 1 of 3 answers right, F1 2/5; bee: 1 of 3, 1 of 2, F1 2/5; no wasps.
    metrics, predictions = evaluation([0, 0, 1, 1, 1], [0, 1, 0, 0, 1], classes)
    _, page = read(make_run(tmp_path / "run", record(tmp_path, classes), metrics, predictions))
    start = page.cells.index(["Class", "Images", "Recall", "95% interval", "Precision", "F1"])
    shown = page.cells[start + 1 : start + 4]
    assert [(row[0], row[1], row[2], row[4], row[5]) for row in shown] == [
        ("bee", "3", "33%", "50%", "0.40"),
        ("ant", "2", "50%", "33%", "0.40"),
        ("wasp", "0", NONE, NONE, NONE),
    ]
    matrix = page.cells.index(["Label", *classes])
    assert page.cells[matrix + 1 : matrix + 4] == [
        ["ant", "1", "1", ""],
        ["bee", "2", "1", ""],
        ["wasp", "", "", ""],
    ]
    assert ["bee", "ant", "2"] in page.cells


def test_many_classes_give_a_picture_and_the_worst_pairs(tmp_path: Path) -> None:
    classes = [f"c{number:03}" for number in range(MATRIX_AS_TABLE + 1)]
    labels = [number for number in range(len(classes)) for _ in range(2)]
    answers = [24, 24, *labels[2:]]
    metrics, predictions = evaluation(labels, answers, classes)
    _, page = read(make_run(tmp_path / "run", record(tmp_path, classes), metrics, predictions))
    alts = [image["alt"] or "" for image in page.every("img")]
    assert "Confusion matrix of 25 classes; 48 of 50 images lie on its diagonal." in alts
    assert ["c000", "c024", "2"] in page.cells
    assert ["Label", *classes] not in page.cells


def test_mistakes_are_shown_surest_first_and_at_most_24(tmp_path: Path) -> None:
    metrics, predictions = evaluation([0] * 30, [1] * 30, ["a", "b"])
    run = make_run(tmp_path / "run", record(tmp_path, ["a", "b"]), metrics, predictions)
    _, page = read(run)
    assert "The 24 most confident of 30 wrong predictions" in page.text
    mistakes = page.text.partition("The 24 most confident")[2].partition(
        "The most frequent mistakes"
    )[0]
    shown = [int(number) for number in re.findall(r"a/(\d+)\.png", mistakes)]
    assert shown == list(range(29, 5, -1))


def test_a_mistake_without_its_image_has_no_picture(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "ant" / "1.png").unlink()
    (tmp_path / "photos" / "bee" / "2.png").write_bytes(b"broken")
    _, page = read(small_run, tmp_path / "photos")
    assert not page.every("img")
    assert page.text.count("No picture") == 4, "as mistakes, and as pairs"
    assert "ant/1.png" in page.text
    assert "bee/2.png" in page.text


def test_what_comes_from_the_data_stays_text(tmp_path: Path) -> None:
    quoted = 'a"b\'c & ünï "x" onload=y 猫.png'
    classes = (NASTY, "b$_{x}$")
    metrics, _ = evaluation([0, 1], [1, 0], classes)
    predictions = [
        TestPrediction(
            path=quoted, label=a, prediction=b, probability=0.9, probability_of_label=0.1
        )
        for a, b in (classes, classes[::-1])
    ]
    made = record(
        tmp_path,
        classes,
        data_name=NASTY,
        command=f"headstart fit '{NASTY}'",
        notes=[NASTY],
        plan=[PlanStep(stage=NASTY, planned=NASTY, happened=NASTY)],
    )
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / quoted)
    finding = Finding(kind="truncated", severity="warning", files=(NASTY, quoted), message=NASTY)
    audit = AUDIT.model_copy(update={"findings": (finding,)})
    run = make_run(tmp_path / "run <i> 'x'", made, metrics, predictions, audit=audit)
    html, page = read(run, tmp_path / "photos")
    assert page.every("script") == [{}]
    assert not page.every("i")
    assert html.count("<script") == 1
    assert {f"{quoted}: labelled {NASTY}, predicted as b$_{{x}}$"} <= {
        image["alt"] for image in page.every("img")
    }
    assert not any("onload" in attrs for _, attrs in page.tags)
    assert page.text.count(NASTY) >= 10


def test_findings_are_grouped_with_warnings_first(small_run: Path, tmp_path: Path) -> None:
    twins = [
        Finding(kind="near_duplicate", severity="info", files=(f"{n}.png",), message="Twins.")
        for n in range(60)
    ]
    broken = Finding(kind="truncated", severity="warning", files=("z.png",), message="It ends.")
    audit = Audit(
        n_images=41,
        n_usable=40,
        classes={},
        dropped={"z.png": "it ends"},
        findings=(*twins, broken),
    )
    write_start(small_run, record(tmp_path, ("ant", "bee", "wasp")), Recipe(), audit)
    _, page = read(small_run)
    start = page.cells.index(["Kind", "Severity", "Count", "Findings"])
    rows = page.cells[start + 1 : start + 3]
    assert [row[:3] for row in rows] == [
        ["truncated", "warning", "1"],
        ["near duplicate", "info", "60"],
    ]
    hidden = " ".join(f"Twins. {n}.png" for n in range(2, 50))
    assert " ".join(rows[1][3].split()) == (
        f"Twins. 0.png Twins. 1.png 58 more {hidden} The other 10 are in audit.json."
    )
    assert "40 of 41 files were used (left out: 1;" in page.text


def test_a_run_of_the_probe_alone_has_no_curves(tmp_path: Path) -> None:
    metrics, predictions = evaluation([0, 1], [0, 1], ["a", "b"])
    made = record(tmp_path, ["a", "b"], boundary="features", chosen="probe")
    _, page = read(make_run(tmp_path / "run", made, metrics, predictions, epochs=0))
    assert len(page.every("svg")) == 1  # reliability
    assert "#training" not in {link["href"] for link in page.every("a")}
    assert "the head only; the backbone is frozen" in page.text
    assert "None: every test image was classified correctly." in page.text
    assert "No test image was assigned to a wrong class." in page.text


def test_an_unfinished_run_has_no_report(tmp_path: Path) -> None:
    write_start(tmp_path, record(tmp_path, ["a", "b"]), Recipe(), AUDIT)
    with pytest.raises(RunError, match=r"metrics\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_suspects_are_shown_with_their_pictures(small_run: Path, tmp_path: Path) -> None:
    odd = "bee/\udce9 gone.png"  # a file name that is not valid UTF-8
    suspects = [
        Suspect("ant/1.png", 1, "ant", "bee", "label", 0.9, "labelled 'ant', and"),
        Suspect(odd, 2, "bee", "", "outlier", 0.1, "unlike other images"),
    ]
    write_suspects_csv(small_run / SUSPECTS, suspects)
    _, page = read(small_run, tmp_path / "photos")
    shown = page.text[page.text.index("2 suspicious images") :]
    assert "perhaps bee" in shown
    assert "unlike other images" in shown
    assert "ant/1.png, labelled ant" in {image["alt"] for image in page.every("img")}
    assert shown.count("No picture") == 1


def test_what_was_not_measured_says_how_to(small_run: Path, tmp_path: Path) -> None:
    _, page = read(small_run)
    assert f"headstart suspects {small_run} --out {small_run}/suspects.csv" in page.text
    assert "needs a data set with a path" in page.text
    write_record(small_run, record(tmp_path, ["a"], source="photos"))
    _, page = read(small_run)
    split = f"--split {small_run}/split.csv"
    assert f"headstart benefit photos {split} --out {small_run}/certificate" in page.text
    assert f"headstart report {small_run}" in page.text


def test_mixed_up_classes_are_shown(small_run: Path) -> None:
    near = Neighbour(image="wasp/9.png", label="bee", similarity=0.5)
    write_evidence(small_run, Evidence(neighbours={"ant/1.png": (near,)}, notes=("No heat.",)))
    write_pictures(small_run, "photograph", [("wasp/9.png", Image.new("RGB", (9, 9)))])
    write_pictures(small_run, "heat", [("ant/1.png", Image.new("RGB", (9, 9)))])
    _, page = read(small_run)
    assert "ant predicted as bee: 1 image" in page.text
    alts = [image["alt"] for image in page.every("img")]
    assert alts.count("a training image of bee") == 1
    assert alts.count("training image of bee") == 1, "beside the mistake"
    assert alts.count("The same image, dark where it does not support bee.") == 1
    assert "No heat." in page.text


def test_the_leaderboard_says_how_optimistic_its_best_score_is(small_run: Path) -> None:
    write_recipe(small_run, Recipe(), SEARCH_RECIPE)
    scores = np.random.default_rng(0).random((5, 60)) < 0.8  # five trials that are equally good
    for number, right in enumerate(scores):
        bits = "".join("1" if each else "0" for each in right)
        trial = Trial(
            rung=0, number=number, state="done", recipe=Recipe().model_dump(mode="json"),
            epochs=3, val_loss=0.5, val_right=int(right.sum()), val_images=60, val_bits=bits,
        )  # fmt: skip
        TRIALS.append(small_run, trial)
    failed = Trial(rung=0, number=5, state="failed", recipe=trial.recipe, epochs=3)
    TRIALS.append(small_run, failed)
    TRIALS.append(small_run, trial.model_copy(update={"rung": 1, "epochs": 6}))
    text = " ".join(read(small_run)[1].text.split())
    found = re.search(
        r"most accurate of 5 trials of 3 epochs overstates accuracy by about (\d\.\d) percentage",
        text,
    )
    assert found is not None
    # The best of 5 standard normals is 1.163 on average, and a score varies by √(0.8 · 0.2 / 60).
    assert float(found[1]) == pytest.approx(6.0, abs=1.5)


SECRET = (255, 0, 0)


def tampered(run: Path, root: Path, name: str) -> None:
    """Makes a run claim that an image of its test set lies at `name`, below `root`."""
    made = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**made, "data_root": str(root), "source": str(root)}))
    predictions = read_predictions(run)
    wrong = next(row for row, each in enumerate(predictions) if each.prediction != each.label)
    predictions[wrong] = predictions[wrong].model_copy(update={"path": name})
    metrics = read_metrics(run)
    write_result(run, metrics, predictions)
    suspect = Suspect(name, 0, "ant", "bee", "label", 0.9, "labelled 'ant'")
    write_suspects_csv(run / SUSPECTS, [suspect])
    write_evidence(
        run,
        Evidence(neighbours={name: (Neighbour(image=name, label="bee", similarity=0.9),)}),
    )
    write_split(run, [prediction.path for prediction in predictions])


def colours(page: Page) -> set[str]:
    """Which of red and green the pictures of a page are."""
    found = set()
    for image in page.every("img"):
        source = image["src"] or ""
        content = base64.b64decode(source.partition("base64,")[2])
        red, green, _ = Image.open(BytesIO(content)).convert("RGB").resize((1, 1)).getpixel((0, 0))
        found.add("red" if red > green else "green")
    return found


@pytest.mark.parametrize("confirmed", [False, True], ids=["alone", "with its data"])
@pytest.mark.parametrize("how", ["other root", "parent", "absolute", "link", "linked folder"])
def test_a_tampered_run_shows_no_picture_from_outside(
    how: str, confirmed: bool, small_run: Path, tmp_path: Path
) -> None:
    photos, private = tmp_path / "photos", tmp_path / "private"
    private.mkdir()
    Image.new("RGB", (30, 20), SECRET).save(private / "secret.png")
    (photos / "link.png").symlink_to(private / "secret.png")
    (photos / "linked").symlink_to(private, target_is_directory=True)
    root, name = {
        "other root": (private, "secret.png"),
        "parent": (photos, "../private/secret.png"),
        "absolute": (photos, str(private / "secret.png")),
        "link": (photos, "link.png"),
        "linked folder": (photos, "linked/secret.png"),
    }[how]
    tampered(small_run, root, name)
    _, page = read(small_run, photos if confirmed else None)
    assert colours(page) == ({"green"} if confirmed else set()), "its own pictures alone"
    assert "No picture" in page.text


@pytest.mark.parametrize("linked", ["file", "folder", "sheet"])
def test_pictures_of_a_run_are_not_links_out_of_it(
    linked: str, small_run: Path, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    write_pictures(private.parent, "photograph", [("ant/1.png", Image.new("RGB", (9, 9), SECRET))])
    (tmp_path / "pictures").rename(private)
    (kept,) = private.iterdir()
    pictures = small_run / "pictures"
    if linked == "folder":
        pictures.symlink_to(private, target_is_directory=True)
    else:
        pictures.mkdir()
        (pictures / (kept.name if linked == "file" else "augmentations.png")).symlink_to(kept)
    _, page = read(small_run)
    assert colours(page) == set()


def test_pictures_that_a_run_lacks_are_counted_with_the_way_to_draw_them(
    small_run: Path, tmp_path: Path, headstart: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    first = headstart("report", small_run)
    assert "note: 2 images have no picture: the run keeps no copy." in first.stderr
    assert (
        f"headstart report {small_run} --data FOLDER"
        in Page((small_run / "report.html").read_text()).text
    )
    second = headstart("report", small_run, "--data", tmp_path / "photos")
    assert (second.returncode, second.stderr) == (0, "")
    nowhere = headstart("report", small_run, "--data", tmp_path / "none")
    assert nowhere.returncode == 2 and "is not a folder" in nowhere.stderr
