"""Draws the pictures in docs/pictures with `headstart show`.

The two photographs come with scikit-learn: `flower.jpg` (flickr.com/photos/vultilion) and
`china.jpg` (flickr.com/photos/danielbuechele), both CC BY 2.0. Run it from the
root of the repository:

    python docs/draw_pictures.py
"""

import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

from headstart.api.show import show


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("flower", "china"):
            place = Path(folder) / name
            place.mkdir()
            Image.fromarray(load_sample_image(f"{name}.jpg")).save(place / f"{name}.png")
        flower = Path(folder) / "flower" / "flower.png"
        for file in show(folder, out=Path(__file__).parent / "pictures", image=flower):
            Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE).save(file, optimize=True)
            print(file)


if __name__ == "__main__":
    main()
