"""Flags: absolute limits for any cohort, robust outliers for large ones, each with a reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.imaging.quality.limits import FEWEST_SCANS, LIMITS, flag_cohort

USUAL = {
    "snr": 15.0,
    "cnr": 2.5,
    "fber": 1000.0,
    "brain_ml": 1400.0,
    "template_dice": 0.94,
    "similarity": 0.85,
    "border_cm2": 0.0,
}


def cohort(count: int, **change: float) -> list[dict[str, float]]:
    """Scans that differ by a few percent; the last one is changed."""
    rng = np.random.default_rng(0)
    rows = [
        {name: value * float(rng.normal(1, 0.01)) for name, value in USUAL.items()}
        for _ in range(count)
    ]
    rows[-1] |= change
    return rows


def test_a_usual_cohort_has_no_flags() -> None:
    assert not any(flag_cohort(cohort(40)))


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("brain_ml", 300.0),
        ("brain_ml", 2900.0),
        ("template_dice", 0.6),
        ("similarity", 0.1),
        ("border_cm2", 9.0),
        ("cnr", -0.2),
    ],
)
@pytest.mark.parametrize("count", [1, 30])
def test_what_no_brain_can_be_is_flagged_in_any_cohort(
    measure: str, value: float, count: int
) -> None:
    flags = flag_cohort(cohort(count, **{measure: value}))
    assert [flag.measure for flag in flags[-1]] == [measure]
    assert LIMITS[measure].because in flags[-1][0].reason
    assert not any(flags[:-1])


@pytest.mark.parametrize(
    ("measure", "value"),
    [("snr", 9.0), ("cnr", 1.5), ("fber", 100.0), ("brain_ml", 900.0), ("template_dice", 0.88)],
)
def test_outliers_need_a_cohort(measure: str, value: float) -> None:
    large = flag_cohort(cohort(30, **{measure: value}))[-1]
    assert [flag.measure for flag in large] == [measure]
    assert "far from this cohort's median" in large[0].reason
    assert flag_cohort(cohort(FEWEST_SCANS - 1, **{measure: value}))[-1] == []


@pytest.mark.parametrize("measure", ["snr", "cnr", "fber", "template_dice", "similarity"])
def test_better_than_usual_is_no_flaw(measure: str) -> None:
    assert flag_cohort(cohort(30, **{measure: USUAL[measure] * 1.5}))[-1] == []


def test_a_tiny_difference_is_no_flaw_however_alike_the_others_are() -> None:
    rows = [dict(USUAL) for _ in range(30)]
    rows[-1]["similarity"] = USUAL["similarity"] - 0.01
    rows[-1]["brain_ml"] = USUAL["brain_ml"] * 0.95
    assert flag_cohort(rows)[-1] == []


def test_unknown_measures_are_not_flagged() -> None:
    rows = cohort(30, snr=float("nan"), fber=float("nan"))
    assert flag_cohort(rows)[-1] == []


@given(share=st.floats(0, 0.4))
def test_outliers_do_not_hide_each_other(share: float) -> None:
    """Mean and deviation would be drawn to many outliers; median and MAD are not."""
    rows = cohort(50)
    bad = int(50 * share)
    for row in rows[:bad]:
        row["snr"] = 4.0
    flags = flag_cohort(rows)
    assert all(flags[:bad])
    assert not any(flags[bad:])
