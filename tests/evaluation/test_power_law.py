"""Planted power laws are found, and what they foretell is right as often as said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import curve_fit

from braintune.errors import InputError
from braintune.evaluation.power_law import fit_power_laws

SIZES = np.array([10.0, 20, 40, 80, 160, 320])


@given(scale=st.floats(1, 50), slope=st.floats(0.2, 1.5), floor=st.floats(0, 5))
@settings(max_examples=25)
def test_a_planted_law_is_found(scale: float, slope: float, floor: float) -> None:
    planted = scale * SIZES**-slope + floor
    law = fit_power_laws(SIZES, planted[None])
    # The curve is found sharply, though its three numbers lean on each other.
    np.testing.assert_allclose(law.at(SIZES)[0], planted, atol=0.002 * planted[0])
    assert law.slope[0] == pytest.approx(slope, rel=0.05)
    assert law.floor[0] == pytest.approx(floor, abs=0.05 * planted[0])


@given(scale=st.floats(5, 50), slope=st.floats(0.3, 1.0), floor=st.floats(0, 2))
@settings(max_examples=15)
def test_the_subjects_of_a_score_are_those_of_the_law(scale, slope, floor) -> None:
    law = fit_power_laws(SIZES, (scale * SIZES**-slope + floor)[None])
    for size in (50.0, 500.0):
        wish = float(law.at(np.array([size]))[0, 0])
        assert law.needed(wish)[0] == pytest.approx(size, rel=1e-6)
    assert np.isinf(law.needed(float(law.floor[0])))
    assert np.isinf(law.needed(float(law.floor[0]) - 1))


@given(st.lists(st.floats(0.1, 50), min_size=6, max_size=6))
@settings(max_examples=25)
def test_scale_and_floor_are_never_below_zero(errors: list[float]) -> None:
    """Whatever the scores: also rising or zig-zag ones."""
    law = fit_power_laws(SIZES, np.array(errors)[None])
    assert law.scale[0] >= 0
    assert law.floor[0] >= 0
    flat = ((np.mean(errors) - errors) ** 2).sum()
    assert ((law.at(SIZES)[0] - errors) ** 2).sum() <= flat + 1e-9


def test_many_curves_are_fitted_as_each_alone() -> None:
    random = np.random.default_rng(0)
    errors = 30 * SIZES**-0.5 + 3 + random.normal(0, 0.3, (20, 6))
    together = fit_power_laws(SIZES, errors)
    for number, curve in enumerate(errors):
        alone = fit_power_laws(SIZES, curve[None])
        assert together.at(SIZES)[number] == pytest.approx(alone.at(SIZES)[0], rel=0.01)


def test_the_fit_is_that_of_general_least_squares() -> None:
    random = np.random.default_rng(1)
    errors = 30 * SIZES**-0.6 + 3 + random.normal(0, 0.2, 6)
    law = fit_power_laws(SIZES, errors[None])

    def function(n, a, b, c):
        return a * n**-b + c

    found, _ = curve_fit(function, SIZES, errors, p0=(30, 0.5, 3), bounds=(0, [1e3, 3, 50]))
    ours = ((law.at(SIZES)[0] - errors) ** 2).sum()
    theirs = ((function(SIZES, *found) - errors) ** 2).sum()
    assert ours <= theirs * 1.01


def test_intervals_of_the_wished_number_cover_it() -> None:
    """100 curves with known noise: 95 % intervals of drawn curves hold the true number."""
    random = np.random.default_rng(2)
    truth = 40 * SIZES**-0.5 + 4
    wish = 5.0
    needed = (40 / (wish - 4)) ** 2
    covered = 0
    for _ in range(100):
        seen = truth + random.normal(0, 0.25, 6)
        drawn = seen + random.normal(0, 0.25, (200, 6))
        low, high = np.quantile(
            fit_power_laws(SIZES, drawn).needed(wish), [0.025, 0.975], method="inverted_cdf"
        )
        covered += low <= needed <= high
    low, _ = stats.binom.interval(0.999, 100, 0.95)
    assert covered >= low


def test_two_sizes_are_no_curve() -> None:
    with pytest.raises(InputError, match="3 numbers of subjects or more, not 2"):
        fit_power_laws(np.array([10.0, 20]), np.ones((1, 2)))


def test_three_sizes_have_no_floor() -> None:
    sizes = SIZES[:3]
    law = fit_power_laws(sizes, (20 * sizes**-0.5)[None])
    assert law.floor[0] == 0
    assert law.slope[0] == pytest.approx(0.5, abs=0.02)
