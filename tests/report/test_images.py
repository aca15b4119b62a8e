from headstart.artifacts.records import TestPrediction
from headstart.report.images import (
    IN_A_PAIR,
    MISTAKES_SHOWN,
    most_mixed_up,
    shown_mistakes,
    surest_mistakes,
)


def said(path: str, label: str, prediction: str, probability: float) -> TestPrediction:
    return TestPrediction(
        path=path, label=label, prediction=prediction, probability=probability,
        probability_of_label=0.1,
    )  # fmt: skip


def test_the_surest_mistakes_come_first() -> None:
    predictions = [
        said("right", "a", "a", 0.99), said("b", "a", "b", 0.7), said("a", "a", "b", 0.7),
        said("c", "b", "a", 0.9),
    ]  # fmt: skip
    assert [p.path for p in surest_mistakes(predictions)] == ["c", "a", "b"]
    many = [said(str(n), "a", "b", n / 100) for n in range(40)]
    assert [p.path for p in surest_mistakes(many)][:2] == ["39", "38"]
    assert len(surest_mistakes(many)) == MISTAKES_SHOWN


def test_pairs_by_how_often_they_are_mixed_up() -> None:
    predictions = [
        *(said(f"x{n}", "a", "b", n / 10) for n in range(IN_A_PAIR + 2)),
        said("y", "b", "a", 0.9), said("z", "b", "c", 0.8), said("right", "c", "c", 1.0),
    ]  # fmt: skip
    first, second, third = most_mixed_up(predictions)
    assert (first.label, first.prediction, first.count) == ("a", "b", IN_A_PAIR + 2)
    assert [p.path for p in first.surest] == ["x5", "x4", "x3", "x2"]
    assert [(p.label, p.prediction) for p in (second, third)] == [("b", "a"), ("b", "c")]
    assert most_mixed_up([said("right", "c", "c", 1.0)]) == []


def test_every_mistake_that_is_shown_is_named_once() -> None:
    sure = [said(f"s{n}", "a", "b", 0.9) for n in range(30)]
    rare = [said("r", "b", "a", 0.2)]
    names = [p.path for p in shown_mistakes([*sure, *rare])]
    assert len(names) == len(set(names))
    assert "r" in names, "it is one of a pair, though no sure mistake"
