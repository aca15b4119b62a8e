"""Draws docs/pictures/try_page.png: the page of `export --to web`, in a headless Chromium.

    headstart fit HYMENOPTERA --strategy head --out RUN
    python docs/draw_web_page.py RUN --runtime DIST

DIST holds the files of onnxruntime-web: `dist` of the npm package. It needs playwright and a
Chromium on the path. The photograph comes with scikit-learn: `flower.jpg`
(flickr.com/photos/vultilion), CC BY 2.0.
"""

import argparse
import shutil
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sklearn.datasets import load_sample_image

import headstart

PICTURE = Path(__file__).resolve().parent / "pictures" / "try_page.png"
WIDTH = 720


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--runtime", type=Path, required=True, help="files of onnxruntime-web")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        flower = Path(work) / "flower.png"
        Image.fromarray(load_sample_image("flower.jpg")).save(flower)
        site = Path(work) / "site"
        headstart.export(args.run, to="web", runtime=args.runtime, out=site)
        files = partial(SimpleHTTPRequestHandler, directory=str(site))
        server = ThreadingHTTPServer(("127.0.0.1", 0), files)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": WIDTH, "height": 600})
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            _try(page, flower)
            page.screenshot(path=PICTURE, full_page=True)
            browser.close()
        server.shutdown()
    with Image.open(PICTURE) as image:
        small = image.convert("P", palette=Image.Palette.ADAPTIVE)
    small.save(PICTURE, optimize=True)
    print(PICTURE)


def _try(page: Page, image: Path) -> None:
    """Gives the page an image, and asks where the network looked."""
    page.wait_for_selector("#drop:not([hidden])")
    page.set_input_files("#files", image)
    page.locator("article").first.wait_for()
    page.locator("article .explain").first.click()
    page.wait_for_selector("article canvas:not([hidden])")


if __name__ == "__main__":
    main()
