"""Commands that are killed, starved and disturbed, each beside the same one undisturbed."""

import csv
import hashlib
import io
import json
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from _torture import (
    CLASSES,
    FORMATS,
    Command,
    Ended,
    encoded,
    mutated,
    picture,
    read_only,
    small_disk,
    strays,
    unmount,
    write_pictures,
)

SMALL = ("backbone.resolution=64",)
TINY = (*SMALL, "backbone.name=test_efficientnet", "backbone.weights=random")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ROOM = 400 << 20


@dataclass
class World:
    """The place of all work, the dice, and the counts.

    Attributes:
        root: Folder for everything.
        dice: Source of every choice.
        timeout: Seconds after which a command hangs.
        mounts: Whether small disks can be mounted.
        trials: Length of the searches.
        settings: Settings of every recipe.
    """

    root: Path
    dice: random.Random
    timeout: float
    mounts: bool
    trials: int = 2
    settings: tuple[str, ...] = SMALL
    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    number: int = 0

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def search(self) -> list[str]:
        """Options of a fit that searches."""
        return ["--trials", str(self.trials), "--epochs", "1", *self.small]

    @property
    def small(self) -> list[str]:
        """Options of everything that trains."""
        return [part for each in self.settings for part in ("--set", each)]

    def new(self, name: str) -> Path:
        self.number += 1
        return self.root / f"{name}{self.number}"

    def start(self, *arguments: object, largest: int | None = None, **places: Path) -> Command:
        environment = {
            "HEADSTART_CACHE": str(places.get("cache", self.root / "cache")),
            "TMPDIR": str(places.get("tmp", self.root / "tmp")),
        }
        return Command([str(each) for each in arguments], environment, largest)

    def run(self, *arguments: object, **options: Any) -> Ended:
        return self.start(*arguments, **options).ended(self.timeout)

    def count(self, kind: str, problems: list[str], times: int = 1) -> None:
        """Counts what was tried, and says at once what did not survive."""
        left = strays(str(self.root))
        for process in left:
            problems = [*problems, f"left a process: {' '.join(process.cmdline())[:100]}"]
            process.kill()
        self.tried[kind] += times
        self.survived[kind] += 0 if problems else times
        for problem in problems:
            self.faults.append(f"{kind}: {problem}")
            print(f"FAULT {kind}: {problem}", flush=True)


def digest(run: Path) -> str:
    """Hash of what a run must end with: the network, the recipe and the predictions."""
    names = ("bundle/model.safetensors", "recipe.toml", "predictions.csv")
    data = b"".join((run / name).read_bytes() for name in names if (run / name).exists())
    return hashlib.sha256(data).hexdigest()


def same(run: Path, whole: Path) -> list[str]:
    if not (run / "bundle" / "model.safetensors").exists():
        return ["the run has no network"]
    return [] if digest(run) == digest(whole) else ["the result is not that of the whole run"]


def rows_of(folder: Path, name: str) -> object:
    """What compare and benefit found, without times."""

    def timeless(value: object) -> object:
        if isinstance(value, dict):
            return {
                k: timeless(v) for k, v in value.items() if "second" not in k and k not in _TIMES
            }
        return [timeless(each) for each in value] if isinstance(value, list) else value

    return timeless(json.loads((folder / name).read_text()))


_TIMES = {"command", "machine", "spent", "started_at", "finished_at"}


def continued(run: Path, command: list[object]) -> list[object]:
    """The command that continues a run; what stopped before its search began is begun again."""
    if (run / "search.toml").exists():
        return ["resume", run]
    shutil.rmtree(run, ignore_errors=True)
    return command


def status(run: Path) -> str:
    try:
        return str(json.loads((run / "run.json").read_text())["status"])
    except (OSError, ValueError, KeyError):
        return ""


def kill(
    world: World, kind: str, command: list[object], moment: float, name: signal.Signals
) -> bool:
    """Kills a command at a moment; returns False if it had ended before."""
    process = world.start(*command)
    time.sleep(moment)
    alive = process.running()
    if alive:
        process.kill(name)
    ended = process.ended(world.timeout)
    # What comes in the last moments may still end well, or say that it was interrupted.
    problems = ended.problems(0, -name, 130, 128 + name)
    if alive or problems:
        world.count(f"{kind}: {name.name}", problems)
    return alive


def kill_fit(world: World, whole: Path, seconds: float, kills: int) -> None:
    run = world.new("fit")
    command: list[object] = ["fit", world.pictures, *world.search, "--out", run]
    for _ in range(kills):
        name = world.dice.choice(SIGNALS)
        asked = continued(run, command)
        # A resumed run has less to do.
        most = seconds * (0.95 if asked is command else 0.6)
        kill(world, "fit", asked, world.dice.uniform(0, most), name)
        if status(run) == "done":
            break
    problems = []
    if status(run) != "done":
        problems = world.run(*continued(run, command)).problems(0)
    drafts = [str(path) for path in (world.root / "cache").glob("*/.draft-*")]
    problems += same(run, whole) + [f"left {path}" for path in drafts]
    world.count("fit: continued after kills", problems)
    shutil.rmtree(run, ignore_errors=True)


