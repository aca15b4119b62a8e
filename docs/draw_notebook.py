"""Draws docs/pictures/notebook.png: a part of an example notebook, with its results.

    python docs/draw_notebook.py

The notebook is not run again. It needs nbconvert, playwright and a Chromium on the path.
"""

import shutil
from pathlib import Path

from nbconvert import HTMLExporter
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "examples" / "from_folder_to_proof.ipynb"
PICTURE = ROOT / "docs" / "pictures" / "notebook.png"
HEADING = "Train, and open the sealed test once"
WIDTH, HEIGHT = 1000, 760


def main() -> None:
    page_text, _ = HTMLExporter().from_filename(str(NOTEBOOK))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.route("http*://**", lambda request: request.abort())  # MathJax; nothing is needed
        page.set_content(page_text, wait_until="domcontentloaded")
        heading = page.get_by_role("heading", name=HEADING)
        top = heading.evaluate("(heading) => heading.getBoundingClientRect().top")
        page.mouse.wheel(0, top - 8)
        page.wait_for_timeout(500)  # until it has scrolled
        page.screenshot(path=PICTURE)
        browser.close()
    with Image.open(PICTURE) as image:
        few = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    few.save(PICTURE, optimize=True)
    print(PICTURE)


if __name__ == "__main__":
    main()
