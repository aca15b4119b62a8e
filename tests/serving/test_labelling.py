"""The page on which images get their labels: what it takes and refuses, and in a real browser."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_pages import MARKS, Visit, launched
from PIL import Image

import headstart
from headstart.api.fit import fit
from headstart.artifacts.label_file import LabelFile
from headstart.artifacts.run import read_split_parts
from headstart.data.sources import load_dataset
from headstart.errors import InputError
from headstart.inference.next_labels import NextLabels
from headstart.recipes.options import SourceOptions
from headstart.serving.labelling import add_labelled, make_labelling_app
from headstart.serving.options import ServeOptions

if TYPE_CHECKING:
    from headstart.inference.run import Run

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def place(pictures: Path, noisy_pictures: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with the images of the run and with new ones."""
    shutil.copytree(pictures, tmp_path / "old")
    noisy_pictures(tmp_path / "new", range(100, 103))
    return tmp_path


@pytest.fixture
def found(head_run: "Run", place: Path) -> NextLabels:
    return headstart.label_next(head_run.folder, place / "new", count=5)


@pytest.fixture
def labels(place: Path) -> LabelFile:
    return LabelFile(place / "labels.csv")


@pytest.fixture
def page(
    head_run: "Run", found: NextLabels, labels: LabelFile, serve_app: Callable[..., Any]
) -> Any:
    options = ServeOptions(port=0, max_megabytes=1)
    return serve_app(make_labelling_app(head_run.folder, found, labels, options), options)


def give(page: Any, rank: object, label: object, **headers: str) -> Any:
    body = json.dumps({"rank": rank, "label": label})
    return page.ask("/v1/labels", body, JSON | headers)


def test_a_label_is_on_the_disk_at_once_and_can_be_taken_back(
    page: Any, found: NextLabels, labels: LabelFile
) -> None:
    assert give(page, 2, " rings ").data == {"rank": 2, "label": "rings"}
    image = Path(found.images[1].image)
    assert LabelFile(labels.path).label_of(image) == "rings"
    task = page.ask("/v1/task").data
    assert [each["label"] for each in task["images"]] == [None, "rings", None, None, None]
    assert task["classes"] == ["checks", "rings", "stripes"]
    assert give(page, 2, "a new class").status == 200
    assert page.ask("/v1/task").data["classes"][-1] == "a new class"
    assert give(page, 2, None).status == 200
    assert LabelFile(labels.path).label_of(image) is None


def test_an_image_is_shown_and_no_other_file(page: Any, found: NextLabels) -> None:
    answer = page.ask("/v1/images/1")
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(BytesIO(answer.body)) as shown, Image.open(found.images[0].image) as wanted:
        assert shown.size == wanted.size
    for path in ("/v1/images/6", "/v1/images/0", "/v1/images/..%2f..%2flabels.csv", "/labels.csv"):
        assert page.ask(path).status in (404, 422)


@pytest.mark.parametrize("label", ["", "  ", "a;b", "a|b", "a\nb", "x" * 201, 3, ["a"]])
def test_what_is_no_label_is_refused(page: Any, labels: LabelFile, label: object) -> None:
    assert give(page, 1, label).status == 422
    assert give(page, 99, "rings").status == 404
    assert not labels.path.exists()


@pytest.mark.parametrize(
    "body",
    [
        '{"rank": NaN, "label": null}',
        '{"rank": 1, "label": -Infinity}',
        '{"rank": 1, "label": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"rank": 1, "label": "rings", "\x1b": 1}',
        "[" * 50_000,
        '{"rank": ' + "9" * 5000 + "}",
    ],
)
def test_what_is_hardly_json_is_refused_in_words(page: Any, labels: LabelFile, body: str) -> None:
    """FastAPI's own answer repeats what it got, and fails for NaN."""
    answer = page.ask("/v1/labels", body, JSON)
    assert answer.status in {400, 422}
    assert isinstance(answer.data["detail"], str) and "\x1b" not in answer.data["detail"]
    assert not labels.path.exists()


def test_a_class_of_the_run_may_hold_what_separates_labels(
    head_run: "Run",
    found: NextLabels,
    labels: LabelFile,
    place: Path,
    serve_app: Callable[..., Any],
) -> None:
    """A folder of the run may have such a name; `fit` must not take it for two labels."""
    run = shutil.copytree(head_run.folder, place / "run")
    spec = run / "bundle" / "bundle.json"
    spec.write_text(spec.read_text().replace('"rings"', '"a;b"'))
    options = ServeOptions(port=0, max_megabytes=1)
    page = serve_app(make_labelling_app(run, found, labels, options), options)
    assert not page.ask("/v1/task").data["command"].endswith("--task single")
    assert give(page, 1, "a;b").data["label"] == "a;b"
    assert give(page, 2, "a;c").status == 422
    assert give(page, 3, "checks").status == 200
    assert page.ask("/v1/task").data["command"].endswith("--task single")
    options = SourceOptions(task="single")
    assert {item.label for item in load_dataset(labels.path, options).items} == {"a;b", "checks"}


