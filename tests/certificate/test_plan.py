"""What of a certificate fits into a budget."""

import pytest

from headstart.certificate.plan import FEWEST_EPOCHS, MOST_EPOCHS, fit_to_budget, least_passes
from headstart.errors import BudgetError


def test_what_fits_into_a_budget() -> None:
    given = {"images": 800, "held": 150, "classes": 10, "fractions": (0.25, 1.0), "seeds": 2}
    epochs, images, seeds, notes = fit_to_budget(10_000, 0.01, **given)
    assert (epochs, images, seeds, notes) == (MOST_EPOCHS, 800, 2, ())
    epochs, images, seeds, notes = fit_to_budget(300, 0.01, **given)
    assert FEWEST_EPOCHS <= epochs < MOST_EPOCHS and images == 800
    epochs, images, seeds, notes = fit_to_budget(150, 0.02, **given)
    assert epochs == FEWEST_EPOCHS and 80 <= images < 800 and seeds == 2
    assert "of 800 training images" in notes[0]
    assert fit_to_budget(60, 0.02, **given)[2] == 1
    with pytest.raises(BudgetError, match="too short to train 4 networks"):
        fit_to_budget(20, 0.02, **given)


@pytest.mark.parametrize("sizes", [[200] * 10, [30] * 10, [9, 12, 500], [8] * 40])
def test_what_is_refused_before_decoding_would_be_refused_after_it(sizes: list[int]) -> None:
    pass_s, fractions = 0.01, (0.25, 1.0)
    seconds = least_passes(sizes, fractions) * pass_s
    with pytest.raises(BudgetError):
        fit_to_budget(
            seconds, 2 * pass_s, sum(sizes) // 2, sum(sizes) // 5, len(sizes), fractions, 2
        )


def test_classes_that_may_be_left_out_are_not_counted() -> None:
    assert least_passes([100, 100, 7, 1], (1.0,)) == 2 * 2 * 6 * 16
    assert least_passes([10, 10], (0.5,)) == 2 * 2 * 6 * 10 * 0.5
    assert least_passes([3, 3], (1.0,)) == 0
