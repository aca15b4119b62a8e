import numpy as np
import pytest
from scipy import stats

from headstart.evaluation.intervals import wilson
from headstart.evaluation.paired import Cell, paired_difference, sign_test, tango
from headstart.evaluation.statistics import mcnemar_exact

Z = 1.959963984540054  # upper 2.5% of the normal distribution


def two_methods(rng, images, seeds, gain, test_set="t"):
    """Cells of one test set, whose images are easy or hard for all seeds and both methods."""
    ease = rng.normal(size=images)

    def right(more):
        return ease + 0.7 * rng.normal(size=images) + more > -1.2

    return [Cell(test_set, right(0), right(gain)) for _ in range(seeds)]


def true_gain(gain):
    spread = np.sqrt(1 + 0.7**2)
    return stats.norm.cdf((1.2 + gain) / spread) - stats.norm.cdf(1.2 / spread)


def test_paired_difference_weighs_cells_alike():
    small = Cell("s", np.zeros(4, bool), np.array([True, True, False, False]))
    large = Cell("l", np.ones(100, bool), np.ones(100, bool))
    assert paired_difference([small, large])[0] == pytest.approx(0.25)
    assert paired_difference([small, small, large])[0] == pytest.approx(1 / 3)
    mean, (low, high) = paired_difference([small, large])
    assert low < mean < high


def test_tango_inverts_the_score_test():
    # At each end, the score with the most likely shares under that difference is the quantile.
    better, worse, n = 12.0, 5.0, 60.0
    for end, sign in zip(tango(better / n, worse / n, n), (1, -1), strict=True):
        shares = np.linspace(max(0, -end), (1 - end) / 2, 200_001)[1:-1]  # of the worse
        likelihood = (
            better * np.log(shares + end)
            + worse * np.log(shares)
            + (n - better - worse) * np.log(1 - 2 * shares - end)
        )
        q = shares[likelihood.argmax()]
        score = (better - worse - n * end) / np.sqrt(n * (2 * q + end - end**2))
        assert score == pytest.approx(sign * Z, abs=1e-3)


def test_the_interval_is_mcnemars_at_zero():
    # The score test of no difference is McNemar's: (12 - 3)² / 15 = 5.4 > 3.84, (12 - 5)² / 17 < 3.
    assert tango(12 / 60, 3 / 60, 60)[0] > 0
    assert tango(12 / 60, 5 / 60, 60)[0] < 0
    assert tango(3 / 60, 12 / 60, 60)[1] < 0


def test_tango_at_its_ends():
    almost = np.nextafter(1.0, 0.0)  # what weights of images add up to
    for share in (1.0, almost):
        low, high = tango(share, 0.0, 40)
        assert low == pytest.approx(tango(1.0, 0.0, 40)[0])
        assert high == share
        assert tango(0.0, share, 40) == pytest.approx((-high, -low))
    # Where one image says little, nothing is excluded.
    low, high = tango(0.3, 0.2, 0.1)
    assert low < -0.9
    assert high > 0.9
    for better, worse in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1e-9, 0.0), (0.99, 0.01)):
        for n in (0.01, 0.5, 2.0, 1e9):
            low, high = tango(better, worse, n)
            assert -1 <= low <= better - worse + 1e-9
            assert better - worse - 1e-9 <= high <= 1


def test_paired_difference_of_one_cell_is_tangos():
    (cell,) = two_methods(np.random.default_rng(0), 200, 1, 0.4)
    better = float(np.mean(cell.correct_b & ~cell.correct_a))
    worse = float(np.mean(cell.correct_a & ~cell.correct_b))
    mean, interval = paired_difference([cell])
    assert mean == pytest.approx(better - worse)
    assert interval == pytest.approx(tango(better, worse, 200), abs=1e-6)


def test_copies_tell_nothing_new():
    (cell,) = two_methods(np.random.default_rng(0), 200, 1, 0.4)
    mean, (low, high) = paired_difference([cell])
    a, b = np.repeat(cell.correct_a, 4), np.repeat(cell.correct_b, 4)
    groups = np.repeat(np.arange(200) * 5 - 3, 4)
    copied, by_group = paired_difference([Cell("t", a, b, groups)])
    assert copied == pytest.approx(mean)
    assert by_group == pytest.approx((low, high), abs=1e-3)
    naive_low, naive_high = paired_difference([Cell("t", a, b)])[1]
    assert naive_high - naive_low == pytest.approx((high - low) / 2, rel=0.05)
    # And for the test: five groups on which B alone is right are five images.
    alike = np.repeat(np.arange(5), 8)
    never, always = np.zeros(40, bool), np.ones(40, bool)
    assert sign_test([(never, always)], alike) == pytest.approx(2 / 2**5)
    assert sign_test([(never, always)]) == mcnemar_exact(never, always)


def test_a_single_group_tells_nothing_of_others():
    cell = Cell("t", np.zeros(9, bool), np.ones(9, bool), np.zeros(9, np.int64))
    assert paired_difference([cell]) == (1.0, (-1.0, 1.0))
    assert sign_test([(cell.correct_a, cell.correct_b)], cell.groups) == 1.0


def test_cells_of_one_test_set_are_drawn_together():
    # The same models again, as it were: other names make believe that the images were others.
    (cell,) = two_methods(np.random.default_rng(0), 200, 1, 0.4)
    low, high = paired_difference([cell])[1]
    assert paired_difference([cell] * 4)[1] == pytest.approx((low, high), abs=1e-9)
    others = [Cell(name, cell.correct_a, cell.correct_b) for name in "abcd"]
    naive_low, naive_high = paired_difference(others)[1]
    assert naive_high - naive_low == pytest.approx((high - low) / 2, rel=0.15)


def test_methods_that_differ_alike_on_every_image_may_do_otherwise_on_others():
    cell = Cell("t", np.ones(50, bool), np.ones(50, bool))
    largest = wilson(0.0, 50)[1]
    assert paired_difference([cell]) == (0.0, pytest.approx((-largest, largest)))
    # Two test sets of 50 tell as much as one of 100.
    twice = [cell, Cell("u", cell.correct_a, cell.correct_b)]
    assert paired_difference(twice)[1][1] == pytest.approx(wilson(0.0, 100)[1])
    always = Cell("t", ~cell.correct_a, cell.correct_b)
    # Other images may have gone against it, too: twice as far as with no difference.
    assert paired_difference([always]) == (1.0, pytest.approx((1 - 2 * largest, 1.0), abs=1e-6))


def test_paired_difference_refuses_different_images():
    short, long = np.ones(3, bool), np.ones(4, bool)
    for cells in (
        [Cell("t", short, long)],
        [Cell("t", short, short), Cell("t", long, long)],
        [Cell("t", short[:0], short[:0])],
    ):
        with pytest.raises(ValueError, match="same images"):
            paired_difference(cells)
    with pytest.raises(ValueError, match="at least one cell"):
        paired_difference([])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "seeds", "gain"), [((60, 60), 3, 0.0), ((60, 60), 3, 0.4), ((150,), 1, 0.3)]
)
def test_paired_difference_coverage(images, seeds, gain):
    hits = 0
    for run in range(2000):
        rng = np.random.default_rng(run)
        cells = [
            cell
            for name, n in enumerate(images)
            for cell in two_methods(rng, n, seeds, gain, test_set=name)
        ]
        low, high = paired_difference(cells)[1]
        hits += low <= true_gain(gain) <= high
    assert 0.93 <= hits / 2000 <= 0.97
