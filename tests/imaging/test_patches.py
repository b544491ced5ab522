"""Patches of labelled scans: where they lie, and that labels follow their image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braintune.imaging.augment import STRENGTHS, Strength, augment, flipped
from braintune.imaging.patches import Patches, augment_patches, choose_start, cut

STILL = Strength(*[0.0] * 10)
MOVED = Strength(0.5, 12, 0.1, 0.05, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.floats(0, 1),
    st.integers(0, 999),
)
def test_a_patch_lies_within_its_scan_or_around_it(
    shape: tuple[int, int, int], patch: tuple[int, int, int], foreground: float, seed: int
) -> None:
    labels = (np.random.default_rng(seed).random(shape) < 0.1).astype(np.uint8)
    start = choose_start(labels, patch, foreground, seed)
    assert start == choose_start(labels, patch, foreground, seed)
    for s, n, p in zip(start, shape, patch, strict=True):
        if n >= p:
            assert 0 <= s <= n - p
        else:
            assert s == (n - p) // 2 < 0


def test_labels_are_centred_on_equally_often_however_small_they_are() -> None:
    labels = np.zeros((30, 8, 8), dtype=np.uint8)
    labels[2:20], labels[27, 4, 4] = 1, 3
    starts = [choose_start(labels, (3, 3, 3), 0.5, seed) for seed in range(600)]
    on_small = np.mean([start == (26, 3, 3) for start in starts])
    assert on_small == pytest.approx(0.25, abs=0.05)
    assert all(choose_start(labels, (3, 3, 3), 1.0, s)[0] <= 26 for s in range(20))


def test_cutting_pads_with_nothing() -> None:
    scans = torch.arange(1, 28.0).view(1, 1, 3, 3, 3)
    found = cut(scans, Patches((5, 2, 1), [(-1, 1, 2)]))[0, 0]
    assert (found[[0, 4]] == 0).all()
    assert torch.equal(found[1:4], scans[0, 0, :, 1:3, 2:3])


def test_a_still_patch_is_the_cut_out_patch() -> None:
    """Where nothing moves, interpolating is cutting out; also over the edges of a scan."""
    torch.manual_seed(0)
    images = torch.rand(2, 1, 12, 9, 7) + 0.1
    labels = torch.randint(0, 4, (2, 1, 12, 9, 7)).float()
    patches = Patches((6, 5, 11), [(3, 2, -2), (0, 4, -2)])
    found, followed, flips = augment_patches(images, labels, patches, [1, 2], STILL)
    assert torch.allclose(found, cut(images, patches), atol=1e-5)
    assert torch.equal(followed, cut(labels, patches))
    assert flips == [False, False]


def test_labels_follow_their_image() -> None:
    """An image that is its own label map stays so, however it is turned and bent."""
    labels = torch.zeros(4, 1, 24, 24, 24)
    labels[:, :, 4:17, 6:20, 8:15] = 1
    patches = Patches((16, 16, 16), [(2, 4, 3)] * 4)
    images, followed, _ = augment_patches(labels, labels, patches, [1, 2, 3, 4], MOVED)
    sure = (images - 0.5).abs() > 0.3
    assert sure.float().mean() > 0.8
    assert torch.equal((images > 0.5)[sure], followed[sure] == 1)
    assert not torch.equal(followed, cut(labels, patches))


def test_a_patch_of_the_whole_scan_moves_as_the_scan_does() -> None:
    """One definition of geometry: the same seeds move whole scans and their patches alike."""
    torch.manual_seed(0)
    images = torch.rand(2, 1, 16, 18, 14)
    strength = STRENGTHS["heavy"]
    assert strength is not None
    patches = Patches((16, 18, 14), [(0, 0, 0)] * 2)
    found, _, _ = augment_patches(images, torch.zeros_like(images), patches, [5, 6], strength)
    assert torch.allclose(found, augment(images, [5, 6], strength), atol=1e-4)


def test_flips_are_told() -> None:
    """An image of its own position tells by itself whether left and right were swapped."""
    ramp = torch.linspace(1, 2, 12).view(1, 1, -1, 1, 1).expand(8, 1, 12, 6, 6).contiguous()
    patches = Patches((12, 6, 6), [(0, 0, 0)] * 8)
    only_flips = Strength(0.5, *[0.0] * 9)
    seeds = list(range(8))
    found, _, flips = augment_patches(ramp, ramp, patches, seeds, only_flips)
    assert flips == flipped(seeds, only_flips)
    assert flips == [bool(image[0, 0, 3, 3] > image[0, -1, 3, 3]) for image in found]
    assert 0 < sum(flips) < 8
