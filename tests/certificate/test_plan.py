"""What of a certificate fits into a budget."""

import pytest

from headstart.certificate.plan import FEWEST_EPOCHS, MOST_EPOCHS, fit_to_budget
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
