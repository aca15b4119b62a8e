import json

import numpy as np
import pytest
from sklearn import metrics as sk

from headstart.errors import DataError, HeadstartError
from headstart.evaluation.calibration import (
    calibration_bins,
    expected_calibration_error,
    fit_temperature,
    softmax,
)
from headstart.evaluation.intervals import share_interval, wilson
from headstart.evaluation.metrics import Confusion, Metrics, compute_metrics
from headstart.inference.sealed_test import SealedTest

NAMES = ("ant", "bee", "cat")


def logits_for(predicted, n_classes=3, margin=2.0):
    return margin * np.eye(n_classes)[predicted]


def random_case(seed, n=300, n_classes=7, strength=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += strength
    return logits, labels


def test_softmax_by_hand():
    p = softmax(np.log([[1.0, 3.0], [2.0, 2.0]]))
    assert p == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))
    # Temperature ½ squares the odds.
    assert softmax(np.log([[1.0, 3.0]]), temperature=0.5) == pytest.approx(np.array([[0.1, 0.9]]))


def test_softmax_does_not_overflow():
    p = softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]], dtype=np.float32))
    assert p.dtype == np.float64
    assert p == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))


def test_temperature_by_hand():
    # 8 of 10 right, each by a margin of 3: best where sigmoid(3/T) = 0.8, so T = 3 / ln 4.
    logits = np.tile([3.0, 0.0], (10, 1))
    labels = np.array([0] * 8 + [1] * 2)
    assert fit_temperature(logits, labels) == pytest.approx(3 / np.log(4), rel=1e-4)


def test_temperature_where_all_are_right_assumes_one_more_right_and_one_wrong():
    # 9 right by a margin of 3: sigmoid(3/T) = 10/11, so T = 3 / ln 10.
    logits = np.tile([3.0, 0.0], (9, 1))
    labels = np.zeros(9, dtype=int)
    assert fit_temperature(logits, labels) == pytest.approx(3 / np.log(10), rel=1e-4)
    # The wrong answer is the runner-up, not a class that is out of the question.
    three = np.column_stack([logits[:, 0], np.full(9, -500.0), logits[:, 1]])
    assert fit_temperature(three, labels) == pytest.approx(3 / np.log(10), rel=1e-4)


def test_temperature_undoes_a_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 2
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits)])
    assert fit_temperature(logits, labels) == pytest.approx(1.0, abs=0.04)
    assert fit_temperature(logits * 3, labels) == pytest.approx(3.0, abs=0.12)
    before = expected_calibration_error(softmax(logits * 3), labels)
    after = expected_calibration_error(
        softmax(logits * 3, fit_temperature(logits * 3, labels)), labels
    )
    assert after < 0.02 < before


def test_temperature_is_one_where_there_is_nothing_to_fit_on():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1.0
    assert fit_temperature(np.ones((4, 1)), np.zeros(4, dtype=int)) == 1.0
    assert fit_temperature(np.ones((4, 3)), np.array([0, 1, 2, 0])) == 1.0


def test_temperature_stays_in_range_on_hopeless_logits():
    assert fit_temperature(np.tile([3.0, 0.0], (9, 1)), np.ones(9, dtype=int)) == pytest.approx(
        20, rel=1e-3
    )
    tiny = fit_temperature(np.tile([1e-3, 0.0], (9, 1)), np.zeros(9, dtype=int))
    assert tiny == pytest.approx(0.05, rel=1e-3)


def test_calibration_by_hand():
    # Three in the bin (0.75, 1]: confidence 0.8, 0.9, 1.0, two right; one in (0.5, 0.75], wrong;
    # 0.5 itself belongs to (0.25, 0.5], right.
    p = np.array([[0.8, 0.2], [0.9, 0.1], [1.0, 0.0], [0.4, 0.6], [0.5, 0.5]])
    labels = np.array([0, 0, 1, 0, 0])
    bins = calibration_bins(p, labels, n_bins=4)
    assert bins.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert bins.count.tolist() == [0, 1, 1, 3]
    assert bins.confidence == pytest.approx(np.array([np.nan, 0.5, 0.6, 0.9]), nan_ok=True)
    assert bins.accuracy == pytest.approx(np.array([np.nan, 1.0, 0.0, 2 / 3]), nan_ok=True)
    expected = (0.5 + 0.6 + 3 * (0.9 - 2 / 3)) / 5
    assert expected_calibration_error(p, labels, n_bins=4) == pytest.approx(expected)


