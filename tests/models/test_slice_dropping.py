"""Dropping slices, by its properties."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.models.slice_dropping import drop_slices, kept_slices

AXES = {"x": 2, "y": 3, "z": 4}
cases = given(
    axis=st.sampled_from(sorted(AXES)),
    keep=st.floats(0.05, 1.0),
    style=st.sampled_from(["random", "ordered"]),
    seed=st.integers(0, 1000),
)


def scans(seed: int) -> torch.Tensor:
    """Scans without zeros, no two slices alike."""
    return torch.rand(2, 2, 7, 9, 8, generator=torch.Generator().manual_seed(seed)) + 1


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cases
def test_dropping_leaves_slices_of_the_scan_in_their_order(
    axis: Any, keep: float, style: Any, seed: int
) -> None:
    images, dim = scans(seed), AXES[axis]
    kept = kept_slices(images.shape[dim], keep, style, seeded(seed))
    dropped = drop_slices(images, axis, keep, style, "drop", seeded(seed))
    assert torch.equal(dropped, images.index_select(dim, kept))
    assert (kept.diff() > 0).all()
    assert len(kept) >= 1
    assert len(kept) <= max(1, images.shape[dim] * keep + 1)


@cases
def test_what_is_imputed_stands_where_slices_were(
    axis: Any, keep: float, style: Any, seed: int
) -> None:
    images, dim = scans(seed), AXES[axis]
    kept = kept_slices(images.shape[dim], keep, style, seeded(seed)).tolist()
    zeros, noise, filled = (
        drop_slices(images, axis, keep, style, impute, seeded(seed))
        for impute in ("zeros", "noise", "fill")
    )
    for index in range(images.shape[dim]):
        truth, zero, random, neighbour = (
            x.select(dim, index) for x in (images, zeros, noise, filled)
        )
        if index in kept:
            assert torch.equal(zero, truth)
            assert torch.equal(random, truth)
            assert torch.equal(neighbour, truth)
        else:
            assert not zero.any()
            assert not torch.isclose(random, truth).all()
            distance = min(abs(index - k) for k in kept)
            near = [k for k in kept if abs(index - k) == distance]
            assert any(torch.equal(neighbour, images.select(dim, k)) for k in near)
    for one, whole in zip(noise, images, strict=True):
        assert whole.min() <= one.min()
        assert one.max() <= whole.max()


def test_the_counts_are_the_published_ones() -> None:
    assert len(kept_slices(91, 0.5, "random")) == 45
    assert len(kept_slices(100, 0.29, "random")) == 29
    assert kept_slices(91, 0.25, "ordered").tolist() == list(range(0, 91, 4))
    assert kept_slices(91, 1 / 3, "ordered").tolist() == list(range(0, 91, 3))
    assert len(kept_slices(91, 0.001, "random")) == 1


@pytest.mark.parametrize("impute", ["drop", "zeros", "noise", "fill"])
def test_keeping_all_changes_nothing_and_the_input_is_left_alone(impute: Any) -> None:
    images = scans(0)
    before = images.clone()
    assert torch.equal(drop_slices(images, "y", 1.0, "random", impute), before)
    drop_slices(images, "y", 0.3, "ordered", impute)
    assert torch.equal(images, before)


def test_no_share_is_refused() -> None:
    for keep in (0.0, 1.5, -1.0):
        with pytest.raises(InputError, match="above 0 and at most 1"):
            drop_slices(scans(0), "x", keep)
