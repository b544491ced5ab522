"""Scans made worse: nothing at amount 0, more at more, the same twice, scaled as prepared."""

import numpy as np
import pytest

from braintune.recipe import PrepareRecipe
from braintune.synthesis.corruptions import CORRUPTIONS, Corruption, corrupt

every = pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda c: c.name)
ZSCORE = PrepareRecipe(spacing=3.0, shape=(24, 26, 22))


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """A ball of smooth structure, with intensities as prepared: mean 0, deviation 1."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (24, 26, 22)], indexing="ij"))
    brain = (grid**2).sum(0) < 0.6
    values = np.cos(3 * grid[0]) + np.sin(4 * grid[1]) * np.cos(2 * grid[2])
    values = (values - values[brain].mean()) / values[brain].std()
    return np.where(brain, values, 0)[None].astype(np.float16)


@every
def test_nothing_changes_nothing(corruption: Corruption, scan: np.ndarray) -> None:
    same = corrupt(scan, corruption, 0.0, ZSCORE, 3)
    assert np.abs(same.astype(float) - scan.astype(float)).max() < 0.02


@every
def test_more_is_worse_and_the_same_twice(corruption: Corruption, scan: np.ndarray) -> None:
    worse = [corrupt(scan, corruption, amount, ZSCORE, 3) for amount in corruption.amounts]
    away = [float(np.abs(w.astype(float) - scan.astype(float)).mean()) for w in worse]
    assert away == sorted(away)
    assert away[0] > 0
    again = corrupt(scan, corruption, corruption.amounts[2], ZSCORE, 3)
    assert np.array_equal(again, worse[2])
    if corruption.name != "blur":
        others = [corrupt(scan, corruption, corruption.amounts[2], ZSCORE, s) for s in range(4, 9)]
        assert any(not np.array_equal(other, worse[2]) for other in others)


@every
def test_intensities_are_scaled_as_prepared(corruption: Corruption, scan: np.ndarray) -> None:
    """Gain and offset that a corruption brings are gone, as a new preparation would take them."""
    worse = corrupt(scan, corruption, corruption.amounts[3], ZSCORE, 5).astype(float)[0]
    inside = worse[scan[0] != 0] if corruption.name != "rotation" else worse[worse != 0]
    assert inside.mean() == pytest.approx(0, abs=0.02)
    assert inside.std() == pytest.approx(1, abs=0.03)
    assert np.isfinite(worse).all()


def test_slices_that_are_missing_are_as_many_as_said() -> None:
    (slices,) = [c for c in CORRUPTIONS if c.name == "missing_slices"]
    recipe = PrepareRecipe(spacing=3.0, shape=(24, 26, 22), intensity="minmax")
    full = np.broadcast_to(np.linspace(1, 2, 24)[:, None, None], (1, 24, 26, 22))
    full = full.astype(np.float16)
    worse = corrupt(full, slices, 0.5, recipe, 0)[0].astype(float)
    flat = sum(np.ptp(worse[:, :, z]) == 0 for z in range(22))
    assert flat == 11


def test_a_turned_head_is_that_of_a_turned_scan() -> None:
    """A plane across the axis of turning stays; a ball around the centre does too."""
    (rotation,) = [c for c in CORRUPTIONS if c.name == "rotation"]
    grid = np.stack(np.meshgrid(*[np.arange(21) - 10.0] * 3, indexing="ij"))
    distance = np.sqrt((grid**2).sum(0))
    ball = np.where(distance < 8, 10 - distance, 0)[None].astype(np.float16)
    recipe = PrepareRecipe(spacing=2.0, shape=(21, 21, 21), intensity="minmax")
    turned = corrupt(ball, rotation, 30.0, recipe, 1)[0].astype(float)
    same = corrupt(ball, rotation, 0.0, recipe, 1)[0].astype(float)
    inner = distance < 6
    assert np.abs(turned - same)[inner].mean() < 0.05
