"""The recipes that a search tried, best first."""

from pathlib import Path

from headstart.search.leaderboard import Row, leaderboard_of


def leaderboard(run: str | Path) -> list[Row]:
    """Ranks the recipes that a search tried.

    Args:
        run: Run folder of a search, which may still be running.

    Returns:
        The trials, best first. Those that were trained longer come before the others.

    Raises:
        RunError: If the folder has no search.

    Example:
        >>> import headstart
        >>> best = headstart.leaderboard("runs/flowers")[0]  # doctest: +SKIP
        >>> best.rank, best.val_accuracy, best.changes  # doctest: +SKIP
        (1, 0.979, 'optimizer=sgd')
    """
    return list(leaderboard_of(Path(run)))
