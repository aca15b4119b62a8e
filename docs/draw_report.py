"""Draws the pictures of a report in docs/pictures: on a desktop in light, on a phone in dark.

    headstart fit demo:solar --budget 3m --out RUN
    python docs/draw_report.py RUN

It needs playwright and a Chromium on the path. The photographs of solar cells are those of
elpv-dataset (CC BY-NC-SA 4.0), and so are these pictures.
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZES = {"desktop": (1180, 1500, "light"), "phone": (390, 844, "dark")}
SHOWN = {"desktop": ("header",), "phone": ("header", "#mistakes", "#map")}
"""Where each screen begins; those of a phone stand side by side."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    report = (parser.parse_args().run / "report.html").resolve().as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (width, height, scheme) in SIZES.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            page.goto(report)
            screens = [_screen(page, place) for place in SHOWN[name]]
            path = PICTURES / f"report_{name}.png"
            _beside(screens).convert("P", palette=Image.Palette.ADAPTIVE).save(path, optimize=True)
            print(path)
        browser.close()


def _screen(page: Page, place: str) -> Image.Image:
    top = page.locator(place).first.evaluate("(e) => e.getBoundingClientRect().top + scrollY")
    page.evaluate(f"scrollTo(0, {top} - 12)")
    path = PICTURES / ".screen.png"
    page.screenshot(path=path)
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    finally:
        path.unlink()


def _beside(screens: list[Image.Image]) -> Image.Image:
    gap, (width, height) = 16, screens[0].size
    sheet = Image.new("RGB", (len(screens) * (width + gap) - gap, height), "white")
    for number, screen in enumerate(screens):
        sheet.paste(screen, (number * (width + gap), 0))
    return sheet


if __name__ == "__main__":
    main()
