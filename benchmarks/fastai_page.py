"""The page of `vs_fastai.py`: every run of every arm, and how they compare."""

from collections.abc import Callable
from statistics import mean

import numpy as np

from fastai_arms import ARMS, Plan, Run
from measure import (
    MEMORY_NOTE,
    markdown_table,
)


def render(runs: list[Run], parts: dict[str, str], plan: Plan) -> str:
    """Returns the Markdown page for the runs on one split."""
    arms = {
        name: [run for run in runs if _same(run, name, plan)]
        for name in ARMS
        if any(_same(run, name, plan) for run in runs)
    }
    counts = {part: list(parts.values()).count(part) for part in ("train", "val", "test")}
    any_run = next(iter(arms.values()))[0]
    used = {name: value for run in runs for name, value in run["versions"].items()}
    return "\n".join(
        [
            f"# headstart and fastai on {any_run['key']['data']}",
            "",
            _rows(arms, plan),
            "",
            *_comparison(arms, plan),
            f"- Machine: {'; '.join(sorted({run['machine'] for run in runs}))}.",
            f"- Versions: {', '.join(f'{name} {value}' for name, value in sorted(used.items()))}; "
            f"headstart at commit {', '.join(sorted({run['commit'] for run in runs}))}.",
            f"- Dates: {', '.join(sorted({run['date'] for run in runs}))}.",
            f"- One leak-safe split for all: {counts['train']} train, {counts['val']} val, "
            f"{counts['test']} test images. Every arm trains on train, uses val for what it has to "
            "choose or show, and uses test once, at its end. The interval is Wilson's 95% interval "
            "for the mean accuracy on these test images.",
            "- One set of ImageNet weights for all: `tf_efficientnet_lite0`, 224 px.",
            "- fastai: `Resize(256)`, `aug_transforms(size=224)`, batches of 64, 2 loader "
            "processes, otherwise its defaults. Its speed counts only its training batches, "
            "without validation.",
            "- headstart: nothing cached from earlier runs"
            + (
                "; the split file was given."
                if plan.split_given
                else "; its time includes finding near-duplicates and splitting."
            ),
            "- Time runs from the start of the process. All images and libraries had been read "
            "once before.",
            f"- {MEMORY_NOTE}",
            *(f"- {_title(name, plan)}: {run['how']}." for name, run in _explained(arms)),
            *(f"- {line}" for line in _paired(arms, parts, plan)),
            "",
        ]
    )


def _same(run: Run, name: str, plan: Plan) -> bool:
    settings = {each: getattr(plan, each) for each in ARMS[name].settings}
    return {"arm": name, **settings}.items() <= run["key"].items()


def _title(name: str, plan: Plan) -> str:
    return ARMS[name].title.format(epochs=plan.epochs, budget=plan.budget)


def _explained(arms: dict[str, list[Run]]) -> list[tuple[str, Run]]:
    return [(name, run) for name, runs in arms.items() for run in runs if "how" in run]


def _mean(runs: list[Run], value: Callable[[Run], float | None]) -> float | None:
    values = [found for run in runs if (found := value(run)) is not None]
    return mean(values) if values else None


def _shown(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _rows(arms: dict[str, list[Run]], plan: Plan) -> str:
    from headstart.evaluation.intervals import wilson

    header = (
        "method",
        "runs",
        "test accuracy (95% interval)",
        "s to test accuracy",
        "s to exit",
        "peak memory, MB",
        "images/s trained",
    )
    rows = []
    for name, runs in arms.items():
        accuracy, n = mean(run["accuracy"] for run in runs), runs[0]["n"]
        low, high = wilson(accuracy, n)
        rows.append(
            (
                _title(name, plan),
                str(len(runs)),
                f"{accuracy:.1%} ({low:.1%} to {high:.1%})",
                _shown(_mean(runs, lambda run: run["known_s"])),
                _shown(_mean(runs, lambda run: run["exit_s"])),
                _shown(_mean(runs, lambda run: run["peak_anon_mb"])),
                _shown(_mean(runs, lambda run: run["images_per_s"]), 1),
            )
        )
    return markdown_table(header, rows)


def _comparison(arms: dict[str, list[Run]], plan: Plan) -> list[str]:
    """Returns the tables of ratios, as far as there are arms to compare."""
    if len({name.startswith("headstart") for name in arms}) < 2:
        return []
    return [
        "Speedup in time to the test accuracy, of the row over the column:",
        "",
        _ratios(arms, lambda run: run["known_s"], lambda mine, other: other / mine, plan),
        "",
        "Speedup in trained images per second, of the row over the column:",
        "",
        _ratios(arms, lambda run: run["images_per_s"], lambda mine, other: mine / other, plan),
        "",
    ]


def _ratios(
    arms: dict[str, list[Run]],
    value: Callable[[Run], float | None],
    ratio: Callable[[float, float], float],
    plan: Plan,
) -> str:
    """Returns a table of headstart's arms against all others."""
    others = [name for name in arms if not name.startswith("headstart")]
    rows = []
    for name, runs in arms.items():
        if name.startswith("headstart"):
            mine = _mean(runs, value)
            theirs = [_mean(arms[other], value) for other in others]
            shown = [_shown(ratio(mine, each), 1) if mine and each else "-" for each in theirs]
            rows.append([_title(name, plan), *shown])
    return markdown_table(["", *(_title(other, plan) for other in others)], rows)


def _paired(arms: dict[str, list[Run]], parts: dict[str, str], plan: Plan) -> list[str]:
    """Returns what exact McNemar tests say of headstart's first runs against the others'."""
    from headstart.evaluation.statistics import holm, mcnemar_exact

    tested = [path for path, part in parts.items() if part == "test"]
    right = {
        name: np.array([path not in set(runs[0]["wrong"]) for path in tested])
        for name, runs in arms.items()
    }
    pairs = [
        (mine, other)
        for mine in arms
        if mine.startswith("headstart")
        for other in arms
        if not other.startswith("headstart")
    ]
    if not pairs:
        return []
    adjusted = holm([mcnemar_exact(right[mine], right[other]) for mine, other in pairs])
    return [
        f"{_title(mine, plan)} against {_title(other, plan)}: "
        f"{int(np.sum(right[mine] & ~right[other]))} images are right only in the first, "
        f"{int(np.sum(~right[mine] & right[other]))} only in the second "
        f"(exact McNemar, first runs, Holm-adjusted p = {p:.2g})."
        for (mine, other), p in zip(pairs, adjusted, strict=True)
    ]
