"""Memory of decoding: bounded by bytes, and a lack of it costs the image that lacks it alone."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from headstart.data import decode_pool, images
from headstart.data.decode import decode_dataset
from headstart.data.decode_pool import DecodeJob
from headstart.data.images import load_image, read_header
from headstart.data.memory import (
    VARIABLE,
    MemoryGate,
    available_memory,
    decoding_gate,
    left_in_groups,
)
from headstart.data.types import Item
from headstart.errors import DataError, HeadstartError, InputError


@pytest.fixture(autouse=True)
def _own_gate() -> Iterator[None]:
    decoding_gate.cache_clear()
    yield
    decoding_gate.cache_clear()


def noise(side: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = np.random.default_rng(0).integers(0, 256, (20, 20, channels), dtype=np.uint8)
    return np.kron(coarse, np.ones((side // 20, side // 20, 1), np.uint8))


def written(kind: str, path: Path, side: int = 2000) -> Path:
    grey = noise(side, 1)[..., 0]
    if kind == "float TIFF":
        Image.fromarray(grey.astype(np.float32) / 3).save(path, "TIFF")
    elif kind == "RGBA PNG":
        Image.fromarray(noise(side, 4)).save(path, "PNG", compress_level=1)
    elif kind == "16-bit PNG":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path, "PNG", compress_level=1)
    else:
        Image.fromarray(noise(side, 3)).save(path, "JPEG", progressive=True, subsampling=0)
    return path


PEAK = """
import sys
from pathlib import Path
from headstart.data.images import load_image, read_header
from headstart.data.reading import EACH

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

