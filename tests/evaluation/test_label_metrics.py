"""Surface distances against MONAI's, a brute-force reference and known bodies."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from braintune.evaluation.label_metrics import score_label, score_labels
from braintune.evaluation.surface_distances import surface

Spacing = tuple[float, float, float]
SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 1.2, 3.0])] * 3)


@st.composite
def masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of a grid: boxes with holes, single voxels, full or empty ones."""
    shape = draw(st.tuples(*[st.integers(2, 7)] * 3))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    found = []
    for _ in range(2):
        kind = draw(st.sampled_from(["noise", "sparse", "box", "full", "empty", "voxel"]))
        mask = np.zeros(shape, dtype=bool)
        if kind == "noise":
            mask = random.random(shape) < 0.5
        elif kind == "sparse":
            mask = random.random(shape) < 0.06
        elif kind == "box":
            ends = [sorted(random.integers(0, n + 1, 2)) for n in shape]
            mask[tuple(slice(low, high) for low, high in ends)] = True
        elif kind == "full":
            mask[:] = True
        elif kind == "voxel":
            mask[tuple(int(random.integers(n)) for n in shape)] = True
        found.append(mask)
    return found[0], found[1]


def slow_surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with a neighbour across a face that is outside the mask or the image."""
    inside = set(map(tuple, np.argwhere(mask).tolist()))
    steps = [sign * row for row in np.eye(3, dtype=int) for sign in (1, -1)]
    return [
        place
        for place in inside
        if any(tuple((place + step).tolist()) not in inside for step in steps)
    ]


def slow_distances(first: np.ndarray, second: np.ndarray, spacing: Spacing) -> list[float]:
    ours, theirs = (np.reshape(slow_surface(mask), (-1, 3)) * spacing for mask in (first, second))
    if not len(theirs):
        return [math.inf] * len(ours)
    return [min(math.dist(p, q) for q in theirs) for p in ours]


def percentile(values: list[float], share: float) -> float:
    """Linear between the two order statistics around (n - 1) · share."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@settings(max_examples=40, deadline=None)
@given(masks(), SPACINGS)
def test_scores_are_those_of_brute_force(
    pair: tuple[np.ndarray, np.ndarray], spacing: Spacing
) -> None:
    first, second = pair
    scores = score_label(first, second, spacing)
    there, back = (slow_distances(a, b, spacing) for a, b in (pair, pair[::-1]))
    voxel = math.prod(spacing)
    assert sorted(map(tuple, surface(first).tolist())) == sorted(slow_surface(first))
    assert scores.volume_error_mm3 == pytest.approx((first.sum() - second.sum()) * voxel)
    if not first.any() and not second.any():
        assert (scores.dice, scores.nsd, scores.volume_error_mm3) == (1, 1, 0)
        assert math.isnan(scores.hd95)
        assert math.isnan(scores.assd)
    elif not first.any() or not second.any():
        assert (scores.dice, scores.nsd) == (0, 0)
        assert scores.hd95 == scores.assd == math.inf
    else:
        assert scores.hd95 == pytest.approx(max(percentile(there, 0.95), percentile(back, 0.95)))
        assert scores.assd == pytest.approx(sum(there + back) / len(there + back))
        assert scores.nsd == pytest.approx(np.mean([d <= 1.0 for d in there + back]))
        overlap = sum(a and b for a, b in zip(first.ravel(), second.ravel(), strict=True))
        assert scores.dice == pytest.approx(2 * overlap / (first.sum() + second.sum()))


@settings(max_examples=30, deadline=None)
@given(masks(), SPACINGS)
def test_scores_are_monais(pair: tuple[np.ndarray, np.ndarray], spacing: Spacing) -> None:
    scores = score_label(*pair, spacing)
    first, second = (torch.from_numpy(mask)[None, None] for mask in pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty masks
        options = {"include_background": True, "spacing": list(spacing)}
        hd95 = float(compute_hausdorff_distance(first, second, percentile=95, **options))
        assd = float(compute_average_surface_distance(first, second, symmetric=True, **options))
        nsd = float(compute_surface_dice(first, second, [1.0], **options))
        dice = float(compute_dice(first, second, ignore_empty=False))
    assert scores.dice == pytest.approx(dice)
    if pair[0].any() != pair[1].any():
        # MONAI gives infinity or, from the difference of two infinities, NaN.
        assert not math.isfinite(hd95 + assd)
    else:
        assert scores.hd95 == pytest.approx(hd95, rel=1e-5, nan_ok=True)
        assert scores.assd == pytest.approx(assd, rel=1e-5, nan_ok=True)
    if pair[0].any() or pair[1].any():
        assert scores.nsd == pytest.approx(nsd, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(masks(), SPACINGS)
def test_scores_do_not_mind_which_is_first(
    pair: tuple[np.ndarray, np.ndarray], spacing: Spacing
) -> None:
    there, back = score_label(*pair, spacing), score_label(*pair[::-1], spacing)
    for name in ("dice", "hd95", "assd", "nsd"):
        assert getattr(there, name) == pytest.approx(getattr(back, name), nan_ok=True)


def test_hd95_is_not_the_maximum() -> None:
    """One stray voxel among hundreds is no 95th percentile."""
    reference = np.zeros((30, 12, 12), dtype=bool)
    reference[2:12, 1:11, 1:11] = True
    predicted = reference.copy()
    predicted[29, 6, 6] = True
    scores = score_label(predicted, reference, (1.0, 1.0, 1.0))
    assert scores.hd95 == 0
    assert scores.assd == pytest.approx(18 / (2 * len(slow_surface(reference)) + 1))


@pytest.mark.parametrize("axis", range(3))
def test_a_shift_is_measured_in_millimetres_along_its_axis(axis: int) -> None:
    spacing = (0.7, 1.3, 2.9)
    plane = np.zeros((9, 9, 9), dtype=bool)
    plane[tuple(2 if a == axis else slice(None) for a in range(3))] = True
    scores = score_label(np.roll(plane, 3, axis), plane, spacing)
    assert scores.hd95 == pytest.approx(3 * spacing[axis])
    assert scores.assd == pytest.approx(3 * spacing[axis])
    assert scores.nsd == 0
    assert scores.volume_mm3 == pytest.approx(81 * 0.7 * 1.3 * 2.9)
    assert scores.volume_error_percent == 0


def test_labels_are_scored_one_by_one() -> None:
    predicted, reference = np.zeros((2, 4, 4, 4), dtype=np.uint8)
    predicted[0], predicted[1], reference[:2] = 1, 2, 2
    one, two = score_labels(predicted, reference, (1.0, 1.0, 1.0), 2)
    assert (one.dice, one.hd95, one.reference_mm3) == (0, math.inf, 0)
    assert math.isnan(one.volume_error_percent)
    assert (two.dice, two.volume_error_percent) == (pytest.approx(2 / 3), -50)
