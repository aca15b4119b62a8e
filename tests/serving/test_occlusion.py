"""Heat maps by hiding parts: worked out by hand for a classifier that looks at one place."""

import numpy as np
import pytest

from headstart.serving.occlusion import heat_of, hidden_views


def test_each_view_hides_another_square_with_the_mean_colour() -> None:
    view = np.zeros((14, 14, 3), np.uint8)
    view[:, 7:] = 200
    hidden = hidden_views(view)
    assert hidden.shape == (36, 14, 14, 3)
    assert (hidden[0, :4, :4] == 100).all()
    assert (hidden[0, 4:] == view[4:]).all() and (hidden[0, :, 4:] == view[:, 4:]).all()
    assert (hidden[35, 10:, 10:] == 100).all()
    assert (hidden[1, :4, 2:6] == 100).all() and (hidden[1, :4, :2] == 0).all()


def test_heat_is_where_the_classifier_looks() -> None:
    """The first class gets 2 as long as the top left cell is there, which only one square hides."""
    hidden = np.array([[2.0, 0.0]] * 36)
    hidden[0] = [0.0, 0.0]
    heat = np.array(heat_of(np.array([2.0, 0.0]), hidden, 0))
    # Log-odds fall from 2 to 0. One square hides the corner, two its neighbours, four the next.
    assert heat[0, 0] == pytest.approx(2)
    assert heat[0, 1] == heat[1, 0] == pytest.approx(1)
    assert heat[1, 1] == pytest.approx(0.5)
    assert heat[2:].any() == heat[:, 2:].any() == False  # noqa: E712
    other = np.array(heat_of(np.array([2.0, 0.0]), hidden, 1))
    assert np.allclose(other, -heat)
