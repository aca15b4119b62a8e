"""The wheel that `make dist` builds holds the whole package, and works where only it is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FINISHED = Path(__file__).parent / "fixtures" / "run_6dddef2" / "finished"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("headstart-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix() for path in found}


def test_it_holds_the_package_and_nothing_else(unpacked: Path) -> None:
    assert files_below(unpacked / "headstart") == files_below(ROOT / "src" / "headstart")
    (about,) = (path.name for path in unpacked.iterdir() if path.name != "headstart")
    assert about.endswith(".dist-info")
    known = (unpacked / about / "METADATA").read_text(encoding="utf-8")
    assert "# headstart" in known  # the description is the README
    (unpacked / about / "licenses" / "LICENSE").read_text(encoding="utf-8")


def test_what_it_installs_draws_a_report_and_has_its_pages(unpacked: Path, tmp_path: Path) -> None:
    code = f"""
import shutil, sys
import headstart
from headstart.webpage.pages import service_page
assert headstart.__file__.startswith({str(unpacked)!r}), headstart.__file__
shutil.copytree({str(FINISHED)!r}, "run")
print(headstart.report("run").stat().st_size, len(service_page()[0]))
sys.argv[1:] = ["--version"]
from headstart.__main__ import main
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    sizes, version = done.stdout.splitlines()
    assert min(map(int, sizes.split())) > 10_000
    assert version.startswith("headstart ")


def test_the_command_is_that_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"headstart": "headstart.__main__:main"}
