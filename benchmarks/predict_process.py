"""What `headstart predict RUN IMAGE` takes, beside an older version and a bare script.

    python benchmarks/predict_process.py --run RUN --image IMAGE --old-run OLD --old-source OLD/src

runs whole processes in turn, `--pairs` times: this version, the lines of `docs/bundle.md`, which
import NumPy, Pillow and ONNX Runtime alone and run the same `model.onnx`, and the older version
with a run of its own. It prints the median of seconds, of the seconds that processors worked, and
of peak resident memory, and the ratios of each round. Nothing else should run on the machine; if
something does, the seconds that processors worked are disturbed least.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "bundle.md"


STARTER = """
import json, os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
started = time.monotonic()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
seconds = time.monotonic() - started
if status:
    sys.exit(f"{sys.argv[1:]} failed.")
worked = usage.ru_utime + usage.ru_stime
taken = {"seconds": seconds, "megabytes": usage.ru_maxrss * 1024 / 1e6, "worked": worked}
print(json.dumps(taken))
"""


@dataclass(frozen=True)
class Taken:
    """What one process took.

    Attributes:
        seconds: From its start to its end.
        megabytes: 10^6 bytes at its peak.
        worked: Seconds that processors worked for it, which other work on the machine spares.
    """

    seconds: float
    megabytes: float
    worked: float = 0.0


def measured(command: Sequence[str], environment: Mapping[str, str]) -> Taken:
    """Runs a command without showing its output; raises CalledProcessError if it fails.

    A small process starts it: Linux counts the memory of the process that starts another as the
    peak of that one, too.
    """
    done = subprocess.run(
        [sys.executable, "-c", STARTER, *command],
        env={**os.environ, **environment}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Taken(**json.loads(done.stdout))


def bare_lines(page: str) -> str:
    """Returns the first program on the page."""
    return page.split("```python\n")[1].split("```", maxsplit=1)[0]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Returns the median and range of the ratios of pairs.

    Example:
        >>> ratios([2.0, 4.0, 2.0], [1.0, 1.0, 4.0])
        '2.00 (0.50 to 4.00)'
    """
    each = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    return f"{median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder of this version")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--old-run", type=Path, help="run folder of the older version")
    parser.add_argument("--old-source", type=Path, help="folder `src` of the older version")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    predict = [sys.executable, "-m", "headstart", "predict"]
    image, source = str(args.image), str(HERE.parent / "src")
    graph = str(args.run / "bundle" / "model.onnx")
    bare = [sys.executable, "-c", bare_lines(PAGE.read_text(encoding="utf-8")), graph, image]
    commands: dict[str, tuple[list[str], dict[str, str]]] = {
        "this version": ([*predict, str(args.run), image], {"PYTHONPATH": source}),
        "bare script": (bare, {"PYTHONPATH": ""}),
    }
    if args.old_run:
        old = [*predict, str(args.old_run), image]
        commands["older version"] = (old, {"PYTHONPATH": str(args.old_source)})
    taken: dict[str, list[Taken]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as compiled:  # as an installed package is
        cache = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
        for _ in range(args.pairs + 1):
            for name, (command, environment) in commands.items():
                taken[name].append(measured(command, {**environment, **cache}))
    taken = {name: each[1:] for name, each in taken.items()}  # the first round filled the caches
    ours = taken["this version"]
    for name, each in taken.items():
        seconds, megabytes = [t.seconds for t in each], [t.megabytes for t in each]
        worked = [t.worked for t in each]
        print(
            json.dumps(
                {
                    "what": name,
                    "seconds": round(median(seconds), 3),
                    "processor seconds": round(median(worked), 3),
                    "MB": round(median(megabytes), 1),
                    "seconds over ours": ratios(seconds, [t.seconds for t in ours]),
                    "processor seconds over ours": ratios(worked, [t.worked for t in ours]),
                    "MB over ours": ratios(megabytes, [t.megabytes for t in ours]),
                }
            )
        )


if __name__ == "__main__":
    main()
