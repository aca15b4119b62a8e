"""Answers of the certificate, computed from the trained networks, with explanations."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.certificate.curves import (
    MATTERS,
    Forecast,
    Right,
    after_first,
    answer,
    before,
    compare_plateaus,
    estimate,
    fastest_rise,
    first_reaching,
    forecast,
    independent_images,
    last,
    plateau,
    why_no_plateau,
)
from headstart.certificate.labels import Expected, HeldBack, LabelForecast
from headstart.certificate.learning_curve import MeasuredCurve
from headstart.certificate.record import (
    ArmName,
    ArmRun,
    Certificate,
    Curve,
    LevelReached,
    OnFraction,
    Verdict,
)
from headstart.evaluation.intervals import Groups, wilson
from headstart.evaluation.metrics import flags_of
from headstart.evaluation.statistics import Interval
from headstart.text import counted, percent, percent_range, sentence

ARMS: tuple[ArmName, ...] = ("pretrained", "scratch")

LEVELS = (0.5, 0.75, 0.9)
"""Shares of the better arm's accuracy; the time to reach them is measured."""

MORE_LABELS = (1, 2, 4)
"""Multiples of the present number of labels for which accuracy is forecast."""

KNOWN = 0.7
"""Share of the labels that the tested forecast is made from."""


def judge_fraction(
    runs: Sequence[ArmRun], chance: float, groups: Groups | None = None
) -> OnFraction | None:
    """Returns the results of the networks on one fraction of the data.

    Args:
        runs: Trained networks of one fraction, for the curve.
        chance: Accuracy of always predicting the most frequent class.
        groups: Group number of each held-out image; None if all are independent.

    Returns:
        The results; None if no seed has at least one epoch of both arms.
    """
    pairs = _pairs(runs)
    if not pairs:
        return None
    right = {arm: _right([pair[arm] for pair in pairs]) for arm in ARMS}
    losses = {
        arm: np.array([[e.loss for e in pair[arm].evaluations] for pair in pairs]) for arm in ARMS
    }
    curves = {
        arm: _curve([pair[arm] for pair in pairs], right[arm], losses[arm], chance, groups)
        for arm in ARMS
    }
    levels = _levels(curves)
    return OnFraction(
        fraction=runs[0].fraction,
        images=runs[0].images,
        seeds=len(pairs),
        curves=curves,
        verdicts=(
            _judge_start(right["pretrained"], right["scratch"], groups),
            _judge_slope(right["pretrained"], right["scratch"], levels, curves, groups),
            _judge_asymptote(right["pretrained"], right["scratch"], curves, groups),
        ),
        levels=levels,
    )


def _pairs(runs: Sequence[ArmRun]) -> list[dict[ArmName, ArmRun]]:
    """Returns both arms of each seed, truncated to the longest common number of epochs.

    Seeds with fewer epochs are left out, because every epoch needs the same number of seeds.
    """
    by_seed: dict[int, dict[ArmName, ArmRun]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, {})[run.arm] = run
    pairs = [pair for _, pair in sorted(by_seed.items()) if len(pair) == len(ARMS)]
    common = [min(len(run.evaluations) for run in pair.values()) for pair in pairs]
    most = max(common, default=0)
    if most < 2:
        return []
    return [
        {
            arm: run.model_copy(update={"evaluations": run.evaluations[:most]})
            for arm, run in pair.items()
        }
        for pair, length in zip(pairs, common, strict=True)
        if length == most
    ]


def _right(runs: Sequence[ArmRun]) -> Right:
    """Returns whether each image was classified correctly, (seeds, evaluations, images)."""
    return np.array([[flags_of(e.right) for e in run.evaluations] for run in runs])


def _curve(
    runs: Sequence[ArmRun],
    right: Right,
    losses: NDArray[np.float64],
    chance: float,
    groups: Groups | None,
) -> Curve:
    ends = [
        estimate(last, right[:, : epoch + 1], groups=groups)[1] for epoch in range(right.shape[1])
    ]
    reason = why_no_plateau(right, losses, chance, groups)
    level, interval = (None, None) if reason else estimate(plateau, right, groups=groups)
    return Curve(
        rate=runs[0].rate,
        accuracy=tuple(right.mean((0, 2)).tolist()),
        low=tuple(max(0.0, low) for low, _ in ends),
        high=tuple(min(1.0, high) for _, high in ends),
        loss=tuple(losses.mean(0).tolist()),
        seconds=tuple(np.mean([[e.seconds for e in r.evaluations] for r in runs], 0).tolist()),
        plateau=level,
        plateau_interval=interval,
        no_plateau=reason,
    )


