"""How large the environment is that `pip install ".[demo]"` makes, without pip itself.

    python benchmarks/environment_size.py

adds up the blocks on the disk of all files of the packages that this project needs, as they are
installed beside the running Python: all of them; without what is for CUDA alone, as with PyTorch's
CPU wheels; and the latter without compiled modules (`pip install --no-compile`), which Python
compiles when it first imports them.
"""

import argparse
import json
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
FOR_CUDA = ("nvidia-", "cuda-", "triton")
CUDA_LIBRARIES = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libcaffe2_nvrtc")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    whole, cuda, compiled = 0, 0, 0
    names = needed()
    for name in names:
        for path, size in files(name):
            whole += size
            if name.startswith(FOR_CUDA) or path.name.startswith(CUDA_LIBRARIES):
                cuda += size
            elif path.suffix == ".pyc":
                compiled += size
    print(
        json.dumps(
            {
                "packages": len(names),
                "GB": round(whole / 1e9, 2),
                "GB without CUDA": round((whole - cuda) / 1e9, 2),
                "GB without CUDA and compiled modules": round((whole - cuda - compiled) / 1e9, 2),
            }
        )
    )


def needed() -> set[str]:
    """Returns the names of all packages that the project needs with the extra `demo`."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    found = set[str]()
    while waiting:
        wanted = Requirement(waiting.pop())
        name = wanted.name.lower().replace("_", "-")
        if name not in found:
            found.add(name)
            waiting += [
                each
                for each in metadata.requires(wanted.name) or []
                if (marker := Requirement(each).marker) is None
                or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
            ]
    return found


def files(name: str) -> Iterator[tuple[Path, int]]:
    """Yields the files of an installed package, with their bytes on the disk."""
    for each in metadata.files(name) or []:
        path = Path(str(each.locate()))
        if path.is_file():
            yield path, path.lstat().st_blocks * 512


if __name__ == "__main__":
    main()