def test_a_file_that_was_broken_meanwhile_is_said_and_stays(page: Any, labels: LabelFile) -> None:
    assert give(page, 1, "rings").status == 200
    labels.path.write_text("something,else\n")
    answer = give(page, 2, "rings")
    assert answer.status == 409 and "not a file of labels" in answer.data["detail"]
    assert labels.path.read_text() == "something,else\n"


def test_boxes_are_no_labels_of_an_image(head_run: "Run", place: Path, labels: LabelFile) -> None:
    run = shutil.copytree(head_run.folder, place / "run")
    rows = (run / "data.csv").read_text().splitlines()
    another = rows[1].replace(",checks,", ",rings,")
    assert another != rows[1]
    (run / "data.csv").write_text("\n".join([*rows, another]) + "\n")
    with pytest.raises(InputError, match="made from boxes"):
        add_labelled(run, place / "old", labels)
    assert not labels.path.exists()


def test_pages_of_other_sites_and_other_names_are_refused(page: Any, labels: LabelFile) -> None:
    assert give(page, 1, "rings", Origin="http://evil.example").status == 403
    assert give(page, 1, "rings", Host="evil.example").status == 421
    assert page.ask("/v1/labels", "x" * 1_100_000, JSON).status == 413
    assert not labels.path.exists()
    policy = page.ask("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_run_is_continued_with_old_and_new_images(
    head_run: "Run", place: Path, labels: LabelFile, page: Any, found: NextLabels, tmp_path: Path
) -> None:
    assert add_labelled(head_run.folder, place / "old", labels) == ""
    for each in found.images:
        give(page, each.rank, Path(each.image).parent.name)
    dataset = load_dataset(labels.path)
    assert len(dataset.items) == 48 + 5
    assert all(item.label == item.path.parent.name for item in dataset.items)
    run = fit(labels.path, from_run=head_run.folder, epochs=0, out=tmp_path / "run")
    before = {
        Path(name).parts[-2:]: part for name, part in read_split_parts(head_run.folder).items()
    }
    now = {Path(name).parts[-2:]: part for name, part in read_split_parts(run.folder).items()}
    sealed = {name for name, part in before.items() if part == "test"}
    assert sealed and all(now[name] == "test" for name in sealed)
    assert len(now) == len(before) + 5


def test_what_the_file_lacks_is_said(head_run: "Run", place: Path, labels: LabelFile) -> None:
    assert "Give --data" in add_labelled(head_run.folder, None, labels)
    (place / "old" / "rings" / "000.png").unlink()
    (place / "old" / "rings" / "001.png").write_bytes(b"changed")
    assert "2 of 48 images of the run are not in" in add_labelled(
        head_run.folder, place / "old", labels
    )
    assert len(labels) == 46
    (place / "a" / "b").mkdir(parents=True)
    with pytest.raises(InputError, match="neither in the folder"):
        add_labelled(head_run.folder, place / "old", LabelFile(place / "a" / "b" / "labels.csv"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as opened:
        yield opened


class TestInABrowser:
    pytestmark = MARKS

    def test_images_are_labelled_with_the_keyboard(
        self, browser: Any, page: Any, found: NextLabels, labels: LabelFile
    ) -> None:
        with closing(Visit(browser, f"http://127.0.0.1:{page.port}/")) as visit:
            shown, keyboard = visit.page, visit.page.keyboard
            shown.wait_for_selector("#work:not([hidden])")
            at = shown.locator("#status")
            for step, key in enumerate(("2", "1", "ArrowRight", "3"), start=2):
                keyboard.press(key)
                at.filter(has_text=f"Image {step} of 5").wait_for()
            keyboard.press("ArrowLeft")
            at.filter(has_text="Image 4 of 5; 3 have").wait_for()
            pressed = shown.locator("button[aria-pressed=true]")
            assert pressed.get_attribute("data-name") == "stripes"
            keyboard.press("Delete")
            at.filter(has_text="2 have a label").wait_for()
            keyboard.press("ArrowRight")
            keyboard.press("/")
            keyboard.type("a 2nd kind")
            keyboard.press("Enter")
            shown.wait_for_selector("#end:not([hidden])")
            assert "--from" in shown.locator("#command").inner_text()
            assert "3 of 5 have a label" in at.inner_text()
            assert visit.said == []
            assert all(url.startswith(f"http://127.0.0.1:{page.port}/") for _, url in visit.asked)
        given = [LabelFile(labels.path).label_of(Path(each.image)) for each in found.images]
        assert given == ["rings", "checks", None, None, "a 2nd kind"]

    @pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
    def test_it_is_accessible_and_fits(
        self, browser: Any, page: Any, width: int, dark: bool
    ) -> None:
        from axe_playwright_python.sync_playwright import Axe

        url = f"http://127.0.0.1:{page.port}/"
        with closing(Visit(browser, url, width=width, dark=dark)) as visit:
            visit.page.wait_for_selector("#work:not([hidden])")
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            for _ in range(2):
                violations = Axe().run(visit.page).response["violations"]
                assert [(e["id"], e["nodes"][0]["html"][:120]) for e in violations] == []
                assert visit.page.evaluate(wide) == 0
                for _ in range(5):
                    visit.page.keyboard.press("ArrowRight")
                visit.page.wait_for_selector("#end:not([hidden])")