def _judge_start(pretrained: Right, scratch: Right, groups: Groups | None) -> Verdict:
    advantage, interval = estimate(after_first, pretrained, (after_first, scratch), groups)
    guesses = [percent(float(before(one.mean(2)).mean())) for one in (pretrained, scratch)]
    values = [float(after_first(one.mean(2)).mean()) for one in (pretrained, scratch)]
    why = (
        f"After the first epoch, accuracy is {percent(values[0])} with pretrained weights and "
        f"{percent(values[1])} from scratch: {_advantage(advantage, interval)}. Before training it "
        f"is {guesses[0]} and {guesses[1]}."
    )
    return Verdict(
        question="start",
        answer=answer(interval),
        pretrained=values[0],
        scratch=values[1],
        advantage=advantage,
        interval=interval,
        why=why,
    )


def _judge_slope(
    pretrained: Right,
    scratch: Right,
    levels: Sequence[LevelReached],
    curves: dict[ArmName, Curve],
    groups: Groups | None,
) -> Verdict:
    advantage, interval = estimate(fastest_rise, pretrained, (fastest_rise, scratch), groups)
    values = [float(fastest_rise(one.mean(2)).mean()) for one in (pretrained, scratch)]
    epochs = pretrained.shape[1] - 1
    top = levels[-1]
    reached = " and ".join(
        (
            f"not within {counted(epochs, 'epoch')}"
            if top.epochs[arm] is None
            else f"after {top.epochs[arm]:.1f} epochs ({top.seconds[arm]:.1f} s)"
        )
        + where
        for arm, where in zip(ARMS, (" with pretrained weights", " from scratch"), strict=True)
    )
    why = (
        f"The fastest rise is {100 * values[0]:z.1f} percentage points per epoch with pretrained "
        f"weights and {100 * values[1]:z.1f} from scratch: {_advantage(advantage, interval)}. "
        f"An accuracy of {percent(top.accuracy)} is reached {reached}."
    )
    return Verdict(
        question="slope",
        answer=answer(interval),
        pretrained=values[0],
        scratch=values[1],
        advantage=advantage,
        interval=interval,
        why=why,
    )


def _judge_asymptote(
    pretrained: Right, scratch: Right, curves: dict[ArmName, Curve], groups: Groups | None
) -> Verdict:
    rising = (bool(curves["pretrained"].no_plateau), bool(curves["scratch"].no_plateau))
    advantage, interval, said = compare_plateaus(pretrained, scratch, rising, groups)
    shown, values = [], []
    names = ("The pretrained network", "The network from scratch")
    for arm, name in zip(ARMS, names, strict=True):
        curve = curves[arm]
        if curve.plateau is None or curve.plateau_interval is None:
            values.append(curve.accuracy[-1])
            shown.append(
                f"{name} ends at {percent(values[-1])} without a plateau ({curve.no_plateau})."
            )
        else:
            values.append(curve.plateau)
            ends = _range(curve.plateau_interval)
            shown.append(f"{name} levels off at {percent(values[-1])} ({ends}).")
    why = " ".join(shown)
    if not any(rising):
        why += f" The difference is {_advantage(advantage, interval)}."
    elif said == "yes":
        why += (
            " The pretrained network is already above the plateau from scratch: "
            f"{_advantage(advantage, interval)}."
        )
    elif said == "no":
        why += " The network from scratch has already caught up."
    return Verdict(
        question="asymptote",
        answer=said,
        pretrained=values[0],
        scratch=values[1],
        advantage=advantage,
        interval=interval,
        why=why,
    )


def _levels(curves: dict[ArmName, Curve]) -> tuple[LevelReached, ...]:
    tops = [c.accuracy[-1] if c.plateau is None else c.plateau for c in curves.values()]
    found = []
    for share in LEVELS:
        level = share * max(tops)
        epochs = {arm: first_reaching(curves[arm].accuracy, level) for arm in ARMS}
        seconds = {arm: _seconds_at(curves[arm], epochs[arm]) for arm in ARMS}
        found.append(LevelReached(share=share, accuracy=level, epochs=epochs, seconds=seconds))
    return tuple(found)


def _seconds_at(curve: Curve, epoch: float | None) -> float | None:
    if epoch is None:
        return None
    return float(np.interp(epoch, np.arange(len(curve.seconds)), curve.seconds))


