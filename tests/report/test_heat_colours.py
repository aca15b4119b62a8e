import numpy as np

from headstart.report.heat_colours import in_colour, scale


def test_support_is_yellow_and_none_is_violet_over_grey() -> None:
    view = np.zeros((1, 3, 3), np.uint8)
    view[0, 2] = (255, 0, 0)
    drawn = in_colour(view, np.array([[0.0, 1.0, 7.0]])).astype(int)
    # The ends of viridis are (.267, .005, .329) and (.993, .906, .144); 0.55 · 255 of them.
    assert drawn[0, 0].tolist() == [37, 1, 46]
    assert drawn[0, 1].tolist() == [139, 127, 20]
    # Red has a luma of 0.299 · 255 = 76.2, of which 0.45 are added; 7 counts as 1.
    assert drawn[0, 2].tolist() == [174, 161, 54]


def test_more_support_is_lighter() -> None:
    heat = np.linspace(0, 1, 33)[None]
    drawn = in_colour(np.full((1, 33, 3), 90, np.uint8), heat).astype(float)
    light = drawn[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()


def test_the_scale_is_that_of_the_maps() -> None:
    assert scale().startswith("linear-gradient(to right, rgb(68 1 84), ")
    assert scale().endswith("rgb(253 231 37))")
