"""The page of `portfolio.py`: what recipes gain, and the regret of where a search starts."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.search.portfolio import parsed
from measure import machine, markdown_table, versions
from records import PACKAGES

STRATEGIES = ("portfolio", "hand-written", "random")
TRIALS = (1, 3, 10)


def page(table: dict[str, Any], regrets: dict[str, NDArray[np.float64]], how: str) -> str:
    """Returns the Markdown page; `how` says how the recipes were trained."""
    rows = []
    for name, each in regrets.items():
        cells = [
            f"{each[:, trials - 1].mean():.1%}" if trials <= each.shape[1] else "-"
            for trials in TRIALS
        ]
        rows.append((name, *cells))
    tasks, count = table["tasks"], len(table["recipes"])
    known = parsed(table)
    firsts = [
        (
            each["data"], str(each["images"]), str(each["classes"]), f"{each['head_loss']:.3f}",
            f"{max(0.0, *each['gains']):.0%}",
            described(known.recipes[int(np.argmax(each["gains"]))]),
        )
        for each in tasks
    ]  # fmt: skip
    return "\n".join(
        [
            "# The portfolio: where a search starts",
            "",
            "Written by `python benchmarks/portfolio.py --learn`; do not edit.",
            "",
            f"{count} recipes were trained on {len(tasks)} tasks from eight data sets: {how}. Each "
            "began from a head that was solved on the same frozen features. A search begins with "
            "the recipes that saved the most log loss on the tasks that are most like its own "
            "(images per class, classes, log loss of the head).",
            "",
            "## Regret on data sets that were left out",
            "",
            markdown_table(("recipes", *(f"{n} trials" for n in TRIALS)), rows).replace(
                "1 trials", "1 trial"
            ),
            "",
            "Share of the head's log loss that the best of all recipes saves and the best of the "
            f"tried ones does not, as a mean over {len(tasks)} tasks. The portfolio is learnt "
            "without the data set of the task; how far likeness counts was chosen on these tasks.",
            "",
            "![Regret by number of trials](pictures/portfolio.svg)",
            "",
            "## The tasks",
            "",
            markdown_table(
                ("task", "images", "classes", "log loss of the head", "saved at best", "by"), firsts
            ),
            "",
            f"Measured on {machine()}; "
            + ", ".join(
                f"{name} {found}" for name, found in versions(sys.executable, PACKAGES).items()
            )
            + "; each training once.",
            "",
        ]
    )


def described(changed: dict[str, Any]) -> str:
    """Returns in a few words what a recipe changes."""
    words = []
    for family, method in changed.items():
        rate = f" at {method['lr']:.2g}" if family == "optimizer" else ""
        decay = f", decay {method['layer_decay']:.2g}" if "layer_decay" in method else ""
        words.append(f"{method['name']}{rate}{decay}")
    return "; ".join(words) or "the default recipe"


def draw(regrets: dict[str, NDArray[np.float64]], file: Path) -> None:
    """Draws the mean regret by number of trials."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "headstart"
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(STRATEGIES, ("#0f766e", "#b45309", "#64748b"), strict=True):
        mean = 100 * regrets[name].mean(0)[: TRIALS[-1]]
        trials = np.arange(1, len(mean) + 1)
        axes.plot(trials, mean, "o-", color=colour, lw=2, ms=4)
        axes.annotate(
            name, (trials[-1], mean[-1]), xytext=(8, 0), textcoords="offset points",
            color=colour, va="center",
        )  # fmt: skip
    axes.set(xlabel="trials", ylabel="regret, % of the head's log loss", ylim=(0, None))
    axes.set_xlim(0.7, 12.6)
    axes.set_xticks(range(1, 11))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