def test_metrics_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    m = compute_metrics(logits_for(predicted), labels, NAMES, temperature=2.0)
    assert (m.n, m.correct, m.accuracy) == (8, 6, 0.75)
    assert m.accuracy_interval == pytest.approx(wilson(6 / 8, 8))
    assert m.groups == 8
    assert m.confusion == ((3, 1, 0), (0, 2, 0), (0, 1, 1))
    assert m.balanced_accuracy == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    assert [c.precision for c in m.classes] == pytest.approx([1.0, 0.5, 1.0])
    assert [c.recall for c in m.classes] == pytest.approx([0.75, 1.0, 0.5])
    f1 = [6 / 7, 4 / 6, 2 / 3]
    assert [c.f1 for c in m.classes] == pytest.approx(f1)
    assert m.macro_f1 == pytest.approx(sum(f1) / 3)
    assert m.classes[1].recall_interval == pytest.approx(wilson(1.0, 2))
    assert m.top_confusions == (
        Confusion(actual="ant", predicted="bee", count=1),
        Confusion(actual="cat", predicted="bee", count=1),
    )
    # Logits 2, 0, 0 at temperature 2: the predicted class has e / (e + 2).
    e = np.e
    assert m.log_loss == pytest.approx(-(6 * np.log(e / (e + 2)) + 2 * np.log(1 / (e + 2))) / 8)
    before = 6 * np.log(e**2 / (e**2 + 2)) + 2 * np.log(1 / (e**2 + 2))
    assert m.log_loss_uncalibrated == pytest.approx(-before / 8)
    assert m.ece == pytest.approx(0.75 - e / (e + 2))
    assert m.ece_uncalibrated == pytest.approx(e**2 / (e**2 + 2) - 0.75)
    # Of 8 images with that probability, 5 are right in 28% of the cases and 4 in 25%: no other
    # numbers are closer to it.
    assert m.ece_by_chance == pytest.approx(e / (e + 2) - 0.5)
    assert m.temperature == 2.0
    low, high = m.balanced_accuracy_interval
    assert 0 <= low < 0.75 < high <= 1


@pytest.mark.parametrize("seed", range(3))
def test_metrics_agree_with_scikit_learn(seed):
    logits, labels = random_case(seed)
    m = compute_metrics(logits, labels, [str(i) for i in range(7)], temperature=0.7)
    predicted = logits.argmax(axis=1)
    assert m.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    assert m.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert m.macro_f1 == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert m.log_loss == pytest.approx(sk.log_loss(labels, softmax(logits, 0.7)))
    assert np.array_equal(m.confusion, sk.confusion_matrix(labels, predicted))


def test_classes_without_test_images_do_not_count_in_means():
    logits, labels = random_case(0)
    kept = labels < 5
    logits, labels = logits[kept], labels[kept]
    predicted = logits.argmax(axis=1)
    assert (predicted >= 5).any()  # an absent class is predicted: a false positive of no class
    m = compute_metrics(logits, labels, [str(i) for i in range(7)], temperature=1.0)
    recalls = [np.mean(predicted[labels == c] == c) for c in range(5)]
    assert m.balanced_accuracy == pytest.approx(np.mean(recalls))
    f1 = sk.f1_score(labels, predicted, average="macro", labels=range(5))
    assert m.macro_f1 == pytest.approx(f1)
    absent = m.classes[6]
    assert (absent.n, absent.recall, absent.f1, absent.recall_interval) == (0, None, None, (0, 1))


def test_a_class_that_is_never_predicted_has_no_precision_and_f1_zero():
    m = compute_metrics(logits_for([0, 0, 1]), np.array([0, 2, 1]), NAMES, temperature=1.0)
    assert (m.classes[2].precision, m.classes[2].recall, m.classes[2].f1) == (None, 0.0, 0.0)


def test_intervals_by_group_are_wider_where_images_repeat():
    logits, labels = random_case(0, n=80)
    logits, labels, groups = (np.repeat(a, 6, axis=0) for a in (logits, labels, np.arange(80)))
    names = [str(i) for i in range(7)]
    by_image = compute_metrics(logits, labels, names, 1.0).balanced_accuracy_interval
    by_group = compute_metrics(logits, labels, names, 1.0, groups=groups).balanced_accuracy_interval
    ratio = (by_group[1] - by_group[0]) / (by_image[1] - by_image[0])
    assert ratio == pytest.approx(np.sqrt(6), rel=0.2)


