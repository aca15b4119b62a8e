"""Every way in which an image file can be odd or broken, and the cache of decoded images."""

import errno
import io
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from headstart.data import decode_pool
from headstart.data.decode import decode_dataset
from headstart.data.images import load_image, stored_size
from headstart.data.pixels import Pixels
from headstart.data.rasters import THUMBNAIL
from headstart.data.types import Item
from headstart.errors import DataError, DiskFullError, HeadstartError, InputError
from headstart.features.cache import evict


def picture(seed: int = 0, width: int = 60, height: int = 40) -> Image.Image:
    """A smooth colour picture without symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + name + body + crc

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x00\x00\x00\x00")
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def close(image: Image.Image, expected: Image.Image, tolerance: float) -> bool:
    difference = np.asarray(image).astype(int) - np.asarray(expected).astype(int)
    return image.size == expected.size and bool(np.abs(difference).mean() <= tolerance)


def write_pictures(folder: Path, count: int) -> list[Item]:
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"{number:03}.png"
        picture(number, 40 + number % 5, 30).save(path)
        items.append(Item(path, "a"))
    return items


def decode_all(items: list[Item], tmp_path: Path, short_side: int = 20, **more: int) -> Pixels:
    return decode_dataset(items, short_side, tmp_path / "cache", **more)


# Colour modes


def test_rgb_is_unchanged() -> None:
    assert np.array_equal(load_image(saved(picture(), "PNG")), picture())


def test_grey_becomes_three_equal_channels() -> None:
    grey = picture().convert("L")
    loaded = np.asarray(load_image(saved(grey, "PNG")))
    assert np.array_equal(loaded, np.stack([np.asarray(grey)] * 3, axis=2))


def test_one_bit_becomes_black_and_white() -> None:
    bits = Image.new("1", (3, 2), 0)
    bits.putpixel((1, 0), 1)
    loaded = np.asarray(load_image(saved(bits, "PNG")))
    assert loaded[0, 1].tolist() == [255] * 3
    assert loaded.sum() == 3 * 255


def test_16_bit_grey_is_divided_by_257() -> None:
    values = np.array([[0, 257, 25700, 65535]], dtype=np.uint16)
    loaded = np.asarray(load_image(saved(Image.fromarray(values), "PNG")))
    assert loaded[0, :, 1].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),  # 0..1
        ([0.0, 100.0, 200.0], [0, 100, 200]),  # 0..255
        ([-1.0, 0.0, 3.0], [0, 64, 255]),  # anything else: from the lowest to the highest
    ],
)
def test_floats_are_read_by_their_range(values: list[float], expected: list[int]) -> None:
    data = saved(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    assert np.asarray(load_image(data))[0, :, 0].tolist() == expected


def test_32_bit_integers_that_fit_are_read_as_16_bit() -> None:
    data = saved(Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.int32)), "TIFF")
    assert np.asarray(load_image(data))[0, :, 0].tolist() == [0, 100, 255]


def test_alpha_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    loaded = np.asarray(load_image(saved(image, "PNG")))
    assert loaded[0].tolist() == [[200, 0, 0], [255, 255, 255]]


def test_transparent_palette_is_laid_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    loaded = np.asarray(load_image(saved(image, "PNG", transparency=0)))
    assert loaded[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    loaded = np.asarray(load_image(saved(image, "PNG", transparency=b"\x00\xff")))
    assert loaded[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_cmyk_jpeg_keeps_its_colours() -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10))
    data = saved(red.convert("CMYK"), "JPEG", quality=95)
    assert close(load_image(data), red, tolerance=3)


def test_lab_keeps_its_colours() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(picture(), srgb, lab, outputMode="LAB")
    assert converted is not None
    assert close(load_image(saved(converted, "TIFF")), picture(), tolerance=3)


def test_first_frame_of_an_animation() -> None:
    first, second = picture(1).convert("P"), picture(2).convert("P")
    data = saved(first, "GIF", save_all=True, append_images=[second])
    assert close(load_image(data), first.convert("RGB"), tolerance=1)


# Geometry


@pytest.mark.parametrize("short_side", [None, 20])
def test_exif_orientation_is_applied(short_side: int | None) -> None:
    # Orientation 6: turn by 90 degrees clockwise to see it upright.
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = picture().transpose(Image.Transpose.ROTATE_270)
    loaded = load_image(saved(picture(), "PNG", exif=exif), short_side=short_side)
    if short_side:
        upright = upright.resize((20, 30), Image.Resampling.BICUBIC)
    assert close(loaded, upright, tolerance=0)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_tiff_is_turned_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = load_image(saved(picture(), "TIFF", exif=exif))
    as_png = load_image(saved(picture(), "PNG", exif=exif))
    assert turned.size == as_png.size
    assert close(turned, as_png, tolerance=0)


def test_damaged_exif_is_no_reason_to_lose_the_picture() -> None:
    data = saved(picture(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09garbage")
    assert load_image(data).size == picture().size


def test_shorter_side_is_resized_and_small_images_are_not_enlarged() -> None:
    data = saved(picture(width=90, height=61), "PNG")
    assert load_image(data, short_side=30).size == (44, 30)  # 90 * 30 / 61 = 44.26
    assert load_image(data, short_side=100).size == (90, 61)


def test_long_images_are_cut_to_three_to_one() -> None:
    values = np.zeros((10, 50, 3), dtype=np.uint8)
    values[:, 10:40] = 200
    loaded = np.asarray(load_image(saved(Image.fromarray(values), "PNG"), short_side=10))
    assert loaded.shape == (10, 30, 3)
    assert loaded.min() == 200


def test_box_is_cut_first_and_clamped() -> None:
    loaded = load_image(saved(picture(), "PNG"), box=(10, 20, 999, 999))
    assert np.array_equal(loaded, picture().crop((10, 20, 60, 40)))


def test_empty_box_is_refused() -> None:
    with pytest.raises(DataError, match="holds nothing of its 60 x 40 pixels"):
        load_image(saved(picture(), "PNG"), box=(100, 0, 200, 40))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_large_jpeg_shrunk_while_decoding_gives_the_same_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = picture(width=1201, height=803)
    jpeg, png = (saved(large, name, exif=exif) for name in ("JPEG", "PNG"))
    assert close(load_image(jpeg, short_side=64), load_image(png, short_side=64), tolerance=1.5)


@pytest.mark.parametrize("size", [(640, 480), (333, 1000), (7, 5), (2, 900), (256, 256)])
@pytest.mark.parametrize("box", [None, (1, 2, 300, 200)])
def test_stored_size_is_what_load_image_gives(
    size: tuple[int, int], box: tuple[int, int, int, int] | None
) -> None:
    data = saved(picture(0, *size), "PNG")
    assert load_image(data, box, 100).size == stored_size(*size, box, 100)


# Files that cannot be used


@pytest.mark.parametrize(
    ("status", "data", "reason"),
    [
        ("not_an_image", b"", "empty"),
        ("not_an_image", b"these are words", "not an image"),
        ("truncated", saved(picture(), "JPEG")[:-300], "ends in the middle"),
        ("truncated", saved(picture(), "PNG")[:-300], "ends in the middle"),
        ("too_large", png_header(30_000, 30_000), "100,000,000"),
        ("too_large", png_header(10_001, 10_000), "10,001 x 10,000"),
        ("too_large", png_header(60_000, 60_000, zlib.compress(bytes(10**6))), "100,000,000"),
        ("unreadable", png_header(30, 30, b"no zlib"), "damaged"),
        ("not_an_image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
    ],
)
def test_broken_files_are_facts_in_a_data_set_and_errors_alone(
    status: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"Cannot use .*broken.jpg: .*{reason}"):
        load_image(path)
    items = [Item(path, "a"), *write_pictures(tmp_path / "good", 1)]
    pixels = decode_all(items, tmp_path)
    assert (pixels.facts[0].status, pixels.facts[1].status) == (status, "ok")
    assert reason in pixels.facts[0].reason
    assert pixels.sizes.tolist()[0] == [0, 0]
    with pytest.raises(DataError, match=reason):
        pixels.image(0)
    assert pixels.image(1).shape == (20, 27, 3)
    warm = decode_all(items, tmp_path)
    assert warm.facts == pixels.facts


def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = [tmp_path / "missing.jpg", tmp_path, tmp_path / "pipe.jpg"]
    pixels = decode_all([Item(path, "a") for path in paths], tmp_path)
    assert [facts.status for facts in pixels.facts] == ["unreadable"] * 3
    assert [facts.sha256 for facts in pixels.facts] == [""] * 3


def test_a_huge_image_is_allowed_up_to_the_limit_without_warnings() -> None:
    # Pillow warns from 89 million pixels on; pytest turns warnings into errors.
    data = saved(Image.new("1", (10_000, 9_500)), "PNG")
    assert load_image(data, box=(0, 0, 8, 8)).size == (8, 8)


def test_warnings_work_again_after_many_threads(recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    before = list(warnings.filters)
    data = saved(picture(), "JPEG")
    threads = [
        threading.Thread(target=lambda: [load_image(data) for _ in range(30)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


# The cache


def test_pixels_and_facts_of_a_data_set(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "in a folder", 3)
    odd = tmp_path / "Ünï-日本 -x.JPG"
    picture(9, 100, 50).save(odd, "JPEG")
    items.append(Item(odd, "b", box=(0, 0, 50, 50)))
    pixels = decode_all(items, tmp_path)
    assert len(pixels) == 4
    for index, item in enumerate(items):
        assert np.array_equal(pixels.image(index), load_image(item.path, item.box, 20))
    facts = pixels.facts[3]
    assert (facts.width, facts.height, facts.mode, facts.format) == (100, 50, "RGB", "JPEG")
    assert len(facts.thumbnail) == THUMBNAIL**2
    assert not pixels.image(0).flags.writeable
    assert np.shares_memory(pixels.image(0), pixels.data)


def test_second_call_reads_what_the_first_has_written(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "a", 3)
    first = decode_all(items, tmp_path)
    file = tmp_path / "cache" / "pixels" / first.key / "pixels.u8"
    before = file.stat()
    second = decode_all(items, tmp_path)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert second.facts == first.facts
    assert np.array_equal(second.data, first.data)
    assert np.array_equal(second.sizes, first.sizes)


def test_key_depends_on_contents_box_and_size_but_not_on_names(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "a", 2)
    moved = write_pictures(tmp_path / "moved", 2)
    key = decode_all(items, tmp_path).key
    assert decode_all(moved, tmp_path).key == key
    assert decode_all(items, tmp_path, short_side=21).key != key
    assert decode_all([items[0], Item(items[1].path, "a", box=(0, 0, 9, 9))], tmp_path).key != key
    picture(77).save(items[1].path)
    assert decode_all(items, tmp_path).key != key


def test_a_use_renews_what_eviction_goes_by(tmp_path: Path) -> None:
    older, newer = write_pictures(tmp_path / "a", 2), write_pictures(tmp_path / "b", 3)
    keys = [decode_all(items, tmp_path).key for items in (older, newer)]
    for number, key in enumerate(keys):
        for file in (tmp_path / "cache" / "pixels" / key).iterdir():
            os.utime(file, (number, number))
    decode_all(older, tmp_path)
    left = tmp_path / "cache" / "pixels" / keys[0]
    evict(tmp_path / "cache", sum(file.stat().st_blocks * 512 for file in left.iterdir()))
    assert [p.name for p in (tmp_path / "cache" / "pixels").iterdir() if p.is_dir()] == [keys[0]]


def test_without_a_worker_nothing_is_begun(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-1 workers"):
        decode_dataset([], 20, tmp_path, workers=-1)


@pytest.mark.parametrize("damage", ["cut", "index"])
def test_damaged_cache_is_made_again(damage: str, tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "a", 2)
    first = decode_all(items, tmp_path)
    expected = first.image(1).copy()
    folder = tmp_path / "cache" / "pixels" / first.key
    if damage == "cut":
        (folder / "pixels.u8").write_bytes(b"")
    else:
        (folder / "index.json").write_text("{")
    assert np.array_equal(decode_all(items, tmp_path).image(1), expected)


def test_identical_pixels_have_one_hash_whatever_the_format(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.bmp", tmp_path / "c.png"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        picture(seed).save(path)
    facts = decode_all([Item(path, "a") for path in paths], tmp_path).facts
    assert facts[0].pixels == facts[1].pixels != facts[2].pixels
    assert facts[0].sha256 != facts[1].sha256


def test_processes_give_the_same_bytes_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_pictures(tmp_path / "a", 70)
    (tmp_path / "a" / "005.png").write_bytes(b"broken")
    several = decode_all(items, tmp_path, workers=2)
    monkeypatch.setattr(decode_pool, "_POOL_FROM", 1000)
    alone = decode_dataset(items, 20, tmp_path / "other")
    assert several.key == alone.key
    assert several.facts == alone.facts
    assert np.array_equal(several.data, alone.data)


def test_script_without_main_guard_can_decode_beside_torch(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", 70)
    script = tmp_path / "script.py"
    script.write_text(
        "import threading, time\n"
        "from pathlib import Path\n"
        "from headstart.data.decode import decode_dataset\n"
        "from headstart.data.types import Item\n"
        "print('started')\n"
        "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        f"paths = sorted(Path({str(tmp_path / 'a')!r}).iterdir())\n"
        "items = [Item(path, 'a') for path in paths]\n"
        f"print(len(decode_dataset(items, 20, Path({str(tmp_path / 'cache')!r}), workers=2)))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["started", "70"]
    assert done.stderr == ""


def test_workers_do_not_import_torch() -> None:
    code = (
        "import sys, headstart.data.decode_worker\n"
        "print(sorted({'torch', 'pydantic', 'scipy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_killed_worker_is_an_error_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = decode_pool._start_worker

    def start_and_kill(*arguments: object) -> subprocess.Popen[str]:
        process = start(*arguments)  # type: ignore[arg-type]
        process.kill()
        return process

    monkeypatch.setattr(decode_pool, "_start_worker", start_and_kill)
    items = write_pictures(tmp_path / "a", 70)
    with pytest.raises(HeadstartError, match=r"ended early \(exit code -9\).*memory ran out"):
        decode_all(items, tmp_path, workers=2)
    assert leftovers(tmp_path) == []


def leftovers(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "pixels").iterdir() if path.is_dir()]


def test_ctrl_c_leaves_no_temporary_folder(tmp_path: Path) -> None:
    class Interrupting:
        def track(self, items, description, total):  # type: ignore[no-untyped-def]
            for number, item in enumerate(items):
                if description == "Decoding images" and number == 20:
                    raise KeyboardInterrupt
                yield item

        def say(self, message: str) -> None:
            raise AssertionError(message)

    items = write_pictures(tmp_path / "a", 70)
    with pytest.raises(KeyboardInterrupt):
        decode_dataset(items, 20, tmp_path / "cache", workers=2, progress=Interrupting())
    assert leftovers(tmp_path) == []


def test_full_disk_names_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    items = write_pictures(tmp_path / "a", 2)
    with pytest.raises(
        DiskFullError, match=r"need \d,\d{3} bytes in .*cache.*, which has [\d.]+ [GM]B left"
    ) as caught:
        decode_all(items, tmp_path)
    assert caught.value.exit_code == 1
    assert leftovers(tmp_path) == []


def test_leftovers_of_dead_processes_are_removed_and_those_of_the_living_kept(
    tmp_path: Path,
) -> None:
    import fcntl

    folder = tmp_path / "cache" / "pixels"
    (folder / "dead.tmp").mkdir(parents=True)
    (folder / "alive.tmp").mkdir()
    with (folder / "alive.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = decode_all(write_pictures(tmp_path / "a", 2), tmp_path).key
        assert sorted(leftovers(tmp_path)) == sorted(["alive.tmp", key])


def test_two_at_once_both_end_well(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "a", 70)
    results: list[Pixels] = []
    threads = [
        threading.Thread(target=lambda: results.append(decode_all(items, tmp_path, workers=1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0].facts == results[1].facts
    assert np.array_equal(results[0].data, results[1].data)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none/headstart"])
def test_an_unwritable_cache_names_the_folder_and_the_way_out(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    items = write_pictures(tmp_path / "a", 2)
    with pytest.raises(InputError, match=f"{place}: .* Set HEADSTART_CACHE to a folder"):
        decode_dataset(items, 20, tmp_path / place)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EBADF])
def test_decoding_without_locks_of_the_system(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    items = write_pictures(tmp_path / "a", 2)
    pixels = decode_all(items, tmp_path)
    assert sorted(leftovers(tmp_path)) == [pixels.key]  # and no lock file


def test_a_file_of_the_same_size_and_time_with_other_bytes_is_decoded_anew(tmp_path: Path) -> None:
    items = write_pictures(tmp_path / "a", 2)
    path = items[0].path
    plain = Image.new("RGB", (60, 40), "red")
    plain.save(path, "BMP")
    before, status = decode_all(items, tmp_path), path.stat()
    Image.new("RGB", (60, 40), "lime").save(path, "BMP")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    after = decode_all(items, tmp_path)
    assert tuple(before.image(0)[0, 0]) == (255, 0, 0)
    assert tuple(after.image(0)[0, 0]) == (0, 255, 0)


def test_every_fact_that_is_stored_is_read_again() -> None:
    from dataclasses import fields

    from headstart.data import pixels

    kept = {each.name for each in fields(pixels.Facts)} - {"thumbnail"}  # in a file of its own
    assert kept == set(pixels._Facts.model_fields)