path = Path(sys.argv[1])
header = read_header(path, EACH, None, 224)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
load_image(path, None, 224, EACH)
print(status("VmHWM") - before, header.memory)
"""


KEPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from headstart.data.images import load_image
from headstart.data.reading import EACH

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

path = Path(sys.argv[1])
pools = [ThreadPoolExecutor(1) for _ in range(4)]
load_image(path, None, 224, EACH)
before = resident()
for pool in pools * 2:
    pool.submit(load_image, path, None, 224, EACH).result()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["float TIFF", "RGBA PNG", "16-bit PNG"])
def test_threads_that_decoded_keep_no_memory(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path / "image", 4000)
    done = subprocess.run(
        [sys.executable, "-c", KEPT, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40e6  # an image has 64 MB; kept by four threads it was 200 MB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["float TIFF", "RGBA PNG", "16-bit PNG", "progressive JPEG"])
def test_decoding_takes_no_more_than_the_header_foretells(kind: str, tmp_path: Path) -> None:
    path = written(kind, tmp_path / "image")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    used, foretold = map(int, done.stdout.split())
    assert 0 < used <= foretold + 4e6  # what the first decoding of a process loads
    assert foretold <= 26 * 2000 * 2000


def test_the_gate_lets_in_what_fits_in_the_order_of_coming() -> None:
    gate = MemoryGate(10)
    inside: list[str] = []
    seen: list[list[str]] = []
    leave = {name: threading.Event() for name in "abcd"}

    def go(name: str, needed: int) -> None:
        with gate.holding(needed):
            inside.append(name)
            seen.append(sorted(inside))
            leave[name].wait(30)
            inside.remove(name)

    def start(name: str, needed: int) -> threading.Thread:
        thread = threading.Thread(target=go, args=(name, needed))
        thread.start()
        time.sleep(0.05)
        return thread

    threads = [start("a", 6), start("b", 4), start("c", 99), start("d", 1)]
    assert inside == ["a", "b"]  # c is too large for company, and d came after it
    for name in "abcd":
        leave[name].set()
        time.sleep(0.05)
    for thread in threads:
        thread.join(30)
    assert ["c"] in seen
    assert not any("c" in together and len(together) > 1 for together in seen)


@pytest.mark.parametrize("kind", ["float TIFF", "RGBA PNG", "16-bit PNG"])
@pytest.mark.parametrize("fit", [1, 2])
def test_threads_decode_as_many_images_at_once_as_fit(
    kind: str, fit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(kind, tmp_path / "image", 200)
    needed = read_header(path, images.Reading(), None, 64).memory
    monkeypatch.setenv(VARIABLE, str((fit + 0.5) * needed / 1e9))
    decode, inside, most, lock = images._decoded, [0], [0], threading.Lock()

    def counted(*arguments: Any) -> Any:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        result = decode(*arguments)
        with lock:
            inside[0] -= 1
        return result

    monkeypatch.setattr(images, "_decoded", counted)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: load_image(path, None, 64), range(12)))
    assert most == [fit]


@pytest.mark.parametrize("kind", ["float TIFF", "RGBA PNG", "16-bit PNG"])
def test_an_image_beyond_the_whole_limit_is_left_out_until_the_limit_is_raised(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = written(kind, tmp_path / "large", 400), tmp_path / "small.png"
    Image.fromarray(noise(60, 3)).save(small)
    items = [Item(large, "a"), Item(small, "a")]
    monkeypatch.setenv(VARIABLE, "0.001")
    for _ in range(2):
        facts = decode_dataset(items, 32, tmp_path / "cache").facts
        assert [each.status for each in facts] == ["no_memory", "ok"]
        assert VARIABLE in facts[0].reason
    with pytest.raises(DataError, match=rf"takes about 0\.00\d+ GB.*0\.001 GB: set {VARIABLE}"):
        load_image(large)
    decoding_gate.cache_clear()
    monkeypatch.setenv(VARIABLE, "1")
    facts = decode_dataset(items, 32, tmp_path / "cache").facts
    assert [each.status for each in facts] == ["ok", "ok"]


@pytest.mark.parametrize("failures", [1, 2])
def test_what_runs_out_of_memory_is_tried_alone_and_then_left_out(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(noise(40 + 20 * number, 3)).save(path)
    decode, left = images._decoded, [failures]

    def without_memory(opened: Any, *rest: Any) -> Any:
        if opened.header.width == 60 and left[0]:
            left[0] -= 1
            raise MemoryError
        return decode(opened, *rest)

    monkeypatch.setattr(images, "_decoded", without_memory)
    items = [Item(path, "a") for path in paths]
    facts = decode_dataset(items, 32, tmp_path / "cache").facts
    expected = "ok" if failures == 1 else "no_memory"
    assert [each.status for each in facts] == ["ok", expected, "ok"]
    # A lack of memory is not kept: the images are good.
    facts = decode_dataset(items, 32, tmp_path / "cache").facts
    assert [each.status for each in facts] == ["ok"] * 3


def test_bytes_that_run_out_of_memory_are_the_error_of_their_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_memory(*_: Any) -> Any:
        raise MemoryError

    stream = io.BytesIO()
    Image.fromarray(noise(40, 3)).save(stream, "PNG")
    monkeypatch.setattr(images, "_decoded", without_memory)
    with pytest.raises(DataError, match=r"not enough memory to decode it, .*close other programs"):
        load_image(stream.getvalue())


DEADLY = """
import os, signal, headstart.data.decode_worker as worker
decode = worker.decode_job
def deadly(job, *rest):
    if "deadly" in job.path and not os.path.exists(job.path + ".once"):
        if "deadly_once" in job.path:
            open(job.path + ".once", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(job, *rest)
worker.decode_job = deadly
worker.main()
"""


@pytest.mark.parametrize("name", ["deadly", "deadly_once"])
def test_an_image_that_ends_its_process_takes_no_good_one_along(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def start(program: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", DEADLY, *program[4:]], **options)

    items = []
    for number in range(70):
        path = tmp_path / (f"{name}.png" if number == 20 else f"{number}.png")
        Image.fromarray(noise(40, 3) // (1 + number)).save(path)
        items.append(Item(path, "a"))
    monkeypatch.setattr(decode_pool.subprocess, "Popen", start)
    facts = decode_dataset(items, 32, tmp_path / "cache", workers=2).facts
    bad = [(items[row].path.stem, each.reason) for row, each in enumerate(facts) if each.reason]
    if name == "deadly_once":
        assert bad == []
    else:
        assert [stem for stem, _ in bad] == ["deadly"]
        assert "ended twice (exit code -9)" in bad[0][1]


def test_a_large_image_is_a_chunk_by_itself() -> None:
    jobs = [DecodeJob(row, "", None, 0, 1, 1, 900 if row == 3 else 10) for row in range(20)]
    chunks = decode_pool._in_chunks(jobs, 500)
    assert [[job.index for job in chunk] for chunk in chunks] == [
        [3],
        [0, 1, 2, *range(4, 17)],
        [17, 18, 19],
    ]


@pytest.mark.parametrize("wrong", ["much", "-1", "0", "inf", "nan"])
def test_a_limit_that_is_no_number_of_gigabytes_is_named(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, wrong)
    path = written("RGBA PNG", tmp_path / "image", 20)
    with pytest.raises(InputError, match=f"{VARIABLE} is '{wrong}'"):
        load_image(path)
    with pytest.raises(HeadstartError, match=VARIABLE):
        decode_dataset([Item(path, "a")], 32, tmp_path / "cache")


@pytest.mark.parametrize(
    ("line", "folder", "names", "stat"),
    [
        ("0::/a/b", "a", ("memory.max", "memory.current"), "active_file 1\ninactive_file 2\n"),
        (
            "4:memory:/a/b",
            "memory/a",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "active_file 7\ntotal_active_file 1\ntotal_inactive_file 2\n",
        ),
    ],
)
def test_control_groups_limit_memory(
    line: str, folder: str, names: tuple[str, str], stat: str, tmp_path: Path
) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text(f"3:cpuset:/elsewhere\n{line}\n")
    (tmp_path / folder / "b").mkdir(parents=True)
    for path, limit in ((tmp_path / folder, "1000\n"), (tmp_path / folder / "b", "max\n")):
        (path / names[0]).write_text(limit if "max" in names[0] else "1000\n")
        (path / names[1]).write_text("300\n")
        (path / "memory.stat").write_text(stat)
    assert set(left_in_groups(groups, tmp_path)) == {703}
    assert left_in_groups(tmp_path / "none", tmp_path) == []


def test_free_memory_is_what_the_system_states(tmp_path: Path) -> None:
    stated = tmp_path / "meminfo"
    stated.write_text("MemTotal:  900 kB\nMemAvailable:  700 kB\nSwapFree:  1 kB\n")
    assert available_memory(stated) == 700 * 1024
    stated.write_text("MemTotal:  900 kB\n")
    for silent in (stated, tmp_path / "none"):
        assert 0 < available_memory(silent) <= psutil.virtual_memory().total
