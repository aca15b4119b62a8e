"""Commands that are killed, starved, fed with damaged files and disturbed must lose nothing.

    python benchmarks/torture.py --minutes 30
    python benchmarks/torture.py --short

Everything is drawn from `--seed`. A kill meets a command at a moment drawn uniformly from the time
that it takes undisturbed; then it is continued, and must end with the bytes of the undisturbed one.
Full disks are small file systems of memory in a mount namespace of this program; where the
system does not allow that, no file may grow beyond a limit instead. Prints for each kind what was
tried and survived, and ends with exit code 1 if anything was lost, wrong or hung. The commands run
in forks of one process that has imported everything once.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from _disturbed import (
    RESULT,
    SMALL,
    TINY,
    World,
    damaged_cache,
    full_disk,
    kill_fit,
    kill_predict,
    kill_study,
    lost_worker,
    mutants,
    read_only_places,
    same,
    study,
    two_at_once,
)
from _torture import (
    MARK,
    MOUNTS,
    Ended,
    begin,
    preload,
    strays,
    write_pictures,
)


def whole_runs(world: World, studies: list[str]) -> tuple[dict[str, Path], dict[str, float], Ended]:
    """Every command once, undisturbed: its result and its seconds."""
    wholes, seconds = {}, {}
    wholes["fit"] = world.root / "whole_fit"
    world.run("fit", world.pictures, *world.search, "--out", world.root / "first")
    for name in ("fit", *studies):
        wholes[name] = world.root / f"whole_{name}"
        command = study(world, name, wholes[name]) if name in RESULT else [
            "fit", world.pictures, *world.search, "--out", wholes[name]
        ]  # fmt: skip
        ended = world.run(*command)
        if ended.problems(0):
            sys.exit(f"{name} failed undisturbed: {ended.problems(0)} {ended.err}")
        seconds[name] = ended.seconds
        print(f"undisturbed {name}: {ended.seconds:.1f} s", flush=True)
    expected = world.run("predict", wholes["fit"], world.pictures, "--csv")
    if expected.problems(0):
        sys.exit(f"predict failed undisturbed: {expected.err}")
    world.count("cold and warm cache", same(world.root / "first", wholes["fit"]))
    return wholes, seconds, expected


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def torture(world: World, args: argparse.Namespace) -> None:
    short = bool(args.short)
    wholes, seconds, expected = whole_runs(world, [] if short else [*RESULT])
    whole = wholes["fit"]
    sizes = {
        "cache": size_of(world.root / "cache"),
        "run folder": size_of(whole),
        "TMPDIR": 1 << 20,
    }
    kills = 1 if short else 4

    def disks() -> None:
        for where in sizes:
            full_disk(world, where, whole, sizes, inodes=False)
            if world.mounts:
                full_disk(world, where, whole, sizes, inodes=True)

    def caches() -> None:
        for how in ("cut", "flipped"):
            damaged_cache(world, whole, how, every=True)
            damaged_cache(world, whole, how, every=False)

    def workers() -> None:
        lost_worker(world, "worker killed: decoding", [], "decode_worker", whole)
        processes = ["--executor", "processes", "--jobs", "2"]
        lost_worker(world, "worker killed: trial", processes, "headstart", whole)

    def ray() -> None:
        if find_spec("ray") is not None:
            lost_worker(world, "Ray's node lost", ["--executor", "ray"], "raylet", whole)

    def kill_all() -> None:
        kill_predict(world, whole, expected, kills)
        kill_fit(world, whole, seconds["fit"], kills)
        for name in RESULT:
            kill_study(world, name, wholes[name], seconds[name], kills)

    once: list[Callable[[], None]] = [
        lambda: mutants(world, whole, args.images), kill_all, kill_all,
        lambda: read_only_places(world, whole), kill_all, disks, caches, kill_all,
        lambda: two_at_once(world, whole), kill_all, workers, ray,
    ]  # fmt: skip
    if short:
        disk = world.dice.choice(sorted(sizes))
        once = [
            lambda: mutants(world, whole, args.images),
            lambda: full_disk(world, disk, whole, sizes, inodes=False),
            lambda: damaged_cache(world, whole, "cut", every=True),
            lambda: kill_predict(world, whole, expected, kills),
            lambda: kill_fit(world, whole, seconds["fit"], kills),
        ]
    began = time.monotonic()
    for step in once:
        step()
        _progress(world, began)
    if short:
        return
    more = [*[kill_all] * 5, disks, caches, workers]
    number = 0
    while time.monotonic() - began < 60 * args.minutes:
        more[number % len(more)]()
        number += 1
        _progress(world, began)


def _progress(world: World, began: float) -> None:
    tried, survived = sum(world.tried.values()), sum(world.survived.values())
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.0f} min: {kills_of(world)} kills, {survived:,} of {tried:,}", flush=True)


def kills_of(world: World) -> int:
    return sum(n for kind, n in world.tried.items() if kind.split(": ")[-1].startswith("SIG"))


def table(world: World) -> str:
    lines = ["| kind | tried | survived |", "|-|-|-|"]
    lines += [
        f"| {kind} | {world.tried[kind]:,} | {world.survived[kind]:,} |"
        for kind in sorted(world.tried)
    ]
    return "\n".join(lines)


def main() -> None:
    args = _options()
    if MARK not in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        begin(Path(tempfile.mkdtemp(prefix="torture-", dir=args.work)).resolve())
    root, mounts = Path(os.environ[MARK]), bool(os.environ[MOUNTS])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    preload()
    trials, each, settings = (1, 12, TINY) if args.short else (2, 24, SMALL)
    world = World(root, random.Random(args.seed), args.timeout, mounts, trials, settings)
    try:
        write_pictures(world.pictures, each)
        (root / "tmp").mkdir()
        torture(world, args)
    except KeyboardInterrupt:
        print("Interrupted: the table has what was tried until then.")
    finally:
        for process in strays(str(root), patience=0):
            process.kill()
        shutil.rmtree(root, ignore_errors=True)
    print(table(world))
    tried, survived = sum(world.tried.values()), sum(world.survived.values())
    disks = "small disks" if mounts else "limits on files"
    print(
        f"\n{kills_of(world)} kills; {survived:,} of {tried:,} survived; seed {args.seed}; {disks}"
    )
    if args.table:
        args.table.write_text(table(world) + "\n")
    for fault in world.faults:
        print(f"FAULT {fault}")
    sys.exit(1 if world.faults else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--short", action="store_true", help="a minute, for the tests")
    parser.add_argument("--images", type=int, default=1000, help="damaged images")
    parser.add_argument("--timeout", type=float, default=300, help="seconds until a command hangs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for everything")
    parser.add_argument("--table", type=Path, help="file for the table, as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
