"""From trained networks to answers: what the certificate says, and why."""

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
    last,
    plateau,
    why_no_plateau,
)
from headstart.certificate.learning_curve import MeasuredCurve
from headstart.certificate.record import (
    ArmName,
    ArmRun,
    Certificate,
    Curve,
    Expected,
    HeldBack,
    LabelForecast,
    LevelReached,
    OnFraction,
    Verdict,
)
from headstart.evaluation.metrics import flags_of
from headstart.evaluation.statistics import Interval, wilson_interval
from headstart.text import percent, percent_range

ARMS: tuple[ArmName, ...] = ("pretrained", "scratch")

LEVELS = (0.5, 0.75, 0.9)
"""Shares of what the better arm reaches, whose reaching is timed."""

MORE_LABELS = (1, 2, 4)
"""How many times as many labels as there are now accuracy is forecast for."""

KNOWN = 0.7
"""Share of the labels from which the forecast for all of them is made, to test it."""


def judge_fraction(runs: Sequence[ArmRun], chance: float) -> OnFraction | None:
    """Returns what the networks on one fraction of the data show.

    Args:
        runs: Of one fraction, for the curve.
        chance: Accuracy of who always names the most frequent class.

    Returns:
        None where no seed has both arms with an epoch at least.
    """
    pairs = _pairs(runs)
    if not pairs:
        return None
    right = {arm: _right([pair[arm] for pair in pairs]) for arm in ARMS}
    losses = {
        arm: np.array([[e.loss for e in pair[arm].evaluations] for pair in pairs]) for arm in ARMS
    }
    curves = {
        arm: _curve([pair[arm] for pair in pairs], right[arm], losses[arm], chance) for arm in ARMS
    }
    levels = _levels(curves)
    return OnFraction(
        fraction=runs[0].fraction,
        images=runs[0].images,
        seeds=len(pairs),
        curves=curves,
        verdicts=(
            _judge_start(right["pretrained"], right["scratch"]),
            _judge_slope(right["pretrained"], right["scratch"], levels, curves),
            _judge_asymptote(right["pretrained"], right["scratch"], curves),
        ),
        levels=levels,
    )


