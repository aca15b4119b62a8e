"""The page of a certificate in a real browser, at three widths, in light and dark."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import pytest
from browser_pages import MARKS, Visit, launched

from headstart.certificate.learning_curve import MeasuredCurve
from headstart.certificate.record import ArmName, ArmRun, BenefitPlan, Certificate, Evaluation
from headstart.certificate.verdicts import KNOWN, judge_fraction, judge_labels
from headstart.report.certificate import write_certificate_page

EPOCHS, HELD = 6, 200
SHARES: dict[ArmName, float] = {"pretrained": 0.9, "scratch": 0.5}

pytestmark = MARKS


def arm_run(arm: ArmName, fraction: float) -> ArmRun:
    """A made-up network that gets better with each epoch."""
    order = np.random.default_rng(7).permutation(HELD)
    evaluations = tuple(
        Evaluation(
            epoch=epoch,
            seconds=2.0 * epoch,
            train_loss=None,
            loss=1.5 - epoch / 6,
            right="".join(
                "01"[int(rank < HELD * SHARES[arm] * fraction**0.2 * (1 - 0.5**epoch))]
                for rank in order
            ),
        )
        for epoch in range(EPOCHS + 1)
    )
    return ArmRun(
        purpose="curve", arm=arm, fraction=fraction, seed=0, rate=1e-3,
        images=int(400 * fraction), epochs=EPOCHS, evaluations=evaluations,
    )  # fmt: skip


def measured_curve(images: int) -> MeasuredCurve:
    """A made-up learning curve: more labels, more hits."""
    sizes = tuple(int(images * share) for share in (0.1, 0.2, 0.4, 0.6, 0.8))
    random = np.random.default_rng(1)
    hits = [(random.random(images) < 0.95 - 3 / size).astype(float) for size in sizes]
    every = (random.random(images) < 0.93).astype(float)
    return MeasuredCurve(sizes, np.stack(hits, axis=1), images, every, 1.0)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with two fractions, a forecast and notes."""
    fractions = [
        found
        for share in (0.5, 1.0)
        if (found := judge_fraction([arm_run(arm, share) for arm in SHARES], 0.1)) is not None
    ]
    plan = BenefitPlan(
        pixels="", recipe={}, split_seed=0, epochs=EPOCHS, images=400, held=HELD,
        fractions=(0.5, 1.0), seeds=1, rates=(1e-3,), chosen=dict.fromkeys(SHARES, 1e-3),
    )  # fmt: skip
    certificate = Certificate(
        name="a-folder-with-a-rather-long-name", command="headstart benefit photos --budget 1h",
        started_at="2026-11-30T08:00:00+00:00", seconds=3000.0, budget_s=3600.0,
        backbone="tf_efficientnet_lite0", weights="a package", resolution=224, chance=0.1,
        held=HELD, plan=plan, fractions=tuple(fractions),
        labels=judge_labels(measured_curve(400), measured_curve(int(400 * KNOWN)), 0),
        notes=("One seed was left out to fit the budget.",), versions={"torch": "2.14.1"},
        machine="2 cores",
    )  # fmt: skip
    return write_certificate_page(tmp_path_factory.mktemp("page"), certificate).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Visit]]:
    with ExitStack() as visits:
        yield lambda **how: visits.enter_context(closing(Visit(browser, address, **how)))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_is_accessible_fits_and_asks_for_nothing(
    visit: Callable[..., Visit], address: str, width: int, dark: bool
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = visit(width=width, dark=dark)
    opened.page.wait_for_load_state("networkidle")
    found = {
        (each["id"], each["nodes"][0]["html"][:120], each["nodes"][0].get("failureSummary", ""))
        for each in Axe().run(opened.page).response["violations"]
    }
    assert found == set()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.page.evaluate(overflow) == 0
    assert opened.page.locator("svg:visible").count() == 1, "the charts for this width alone"
    assert opened.said == []
    assert [url for _, url in opened.asked if not url.startswith("data:")] == [address]


def test_it_holds_every_answer(visit: Callable[..., Visit]) -> None:
    text = visit().page.locator("body").inner_text()
    for expected in (
        "Higher start",
        "Higher slope",
        "Higher asymptote",
        "Twice as many labels",
        "One seed",
    ):
        assert expected.lower() in text.lower(), expected