def test_intervals_are_honest_where_nothing_varies():
    labels = np.array([0, 1, 2, 0, 1, 2])
    right = compute_metrics(logits_for(labels), labels, NAMES, 1.0)
    assert right.balanced_accuracy == right.macro_f1 == 1.0
    # Six images, all right: by Wilson 6 / (6 + 1.96²).
    for interval in (right.accuracy_interval, right.balanced_accuracy_interval):
        assert interval == pytest.approx((6 / (6 + 1.959964**2), 1.0))
    assert right.macro_f1_interval == pytest.approx(right.accuracy_interval)
    wrong = compute_metrics(logits_for((labels + 1) % 3), labels, NAMES, 1.0)
    assert wrong.accuracy_interval == pytest.approx((0, 1.959964**2 / (6 + 1.959964**2)))
    one_group = compute_metrics(
        logits_for([0, 1, 1, 0]), np.array([0, 1, 2, 0]), NAMES, 1.0, groups=np.zeros(4, np.int64)
    )
    assert one_group.accuracy_interval == one_group.balanced_accuracy_interval == (0.0, 1.0)
    assert one_group.macro_f1_interval == (0.0, 1.0)
    assert one_group.groups == 1


def recalls(metrics):
    return [each.recall_interval for each in metrics.classes]


def test_recalls_and_accuracy_come_by_group():
    # Images in pairs that are always right or wrong together: each pair tells as much as one image.
    logits, labels = random_case(0, n=80, n_classes=3)
    twice, groups = np.repeat(labels, 2), np.repeat(np.arange(80) * 3 - 7, 2)
    m = compute_metrics(np.repeat(logits, 2, axis=0), twice, NAMES, 1.0, groups=groups)
    once = compute_metrics(logits, labels, NAMES, 1.0)
    assert (m.groups, once.groups) == (80, 80)
    assert (m.accuracy, m.macro_f1) == pytest.approx((once.accuracy, once.macro_f1))
    for found, wanted in (
        (m.accuracy_interval, once.accuracy_interval),
        (m.balanced_accuracy_interval, once.balanced_accuracy_interval),
        (m.macro_f1_interval, once.macro_f1_interval),
        *(
            (a.recall_interval, b.recall_interval)
            for a, b in zip(m.classes, once.classes, strict=True)
        ),
    ):
        assert found == pytest.approx(wanted, abs=0.006)
    right = labels == logits.argmax(1)
    assert once.classes[1].recall_interval == share_interval(right[labels == 1])


def test_images_without_groups_are_groups_of_one():
    logits, labels = random_case(0)
    names = [str(i) for i in range(7)]
    alone = np.random.default_rng(0).permutation(300)
    by_group = json.loads(
        compute_metrics(logits, labels, names, 1.0, groups=alone).model_dump_json()
    )
    by_image = json.loads(compute_metrics(logits, labels, names, 1.0).model_dump_json())
    for key, value in by_image.items():
        if key.endswith("_interval"):
            assert by_group[key] == pytest.approx(value, abs=1e-9)
    assert by_group["groups"] == by_image["groups"] == 300


def test_metrics_of_older_runs_are_read():
    m = compute_metrics(logits_for([0, 1, 1]), np.array([0, 1, 0]), NAMES, temperature=1.0)
    old = json.loads(m.model_dump_json())
    del old["groups"]
    assert Metrics.model_validate(old).groups is None


def test_metrics_survive_json():
    m = compute_metrics(logits_for([0, 1, 1]), np.array([0, 1, 0]), NAMES, temperature=1.0)
    text = m.model_dump_json()
    assert json.loads(text)["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert Metrics.model_validate_json(text) == m


def test_broken_logits_and_labels_are_refused():
    logits = logits_for([0, 1, 2])
    labels = np.array([0, 1, 2])
    broken = logits.copy()
    broken[1, 0] = np.nan
    with pytest.raises(HeadstartError, match="NaN or infinite logits for 1 of 3 images"):
        compute_metrics(broken, labels, NAMES, 1.0)
    with pytest.raises(HeadstartError, match="NaN"):
        fit_temperature(broken, labels)
    with pytest.raises(HeadstartError, match="Labels range from 0 to 3"):
        compute_metrics(logits, np.array([0, 1, 3]), NAMES, 1.0)
    with pytest.raises(HeadstartError, match="do not fit"):
        compute_metrics(logits, np.array([0, 1]), NAMES, 1.0)
    with pytest.raises(HeadstartError, match="3 logits, but there are 2 classes"):
        compute_metrics(logits, labels, NAMES[:2], 1.0)
    with pytest.raises(DataError, match="no images to evaluate"):
        compute_metrics(np.zeros((0, 3)), np.zeros(0, dtype=int), NAMES, 1.0)


def test_the_test_set_opens_once():
    sealed = SealedTest(["a.jpg", "b.jpg"])
    assert len(sealed) == 2
    assert sealed.opened_at is None
    assert sealed.open("the final evaluation") == ("a.jpg", "b.jpg")
    assert sealed.opened_at is not None
    with pytest.raises(HeadstartError, match=r"already opened at .* for the final evaluation"):
        sealed.open("another look")
    assert sealed.reason == "the final evaluation"