def _pairs(runs: Sequence[ArmRun]) -> list[dict[ArmName, ArmRun]]:
    """Returns the arms by seed, all cut to as many epochs as the seed with the most of them has.

    Seeds that the budget cut shorter are left out: every epoch must have as many seeds.
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
    """Returns whether each image was right, (seeds, evaluations, images)."""
    return np.array([[flags_of(e.right) for e in run.evaluations] for run in runs])


def _curve(
    runs: Sequence[ArmRun], right: Right, losses: NDArray[np.float64], chance: float
) -> Curve:
    ends = [estimate(last, right[:, : epoch + 1])[1] for epoch in range(right.shape[1])]
    reason = why_no_plateau(right, losses, chance)
    level, interval = (None, None) if reason else estimate(plateau, right)
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


def _judge_start(pretrained: Right, scratch: Right) -> Verdict:
    advantage, interval = estimate(after_first, pretrained, (after_first, scratch))
    guesses = [percent(float(before(one.mean(2)).mean())) for one in (pretrained, scratch)]
    values = [float(after_first(one.mean(2)).mean()) for one in (pretrained, scratch)]
    why = (
        f"after the first epoch {percent(values[0])} against {percent(values[1])}, "
        f"{_advantage(advantage, interval)}; before it {guesses[0]} and {guesses[1]}"
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
) -> Verdict:
    advantage, interval = estimate(fastest_rise, pretrained, (fastest_rise, scratch))
    values = [float(fastest_rise(one.mean(2)).mean()) for one in (pretrained, scratch)]
    epochs = pretrained.shape[1] - 1
    top = levels[-1]
    reached = " against ".join(
        f"not within {epochs} epochs"
        if top.epochs[arm] is None
        else f"{top.epochs[arm]:.1f} epochs, {top.seconds[arm]:.1f} s"
        for arm in ARMS
    )
    why = (
        f"the fastest rise is {100 * values[0]:.1f} points an epoch against "
        f"{100 * values[1]:.1f}, {_advantage(advantage, interval)}; "
        f"{percent(top.accuracy)} is reached in {reached}"
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


def _judge_asymptote(pretrained: Right, scratch: Right, curves: dict[ArmName, Curve]) -> Verdict:
    rising = (bool(curves["pretrained"].no_plateau), bool(curves["scratch"].no_plateau))
    advantage, interval, said = compare_plateaus(pretrained, scratch, rising)
    shown, values = [], []
    for arm in ARMS:
        curve = curves[arm]
        if curve.plateau is None or curve.plateau_interval is None:
            values.append(curve.accuracy[-1])
            shown.append(f"{arm} has {percent(values[-1])} and no plateau: {curve.no_plateau}")
        else:
            values.append(curve.plateau)
            ends = _range(curve.plateau_interval)
            shown.append(f"{arm} levels off at {percent(values[-1])} ({ends})")
    why = f"{shown[0]}; {shown[1]}"
    if not any(rising):
        why += f"; {_advantage(advantage, interval)}"
    elif said == "yes":
        why += f"; it is above scratch already, {_advantage(advantage, interval)}"
    elif said == "no":
        why += "; scratch has caught up already"
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


def judge_labels(curve: MeasuredCurve, tested: MeasuredCurve, seed: int) -> LabelForecast:
    """Returns the forecast for more labels, and how a forecast from fewer of them turned out.

    Args:
        curve: Of all labels.
        tested: Of a part of them (`KNOWN`), with what all of them brought.
        seed: Of the draws.
    """
    images = len(curve.hits)
    targets = [times * images for times in MORE_LABELS]
    expected = forecast(curve.sizes, curve.hits, targets, images, seed)
    steps = np.geomspace(curve.sizes[0], targets[-1], 25).round().astype(int).tolist()
    band = forecast(curve.sizes, curve.hits, steps, images, seed)
    at_all = forecast(tested.sizes, tested.hits, [tested.all_size], tested.sizes[-1], seed)[0]
    measured = float(tested.all_hits.mean())
    accuracy = curve.hits.mean(0)
    ends = [wilson_interval(round(share * images), images) for share in accuracy]
    twice = expected[1]
    # No law expects fewer right answers from more labels: above zero would always be a yes.
    said = answer(twice.gain_interval, above=MATTERS)
    why = (
        f"a head on frozen features has {percent(expected[0].accuracy)} with {images:,} labels; "
        f"twice as many would bring {percent(twice.accuracy)} ({_range(twice.new_images)} on "
        f"other images), {_gain(twice)}; four times as many {percent(expected[2].accuracy)}, "
        f"{_gain(expected[2])}"
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
    """Returns the answers as rows of question, answer and why."""
    rows: list[tuple[str, str, str]] = [
        (f"higher {v.question}", v.answer, v.why) for v in certificate.verdicts
    ]
    for result in certificate.fractions[:-1]:
        said = ", ".join(f"{v.question} {v.answer}" for v in result.verdicts)
        ends = " against ".join(percent(result.curves[arm].accuracy[-1]) for arm in ARMS)
        rows.append((f"with {percent(result.fraction, 0)} of the data", said, f"in the end {ends}"))
    if certificate.labels is not None:
        labels = certificate.labels
        why = f"{labels.why}; {describe_test(labels.test)}"
        rows.append(("would twice as many labels help", labels.answer, why))
    return rows


def describe_test(test: HeldBack) -> str:
    """Says how a forecast turned out that did not see some of the labels."""
    return (
        f"tested: from {percent(1 - test.hidden, 0)} of the labels it expected "
        f"{percent(test.expected.accuracy)} ({_range(test.expected.interval)}) with all of them, "
        f"and {percent(test.accuracy)} was measured, {'inside' if test.held else 'outside'} "
        "the interval"
    )


def _range(interval: Interval) -> str:
    return f"95% interval {percent_range(interval)}"


def _advantage(value: float, interval: Interval) -> str:
    low, high = interval
    return f"{100 * value:+.1f} points (95% interval {100 * low:+.1f} to {100 * high:+.1f})"


def _gain(expected: Forecast) -> str:
    low, high = expected.gain_interval
    return f"{100 * expected.gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _plain(found: Forecast) -> Expected:
    return Expected(
        labels=found.labels,
        accuracy=found.accuracy,
        interval=found.interval,
        new_images=found.new_images,
        gain=found.gain,
        gain_interval=found.gain_interval,
    )
