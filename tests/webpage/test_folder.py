"""The exported page: from a plain server, in a real browser, it answers as `predict` does."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser_pages import MARKS, Visit, launched

from headstart.errors import InputError
from headstart.webpage.runtime import FILES, VERSION, runtime_files

if TYPE_CHECKING:
    from headstart.inference.run import Run

RUNTIME = os.environ.get("HEADSTART_ONNXRUNTIME_WEB", "")
"""Folder with the files of onnxruntime-web; `.ci/run` fetches them where npm is installed."""

in_browser = [
    *MARKS,
    pytest.mark.skipif(not RUNTIME, reason="HEADSTART_ONNXRUNTIME_WEB names no folder"),
]


class Quiet(SimpleHTTPRequestHandler):
    """A plain file server."""

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@pytest.fixture(scope="module")
def folder(
    head_run: "Run",
    pictures: Path,
    headstart: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The page of the finished run, written by the command."""
    out = tmp_path_factory.mktemp("web") / "page"
    arguments = ["--to", "web", "--data", pictures, "--runtime", RUNTIME, "--out", out]
    done = headstart("export", head_run.folder, *arguments)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[Any]:
    """The page in a browser, with all that it said and asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    with launched() as browser:
        visit = Visit(browser, url)
        visit.page.wait_for_selector("#drop:not([hidden])")
        yield visit.page, visit.said, visit.asked, url, server
    server.server_close()


def answers(page: Any) -> dict[str, float]:
    """The exact probabilities of the newest result, from the widths of its bars."""
    names = page.locator("article").first.locator(".bars .name").all_inner_texts()
    widths = (
        page.locator("article")
        .first.locator(".fill")
        .evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.width) / 100)")
    )
    return dict(zip(names, widths, strict=True))


@pytest.mark.usefixtures("opened")
class TestInABrowser:
    pytestmark = in_browser

    def test_it_answers_as_predict_does_and_sends_nothing(
        self, opened: Any, head_run: "Run", pictures: Path
    ) -> None:
        page, said, asked, url, _ = opened
        files = [pictures / kind / "007.png" for kind in ("checks", "rings", "stripes")]
        for number, (file, wanted) in enumerate(
            zip(files, head_run.predict(files), strict=True), 1
        ):
            page.set_input_files("#files", file)
            page.locator("article").nth(number - 1).wait_for()
            found = answers(page)
            assert max(found, key=found.__getitem__) == wanted.label
            for name, share in wanted.probabilities.items():
                assert found[name] == pytest.approx(share, abs=1e-4)
            shown = page.locator("article").first.locator(".warning")
            assert shown.is_visible() == wanted.out_of_distribution
            if wanted.out_of_distribution:
                assert shown.inner_text() == wanted.warning
        page.locator("article .explain").first.click()
        page.wait_for_selector("article canvas:not([hidden])")
        assert said == []
        assert {method for method, _ in asked} == {"GET"}
        assert all(each.startswith((url, "blob:", "data:")) for _, each in asked)

    def test_what_is_unlike_the_training_images_is_said(
        self, opened: Any, head_run: "Run", tmp_path: Path
    ) -> None:
        from PIL import Image

        noise = np.random.default_rng(3).integers(0, 256, (90, 90, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "noise.png")
        (wanted,) = head_run.predict(tmp_path / "noise.png")
        assert wanted.out_of_distribution
        page = opened[0]
        before = page.locator("article").count()
        page.set_input_files("#files", tmp_path / "noise.png")
        page.locator("article").nth(before).wait_for()
        assert page.locator("article").first.locator(".warning").inner_text() == wanted.warning

    def test_pages_of_one_server_keep_their_files_apart(self, opened: Any, folder: Path) -> None:
        page, _, _, url, _ = opened
        kept = "navigator.serviceWorker.ready.then(() => caches.keys())"
        (first,) = page.evaluate(kept)
        other = folder / "other"
        shutil.copytree(folder, other)
        worker = (other / "offline.js").read_text(encoding="utf-8")
        version = first.rpartition(" ")[2]
        (other / "offline.js").write_text(worker.replace(version, "another"), encoding="utf-8")
        second = page.context.new_page()
        second.goto(f"{url}other/")
        second.wait_for_selector("#drop:not([hidden])")
        second.evaluate("navigator.serviceWorker.ready.then((each) => each.active.scriptURL)")
        second.wait_for_timeout(300)  # until the worker that took over has tidied up
        assert set(second.evaluate("caches.keys()")) == {first, f"headstart {url}other/ another"}
        second.close()

    def test_it_opens_again_without_the_server(self, opened: Any) -> None:
        """The last test here: it ends the server."""
        page, _, _, url, server = opened
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        server.shutdown()
        server.server_close()
        page.goto(url)
        page.wait_for_selector("#drop:not([hidden])")
        assert "3 classes" in page.locator("#about").inner_text()


class TestLabelsInABrowser:
    """The page of a classifier that gives an image any number of labels."""

    pytestmark = in_browser

    def test_it_decides_as_predict_does(
        self, labels_run: "Run", quarters_folder: Path, headstart: Callable[..., Any],
        tmp_path: Path,
    ) -> None:  # fmt: skip
        out = tmp_path / "page"
        done = headstart("export", labels_run.folder, "--to", "web", "--runtime", RUNTIME,
                         "--out", out)  # fmt: skip
        assert done.returncode == 0, done.stderr
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(out)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        files = [quarters_folder / f"{number:02}.png" for number in range(12)]
        with launched() as browser:
            visit = Visit(browser, f"http://127.0.0.1:{server.server_address[1]}/")
            page = visit.page
            page.wait_for_selector("#drop:not([hidden])")
            assert "mean average precision" in page.locator("#about").inner_text()
            for number, (file, wanted) in enumerate(
                zip(files, labels_run.predict(files), strict=True)
            ):
                page.set_input_files("#files", file)
                page.locator("article").nth(number).wait_for()
                found = answers(page)
                for name, share in wanted.probabilities.items():
                    assert found[name] == pytest.approx(share, abs=1e-4)
                card = page.locator("article").first
                given = card.locator(".given .name").all_inner_texts()
                assert sorted(given) == sorted(wanted.labels or ())
                # The likelier first; the browser tells equal ones apart by rounding.
                shares = [wanted.probabilities[name] for name in given]
                assert shares == pytest.approx(sorted(shares, reverse=True), abs=1e-4)
            page.locator("article .explain").first.click()
            page.wait_for_selector("article canvas:not([hidden])")
            assert visit.said == []
        server.shutdown()
        server.server_close()


def test_files_of_another_version_are_refused(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(InputError, match=f"is not that of onnxruntime-web {VERSION}"):
        runtime_files(tmp_path, download=False, cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"ort\.wasm\.min\.mjs: No such file"):
        runtime_files(tmp_path / "nothing", download=False, cache_dir=tmp_path)


def test_nothing_is_fetched_unasked(
    headstart: Callable[..., Any],
    head_run: "Run",
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    out = tmp_path / "out"
    arguments = ["export", head_run.folder, "--to", "web", "--data", pictures, "--out", out]
    done = headstart(*arguments)
    assert done.returncode == 2 and "--download" in done.stderr
    done = headstart(*arguments, "--download")
    assert done.returncode == 2 and "not an https address" in done.stderr
    assert not out.exists()


def test_the_runtime_is_for_the_page_alone(headstart: Callable[..., Any], head_run: "Run") -> None:
    done = headstart("export", head_run.folder, "--to", "onnx", "--download")
    assert done.returncode == 2 and "--to web" in done.stderr
