"""Draws the screenshots in docs/pictures: a report, a certificate and a terminal.

    headstart fit demo:solar --strategy head --epochs 0 --set backbone.resolution=128 --out RUN
    headstart benefit FOLDER --epochs 6 --fractions 50,100 --resolution 64 --out CERTIFICATE
    python docs/draw_report.py RUN --certificate CERTIFICATE

The report is drawn on a desktop in light and on a phone in dark, the certificate on a desktop, and
the terminal with the output of `headstart check`. It needs playwright and a Chromium on the path.
The photographs of solar cells are those of elpv-dataset (CC BY-NC-SA 4.0), and so are the pictures
of the report.
"""

import argparse
import os
import pty
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZES = {"desktop": (1180, 1160, "light"), "phone": (390, 844, "dark")}
SHOWN = {"desktop": ("header",), "phone": ("header", "#mistakes", "#map")}
"""Where each screen begins; those of a phone stand side by side."""


COLUMNS = 100
"""Width of the terminal in characters."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--certificate", type=Path, help="folder of a certificate")
    parser.add_argument("--terminal", default="check demo:solar", help="command of the terminal")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name in SIZES:
            _draw(browser, args.run / "report.html", name, SHOWN[name])
        if args.certificate is not None:
            _draw(browser, args.certificate / "certificate.html", "certificate", ("header",))
        page = browser.new_page(viewport={"width": 900, "height": 300})
        page.set_content(terminal_page(args.terminal))
        page.locator("pre").screenshot(path=PICTURES / "terminal.png")
        _smaller(PICTURES / "terminal.png")
        browser.close()


def _draw(browser: Browser, source: Path, name: str, places: tuple[str, ...]) -> None:
    width, height, scheme = SIZES.get(name, (1180, 1395, "light"))  # to the end of the curves
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(source.resolve().as_uri())
    path = PICTURES / (f"report_{name}.png" if name in SIZES else f"{name}.png")
    _beside([_screen(page, place) for place in places]).save(path)
    _smaller(path, dither="#mistakes" in places)
    context.close()


def _smaller(path: Path, dither: bool = False) -> None:
    """Leaves 256 colours of a picture; one with heat maps gets bands unless it is dithered."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    few = whole.convert("P", palette=Image.Palette.ADAPTIVE)
    if dither:
        few = whole.quantize(
            palette=whole.quantize(256, kmeans=3), dither=Image.Dither.FLOYDSTEINBERG
        )
    few.save(path, optimize=True)
    print(path)


def terminal_page(command: str) -> str:
    """Returns an HTML page that shows what a command of headstart prints on a terminal."""
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text(f"$ headstart {command}", style="bold"))
    console.print(
        Text.from_ansi(on_terminal([sys.executable, "-m", "headstart", *command.split()]))
    )
    page = console.export_html(theme=MONOKAI, inline_styles=True)
    style = "pre { padding: 14px; margin: 0; width: fit-content; border-radius: 8px; "
    colours = "background: #0c0c0c; color: #d9d9d9; font-size: 14px; }"
    return page.replace("</head>", f"<style>{style}{colours}</style></head>")


def on_terminal(command: list[str]) -> str:
    """Returns what a command prints where it believes to be on a terminal."""
    reader, writer = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env={**os.environ, **size}
    ):
        os.close(writer)
        parts = []
        while True:
            try:
                part = os.read(reader, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(reader)
    return b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n")


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