def judge_labels(
    curve: MeasuredCurve, tested: MeasuredCurve, seed: int, groups: Groups | None = None
) -> LabelForecast:
    """Returns the forecast for more labels, with a test of a forecast from fewer labels.

    Args:
        curve: Learning curve over all labels.
        tested: Learning curve over a part of the labels (`KNOWN`), with the results of all.
        seed: Seed for the bootstrap.
        groups: Group number of each image; None if all are independent.
    """
    images = len(curve.hits)
    targets = [times * images for times in MORE_LABELS]
    expected = forecast(curve.sizes, curve.hits, targets, images, seed, groups)
    steps = np.geomspace(curve.sizes[0], targets[-1], 25).round().astype(int).tolist()
    band = forecast(curve.sizes, curve.hits, steps, images, seed, groups)
    at_all = forecast(tested.sizes, tested.hits, [tested.all_size], tested.sizes[-1], seed, groups)[
        0
    ]
    measured = float(tested.all_hits.mean())
    accuracy = curve.hits.mean(0)
    hits = zip(accuracy.tolist(), curve.hits.T, strict=True)
    ends = [wilson(share, independent_images(each, groups)) for share, each in hits]
    twice = expected[1]
    # Every law predicts a gain from more labels: a threshold of zero would always give a yes.
    said = answer(twice.gain_interval, above=MATTERS)
    why = (
        f"A head on frozen features reaches {percent(expected[0].accuracy)} with "
        f"{counted(images, 'label')}. Twice as many labels would give {percent(twice.accuracy)} "
        f"({_range(twice.new_images)} on new images): {_gain(twice)}. Four times as many would "
        f"give {percent(expected[2].accuracy)}: {_gain(expected[2])}."
    )
    return LabelForecast(
        images=images,
        sizes=curve.sizes,
        accuracy=tuple(accuracy.tolist()),
        low=tuple(low for low, _ in ends),
        high=tuple(high for _, high in ends),
        expected=tuple(map(_plain, expected)),
        band=tuple(map(_plain, band)),
        test=HeldBack(
            hidden=1 - KNOWN,
            expected=_plain(at_all),
            accuracy=measured,
            held=at_all.interval[0] <= measured <= at_all.interval[1],
        ),
        answer=said,
        why=why,
    )


def answers(certificate: Certificate) -> list[tuple[str, str, str]]:
    """Returns the answers as rows of question, answer and explanation."""
    rows: list[tuple[str, str, str]] = [
        (f"Higher {v.question}?", v.answer, sentence(v.why)) for v in certificate.verdicts
    ]
    for result in certificate.fractions[:-1]:
        said = ", ".join(f"{v.question}: {v.answer}" for v in result.verdicts)
        ends = [percent(result.curves[arm].accuracy[-1]) for arm in ARMS]
        question = f"With {percent(result.fraction, 0)} of the data?"
        why = f"Accuracy ends at {ends[0]} with pretrained weights and {ends[1]} from scratch."
        rows.append((question, said, why))
    if certificate.labels is not None:
        labels = certificate.labels
        why = f"{sentence(labels.why)} {describe_test(labels.test)}"
        rows.append(("Would twice as many labels help?", labels.answer, why))
    return rows


def describe_test(test: HeldBack) -> str:
    """Returns a sentence on the test of a forecast that was made from a part of the labels."""
    return (
        f"Test of the forecast: from {percent(1 - test.hidden, 0)} of the labels it predicts "
        f"{percent(test.expected.accuracy)} ({_range(test.expected.interval)}) for all of them; "
        f"the measured {percent(test.accuracy)} lies {'inside' if test.held else 'outside'} "
        "the interval."
    )


def _range(interval: Interval) -> str:
    return f"95% interval {percent_range(interval)}"


def _advantage(value: float, interval: Interval) -> str:
    low, high = (100 * end for end in interval)
    return f"{100 * value:+z.1f} percentage points (95% interval {low:+z.1f} to {high:+z.1f})"


def _gain(expected: Forecast) -> str:
    low, high = expected.gain_interval
    return (
        f"{100 * expected.gain:+z.1f} percentage points ({100 * low:+z.1f} to {100 * high:+z.1f})"
    )


def _plain(found: Forecast) -> Expected:
    return Expected(
        labels=found.labels,
        accuracy=found.accuracy,
        interval=found.interval,
        new_images=found.new_images,
        gain=found.gain,
        gain_interval=found.gain_interval,
    )