def kill_study(world: World, name: str, whole: Path, seconds: float, kills: int) -> None:
    """Kills compare or benefit, repeats the command, and compares what they found."""
    out = world.new(name)
    command = study(world, name, out)
    for _ in range(kills):
        if not kill(
            world, name, command, world.dice.uniform(0, 0.9 * seconds), world.dice.choice(SIGNALS)
        ):
            break
    problems = world.run(*command).problems(0)
    if not problems and rows_of(out, RESULT[name]) != rows_of(whole, RESULT[name]):
        problems = ["the result is not that of the whole command"]
    world.count(f"{name}: continued after kills", problems)
    shutil.rmtree(out, ignore_errors=True)


RESULT = {"compare": "ledger.json", "benefit": "certificate.json"}


def study(world: World, name: str, out: Path) -> list[object]:
    if name == "compare":
        chosen = ["--recipe", "naive", "--set", "optimizer=adam", "--epochs", "1", *world.small]
        return ["compare", world.pictures, *chosen, "--out", out]
    few = ["--epochs", "1", "--seeds", "1", "--fractions", "0.5,1", "--resolution", "64"]
    return ["benefit", world.pictures, *few, "--out", out]


def kill_predict(world: World, run: Path, expected: Ended, kills: int) -> None:
    command: list[object] = ["predict", run, world.pictures, "--csv"]
    for _ in range(kills):
        process, name = world.start(*command), world.dice.choice(SIGNALS)
        time.sleep(world.dice.uniform(0, 0.95 * expected.seconds))
        if process.running():
            process.kill(name)
        ended = process.ended(world.timeout)
        problems = ended.problems(0, -name, 130, 128 + name)
        if not expected.out.startswith(ended.out):
            problems.append("what was written is no part of the whole output")
        world.count(f"predict: {name.name}", problems)
    again = world.run(*command)
    wrong = [] if again.out == expected.out else ["other rows than before the kills"]
    world.count("predict: repeated after kills", again.problems(0) + wrong)


def full_disk(world: World, where: str, whole: Path, sizes: dict[str, int], inodes: bool) -> None:
    """Fits on a disk that is too small, then makes room and continues."""
    kind = f"{'no inodes left' if inodes else 'full disk'}: {where}"
    disk = world.new("disk")
    run = (disk if where == "run folder" else world.root) / world.new("starved").name
    options: dict[str, object] = {}
    if where == "cache":
        options["cache"] = disk
    elif where == "TMPDIR":
        options["tmp"] = disk
    command: list[object] = ["fit", world.pictures, *world.search, "--out", run]
    if not world.mounts:
        disk.mkdir()
        options["largest"] = world.dice.randint(0, sizes[where])
    else:
        size = ROOM if inodes else world.dice.randint(0, sizes[where])
        small_disk(disk, size, world.dice.randint(3, 40) if inodes else 100_000)
    try:
        problems = world.run(*command, **options).problems(0, 1, 2)
        options.pop("largest", None)
        if world.mounts:
            small_disk(disk, ROOM)
        if status(run) != "done":
            problems += world.run(*continued(run, command), **options).problems(0)
        world.count(kind, problems + same(run, whole))
    finally:
        if world.mounts:
            unmount(disk)
        shutil.rmtree(run, ignore_errors=True)


def read_only_places(world: World, whole: Path) -> None:
    """Fits where the cache, the run folder or TMPDIR cannot be written to."""
    if not world.mounts:
        return
    for where in ("cold cache", "warm cache", "run folder", "TMPDIR", "images"):
        place, run = world.new("fixed"), world.new("run")
        pictures, options = world.pictures, {}
        if where == "warm cache":
            shutil.copytree(world.root / "cache", place)
        elif where == "images":
            shutil.copytree(pictures, place)
            pictures = place
        else:
            place.mkdir()
        if where == "run folder":
            run = place / "run"
        elif where == "TMPDIR":
            options["tmp"] = place
        elif "cache" in where:
            options["cache"] = place
        read_only(place)
        try:
            ended = world.run("fit", pictures, *world.search, "--out", run, **options)
            refused = where in ("cold cache", "run folder")
            problems = ended.problems(2 if refused else 0)
            if not refused and not problems:
                problems = same(run, whole)
            world.count(f"read-only: {where}", problems)
        finally:
            unmount(place)


