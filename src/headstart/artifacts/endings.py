"""Why runs end for lack of time, in the words of `RunRecord.stop_reason`."""

TOO_FEW_EPOCHS = "the budget left too few epochs at any boundary"
SCHEDULE_CUT = "the time budget was used up: the schedule was cut to fit"
NO_TIME_TO_TUNE = "too little time was left to fine-tune, so the probe is kept"
NO_TIME_FOR_ALL = "the time budget left no time to train on all images, so the head is kept"
ONLY_HEADS = "the budget only left time to try heads"
TRIALS_USED_UP = "the time for trials was used up"

_ALL = (
    TOO_FEW_EPOCHS, SCHEDULE_CUT, NO_TIME_TO_TUNE, NO_TIME_FOR_ALL, ONLY_HEADS, TRIALS_USED_UP
)  # fmt: skip


def ended_for_time(stop_reason: str) -> bool:
    """Returns whether a run would have gone on with more time.

    Args:
        stop_reason: Why it ended; several reasons may stand in it.

    Example:
        >>> ended_for_time(ONLY_HEADS), ended_for_time("all planned trials were run")
        (True, False)
    """
    return any(reason in stop_reason for reason in _ALL)
