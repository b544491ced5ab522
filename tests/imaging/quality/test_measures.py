"""Each measure is what its definition says, on arrays whose truth is planted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.imaging.grid import Grid
from braintune.imaging.nifti import Volume
from braintune.imaging.quality.agreement import border_area, dice, similarity
from braintune.imaging.quality.measure import measure
from braintune.imaging.quality.signal import cnr, fber, head_and_air, snr, spread
from braintune.imaging.quality.template import Template, quality_template

FINE = np.diag([2.0, 2, 2, 1])


def normal(level: float, deviation: float, count: int = 40_000) -> np.ndarray:
    return np.random.default_rng(int(level * 10)).normal(level, deviation, count)


@given(level=st.floats(10, 1000), ratio=st.floats(3, 100))
def test_snr_is_level_over_deviation_whatever_the_scale(level: float, ratio: float) -> None:
    assert snr(normal(level, level / ratio)) == pytest.approx(ratio, rel=0.03)


def test_snr_bears_a_tenth_of_wrong_voxels() -> None:
    mixed = np.concatenate([normal(100, 5), np.zeros(4_000)])
    assert snr(mixed) == pytest.approx(20, rel=0.2)
    assert mixed.mean() / mixed.std() < 4


def test_cnr_divides_the_contrast_by_all_noise() -> None:
    found = cnr(normal(60, 3), normal(100, 4), normal(0, 12))
    assert found == pytest.approx(40 / np.sqrt(9 + 16 + 144), rel=0.03)
    assert cnr(normal(100, 4), normal(60, 3), np.zeros(0)) == pytest.approx(-8, rel=0.03)


def test_energy_ratio_is_of_mean_squares() -> None:
    head, air = normal(50, 10), normal(2, 1)
    assert fber(head, air) == pytest.approx((head**2).mean() / (air**2).mean())
    assert fber(head, air) == pytest.approx(2600 / 5, rel=0.05)


@pytest.mark.parametrize("empty", [np.zeros(0), np.zeros(500), np.ones(10)])
def test_what_can_not_be_told_is_no_number(empty: np.ndarray) -> None:
    assert np.isnan(snr(empty))
    assert np.isnan(cnr(empty, empty, empty))
    assert np.isnan(fber(normal(50, 10), empty))


def test_spread_is_the_deviation_of_normal_values() -> None:
    assert spread(normal(7, 3)) == pytest.approx(3, rel=0.02)


@given(shift=st.integers(0, 10))
def test_dice_of_shifted_bars(shift: int) -> None:
    first, second = np.zeros(30, bool), np.zeros(30, bool)
    first[5:15], second[5 + shift : 15 + shift] = True, True
    assert dice(first, second) == pytest.approx((10 - shift) / 10)
    assert np.isnan(dice(np.zeros(3, bool), np.zeros(3, bool)))


@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_similarity_knows_no_scale_and_no_level(scale: float, shift: float) -> None:
    template = np.arange(500.0)
    assert similarity(scale * template + shift, template) == pytest.approx(1, abs=1e-6)
    assert similarity(-template, template) == pytest.approx(-1)
    assert similarity(np.full(500, shift), template) == 0.0


def test_similarity_is_pearson() -> None:
    first, second = normal(1, 1, 800), normal(2, 1, 800)
    assert similarity(first, second) == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_border_area_counts_the_faces_that_a_mask_touches() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    assert border_area(mask, np.diag([1.0, 2, 3, 1])) == 0
    mask[5:15, 5:15, 15:] = True  # 10 × 10 voxels of 1 mm × 2 mm on the upper face
    assert border_area(mask, np.diag([1.0, 2, 3, 1])) == pytest.approx(2.0)


def test_air_is_outside_of_the_head_and_not_inside_it() -> None:
    index = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij")) - 31.5
    radius = np.sqrt((index**2).sum(axis=0))
    data = np.where(radius < 20, 100, 3).astype(np.float32)
    data[radius < 6] = 3  # a dark hollow within the head
    head, air = head_and_air(Volume(data, np.diag([3.0, 3, 3, 1])))
    assert set(np.unique(air)) == {3}
    assert (head == 3).sum() == (radius < 6).sum()


@pytest.fixture(scope="module")
def template() -> Template:
    return quality_template()


def head_of(template: Template, noise: float = 0.0) -> np.ndarray:
    """Grey matter at 60, white at 100, fluid at 20, air at 0."""
    data = np.where(template.brain, 20, 0).astype(np.float32)
    data[template.t1 > 0.45 * template.t1.max()] = 60
    data[template.gray] = 60
    data[template.white] = 100
    return data + np.random.default_rng(0).normal(0, noise, data.shape).astype(np.float32)


def test_the_template_measured_against_itself(template: Template) -> None:
    volume = Volume(template.t1, template.grid.affine)
    quality = measure(volume, template.brain, np.eye(4), template)
    assert quality.template_dice == 1
    assert quality.similarity == pytest.approx(1)
    assert quality.brain_ml == pytest.approx(template.brain.sum() * 0.008)


@pytest.mark.parametrize("flip", [False, True])
def test_planted_noise_and_contrast_come_back_in_any_space(template: Template, flip: bool) -> None:
    """The scan lies turned and moved in its world; the transform alone leads to the template."""
    data, mask, affine = head_of(template, 5), template.brain, template.grid.affine
    if flip:
        data, mask = data[::-1], mask[::-1]
        affine = affine @ np.array([[-1, 0, 0, data.shape[0] - 1.0], *np.eye(4)[1:]])
    own = np.array([[0, 0, 1.0, 40], [-1, 0, 0, -7], [0, 1, 0, 3], [0, 0, 0, 1]])
    volume = Volume(np.ascontiguousarray(data), own @ affine)
    quality = measure(volume, mask, np.linalg.inv(own), template)
    assert quality.snr == pytest.approx(20, rel=0.05)
    assert quality.cnr == pytest.approx(40 / np.sqrt(75), rel=0.05)
    assert quality.template_dice == pytest.approx(1)
    assert quality.similarity > 0.7


def test_a_wrong_transform_is_seen(template: Template) -> None:
    volume = Volume(head_of(template, 5), template.grid.affine)
    moved = np.eye(4)
    moved[:3, 3] = [0, 20, 10]
    right = measure(volume, template.brain, np.eye(4), template)
    wrong = measure(volume, template.brain, moved, template)
    assert wrong.template_dice < 0.85 < right.template_dice
    assert wrong.similarity < 0.5 < right.similarity
    assert wrong.cnr < right.cnr / 2


def test_noise_does_not_depend_on_the_voxel_size(template: Template) -> None:
    """Interpolation would average noise away, and more of it for small voxels."""
    rng = np.random.default_rng(1)
    sizes = []
    for step in (1, 2):
        white = np.repeat(np.repeat(np.repeat(head_of(template), step, 0), step, 1), step, 2)
        noisy = white + rng.normal(0, 5, white.shape)
        affine = template.grid.affine @ np.diag([1 / step] * 3 + [1])
        affine[:3, 3] = template.grid.affine[:3, 3] - 2 * (1 - 1 / step) / 2
        mask = np.ones(white.shape, bool)
        volume = Volume(noisy.astype(np.float32), affine)
        sizes.append(measure(volume, mask, np.eye(4), template).snr)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_template_maps_lie_on_one_grid(template: Template) -> None:
    assert isinstance(template.grid, Grid)
    for map_ in (template.t1, template.brain, template.gray, template.white):
        assert map_.shape == template.grid.shape
    assert not (template.gray & template.white).any()
    # The origin, the anterior commissure, lies within the brain.
    index = np.linalg.inv(template.grid.affine)[:3, 3].round().astype(int)
    assert template.brain[tuple(index)]