def damaged_cache(world: World, whole: Path, how: str, every: bool) -> None:
    """Fits with a warm cache in which files were cut or changed."""
    cache, run = world.new("damaged"), world.new("run")
    shutil.copytree(world.root / "cache", cache)
    files = sorted(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size)
    for path in files if every else [world.dice.choice(files)]:
        data = bytearray(path.read_bytes())
        place = world.dice.randrange(len(data))
        if how == "cut":
            del data[place:]
        else:
            data[place] ^= 1 << world.dice.randrange(8)
        path.write_bytes(data)
    ended = world.run("fit", world.pictures, *world.search, "--out", run, cache=cache)
    problems = ended.problems(0)
    problems = problems or same(run, whole)
    world.count(f"cache {how}: {'every file' if every else 'one file'}", problems)
    shutil.rmtree(cache)
    shutil.rmtree(run, ignore_errors=True)


def two_at_once(world: World, whole: Path) -> None:
    cache, runs = world.new("shared"), [world.new("one"), world.new("other")]
    commands = [["fit", world.pictures, *world.search, "--out", run] for run in runs]
    both = [world.start(*command, cache=cache) for command in commands]
    problems = []
    for process, run in zip(both, runs, strict=True):
        found = process.ended(2 * world.timeout).problems(0)
        problems += found or same(run, whole)
    world.count("two processes: one cache", problems)
    run = world.new("contended")
    command = ["fit", world.pictures, *world.search, "--out", run]
    both = [world.start(*command) for _ in range(2)]
    ended = [process.ended(2 * world.timeout) for process in both]
    codes = sorted(each.code if each.code is not None else 99 for each in ended)
    problems = [found for each in ended for found in each.problems(0, 2)]
    problems += [] if codes == [0, 2] else [f"exit codes {codes} instead of 0 and 2"]
    world.count("two processes: one run", problems or same(run, whole))


def lost_worker(world: World, kind: str, options: list[str], name: str, whole: Path) -> None:
    """Kills a process that a command started, once it is there."""
    run, cache = world.new("worker"), world.new("cache")
    process = world.start("fit", world.pictures, *world.search, *options, "--out", run, cache=cache)
    deadline, victim = time.monotonic() + world.timeout, None
    while victim is None and process.running() and time.monotonic() < deadline:
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            victim = next((c for c in children if name in " ".join(c.cmdline())), None)
        except psutil.Error:
            victim = None
        time.sleep(0.01)
    if victim is not None:
        time.sleep(world.dice.uniform(0, 1))
        try:
            victim.kill()
        except psutil.Error:
            victim = None
    ended = process.ended(3 * world.timeout)
    problems = ended.problems(0, 1)
    if ended.code == 1:
        problems += world.run(*continued(run, []), cache=cache).problems(0)
    problems = problems or same(run, whole)
    if victim is not None or problems:
        world.count(kind, problems)
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(cache, ignore_errors=True)


def mutants(world: World, run: Path, count: int) -> None:
    """Damaged images through check, fit and predict: no good one may be lost, nothing may stop."""
    folder = write_pictures(world.new("mutants"), 8)
    for number in range(count):
        kind = CLASSES[number % len(CLASSES)]
        name = FORMATS[number // len(CLASSES) % len(FORMATS)]
        data, ending = encoded(picture(kind, 1000 + number), name)
        path = folder / kind / f"mutant_{number:05}{ending}"
        path.write_bytes(mutated(data, world.dice))
    checked = world.run("check", folder, "--json")
    problems = checked.problems(0)
    if not problems:
        report = json.loads(checked.out)
        lost = [name for name in report["dropped"] if "good_" in name]
        problems += [f"check loses {name}: {report['dropped'][name]}" for name in lost]
    world.count("mutated images: check", problems, count)
    out = world.new("fitted")
    problems = world.run(
        "fit", folder, "--strategy", "head", "--epochs", "0", *world.small, "--out", out
    ).problems(0)
    if not problems:
        used = (out / "split.csv").read_text()
        lost = [str(path) for path in folder.rglob("good_*") if path.name not in used]
        problems += [f"fit loses {name}" for name in lost]
    world.count("mutated images: fit", problems, count)
    told = world.run("predict", run, folder, "--csv")
    problems = told.problems(0, 1)
    rows = list(csv.DictReader(io.StringIO(told.out)))
    if len(rows) != count + 24:
        problems.append(f"predict has {len(rows)} rows for {count + 24} images")
    problems += [
        f"predict loses {row['image']}: {row.get('error')}"
        for row in rows
        if "good_" in row["image"] and not row["label"]
    ]
    world.count("mutated images: predict", problems, count)
    shutil.rmtree(folder)
    shutil.rmtree(out, ignore_errors=True)
