import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, optimize, special

from braintune.imaging.acquisition import along_axes, blur_matrix, ghost_matrix, slice_matrix
from braintune.imaging.augment import STRENGTHS, Strength, augment

NOTHING = Strength(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
SHAPE = (20, 24, 16)
# Three voxels of two images.
KNOWN = {"light": [-0.406999, -0.700572, 0.703462], "standard": [-0.24276, -0.594778, 0.55104]}
CHANGING = [name for name in STRENGTHS if name != "none"]


def brains(count: int = 3) -> torch.Tensor:
    images = torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.avg_pool3d(images, 3, stride=1, padding=1)
    mask = torch.zeros(SHAPE)
    mask[4:-4, 4:-4, 4:-4] = 1
    return images * mask


def only(**amounts: float) -> Strength:
    return Strength(**{**NOTHING.__dict__, **amounts})


def test_no_strength_changes_nothing() -> None:
    images = brains()
    assert torch.allclose(augment(images, [1, 2, 3], NOTHING), images, atol=1e-5)


@pytest.mark.parametrize("name", CHANGING)
def test_the_seed_alone_decides_whatever_the_batch(name: str) -> None:
    images, strength = brains(), STRENGTHS[name]
    assert strength is not None
    together = augment(images, [7, 8, 9], strength)
    alone = torch.cat([augment(images[i : i + 1], [7 + i], strength) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together, augment(images, [7, 8, 10], strength), atol=1e-3)


@pytest.mark.parametrize("name", CHANGING)
def test_the_background_stays_zero_and_values_finite(name: str) -> None:
    strength = STRENGTHS[name]
    assert strength is not None
    result = augment(brains(), [1, 2, 3], strength)
    assert torch.isfinite(result).all()
    assert (result[:, :, 0, 0, 0] == 0).all()
    assert result.shape == (3, 1, *SHAPE)


def test_a_flip_swaps_left_and_right_exactly() -> None:
    images = brains()
    result = augment(images, [1, 2, 3], only(flip=1.0))
    assert torch.allclose(result, images.flip(2), atol=1e-5)


def test_flips_come_as_often_as_asked() -> None:
    images = brains(1).expand(200, -1, -1, -1, -1)
    result = augment(images, range(200), only(flip=0.3))
    flipped = [torch.allclose(r, images[0].flip(1), atol=1e-4) for r in result]
    assert 0.2 < sum(flipped) / 200 < 0.4


def test_a_shift_moves_by_whole_voxels() -> None:
    images = brains(50)
    result = augment(images, range(50), only(shift=0.1))
    places = []
    for before, after in zip(images, result, strict=True):
        x = torch.arange(SHAPE[0]).view(1, -1, 1, 1)
        weight_before, weight_after = before.abs(), after.abs()
        places.append(
            float((weight_after * x).sum() / weight_after.sum())
            - float((weight_before * x).sum() / weight_before.sum())
        )
    assert 0.5 < max(abs(p) for p in places) <= 0.1 * (SHAPE[0] - 1) + 0.2


def test_scale_changes_the_volume_within_its_range() -> None:
    images = (brains(40) != 0).float()
    result = augment(images, range(40), only(scale=0.1))
    ratio = result.sum(dim=(1, 2, 3, 4)) / images.sum(dim=(1, 2, 3, 4))
    assert ratio.max() < 1.1**3 * 1.1
    assert ratio.min() > 0.9**3 * 0.9
    assert ratio.std() > 0.05


def test_rotation_keeps_the_volume() -> None:
    images = (brains(20) != 0).float()
    result = augment(images, range(20), only(rotate=15.0))
    ratio = result.sum(dim=(1, 2, 3, 4)) / images.sum(dim=(1, 2, 3, 4))
    assert torch.allclose(ratio, torch.ones(20), atol=0.05)
    assert not torch.allclose(result, images, atol=0.1)


@pytest.mark.parametrize(
    ("amounts", "low", "high"),
    [
        ({"gain": 0.2}, 0.7, 1.3),
        ({"bias": 0.2}, 0.4, 2.5),
    ],
)
def test_intensity_is_multiplied_within_its_range(
    amounts: dict[str, float], low: float, high: float
) -> None:
    images = brains(20)
    ratio = (augment(images, range(20), only(**amounts)) / images)[images != 0]
    assert low < ratio.min() < 1 < ratio.max() < high


def test_gamma_keeps_order_and_ends() -> None:
    image = brains(1)
    result = augment(image, [3], only(gamma=0.5))
    inside = image != 0
    order = image[inside].argsort()
    assert (result[inside][order].diff() >= -1e-5).all()
    assert result.max() == pytest.approx(float(image.max()), abs=1e-4)


def test_noise_has_its_deviation_and_no_colour() -> None:
    images = torch.ones(4, 1, *SHAPE)
    noise = augment(images, range(4), only(noise=0.1)) - 1
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert abs(float((noise[0, 0, 1:] * noise[0, 0, :-1]).mean())) < 0.001


def textures(count: int = 3) -> torch.Tensor:
    """Images without a background."""
    return torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(1)) + 5


@pytest.mark.parametrize("name", ["light", "standard"])
def test_known_strengths_draw_what_they_always_drew(name: str) -> None:
    """Runs of an earlier version go on as they began."""
    images = torch.linspace(-1, 1, 2 * 16**3).reshape(2, 1, 16, 16, 16)
    strength = STRENGTHS[name]
    assert strength is not None
    result = augment(images, [3, 10**15], strength)
    places = [result[0, 0, 8, 8, 8], result[0, 0, 3, 9, 5], result[1, 0, 5, 5, 5]]
    assert [float(value) for value in places] == pytest.approx(KNOWN[name], abs=1e-5)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_scipys_gaussian(sigma: float) -> None:
    images = textures()
    matrices = [[blur_matrix(n, sigma) for n in SHAPE]] * 3
    for result, image in zip(along_axes(images, matrices), images, strict=True):
        expected = ndimage.gaussian_filter(image[0].double().numpy(), sigma, mode="constant")
        assert np.allclose(result[0].numpy(), expected, atol=1e-4)


def test_augmentation_blurs_by_one_sigma_a_scan() -> None:
    images = textures(6)
    found = []
    for result, image in zip(augment(images, range(6), only(blur=1.5)), images, strict=True):
        source, wanted = image[0].double().numpy(), result[0].double().numpy()

        def distance(
            sigma: float, source: np.ndarray = source, wanted: np.ndarray = wanted
        ) -> float:
            blurred = ndimage.gaussian_filter(source, sigma, mode="constant")
            return float(np.abs(blurred - wanted).mean())

        least = optimize.minimize_scalar(distance, bounds=(0.01, 1.6), method="bounded")
        assert least.fun < 2e-3
        found.append(least.x)
    assert max(found) <= 1.5
    assert np.std(found) > 0.1


@pytest.mark.parametrize(("n", "slices"), [(12, 4), (12, 6), (10, 5), (9, 9), (8, 1)])
def test_thick_slices_are_means_and_back(n: int, slices: int) -> None:
    values = torch.randn(1, 1, n, dtype=torch.float64)
    means = values.reshape(1, 1, slices, -1).mean(dim=3)
    expected = F.interpolate(means, size=n, mode="linear")[0, 0]
    assert np.allclose(slice_matrix(n, slices) @ values[0, 0].numpy(), expected)


@pytest.mark.parametrize(("n", "slices"), [(80, 53), (7, 3), (5, 4)])
def test_slices_may_begin_within_a_voxel(n: int, slices: int) -> None:
    """Each voxel is cut into as many parts as there are slices, so that slices are whole parts."""
    values = np.random.default_rng(0).normal(size=n)
    means = np.repeat(values, slices).reshape(slices, n).mean(axis=1)
    middles = (np.arange(slices) + 0.5) * n / slices - 0.5
    expected = np.interp(np.arange(n), middles, means)
    assert np.allclose(slice_matrix(n, slices) @ values, expected)
    assert np.allclose(slice_matrix(n, slices).sum(axis=1), 1)


def test_low_resolution_is_along_one_axis() -> None:
    images = textures(8)
    axes = set()
    for result, image in zip(
        augment(images, range(8), only(low_resolution=3.0)), images, strict=True
    ):
        matches = [
            (axis, slices)
            for axis, n in enumerate(SHAPE)
            for slices in range(n // 3, n)
            if np.allclose(
                np.moveaxis(
                    np.tensordot(slice_matrix(n, slices), image[0].numpy(), (1, axis)), 0, axis
                ),
                result[0].numpy(),
                atol=1e-4,
            )
        ]
        assert len(matches) == 1
        axes.add(matches[0][0])
    assert len(axes) > 1


@pytest.mark.parametrize(("n", "ghosts"), [(81, 3), (45, 5), (35, 7)])
def test_ghosts_are_shifted_copies_with_bessel_weights(n: int, ghosts: int) -> None:
    image, phase = np.random.default_rng(0).normal(size=n), 0.8
    expected = sum(
        special.jv(order, phase) * np.roll(image, -order * n // ghosts) for order in range(-12, 13)
    )
    assert np.allclose(ghost_matrix(n, ghosts, phase) @ image, expected, atol=1e-6)


@pytest.mark.parametrize("n", [20, 21, 80])
@pytest.mark.parametrize("ghosts", [3, 4, 10])
def test_ghosting_keeps_energy_and_mean(n: int, ghosts: int) -> None:
    matrix = ghost_matrix(n, ghosts, 0.7)
    assert np.allclose(matrix @ matrix.T, np.eye(n), atol=1e-10)
    assert np.allclose(matrix.sum(axis=0), 1)
    assert np.allclose(np.roll(matrix, (1, 1), (0, 1)), matrix)


def test_ghosting_is_along_one_axis_and_keeps_the_image() -> None:
    images = textures(8)
    axes = set()
    for result, image in zip(augment(images, range(8), only(ghosting=0.5)), images, strict=True):
        assert float(result.square().sum()) == pytest.approx(float(image.square().sum()), rel=1e-4)
        assert not torch.allclose(result, image, atol=1e-3)
        same = [torch.allclose(result.sum(a), image.sum(a), atol=1e-2) for a in (1, 2, 3)]
        axes.add(tuple(same))
        assert sum(same) == 1
    assert len(axes) > 1


def test_a_crop_is_a_box_of_the_images_form_that_fills_it() -> None:
    """An image of positions tells where each voxel was taken from."""
    axes = [torch.linspace(1, 2, n) for n in SHAPE]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    result = augment(positions.expand(20, -1, -1, -1, -1), range(20), only(crop=0.4))
    edges = []
    for image in result:
        low, high = image[:, 0, 0, 0], image[:, -1, -1, -1]
        edge = float((high - low)[0])
        assert (high - low).tolist() == pytest.approx([edge] * 3, abs=1e-4)
        assert low.min() >= 1 - 1e-4
        assert high.max() <= 2 + 1e-4
        expected = torch.stack(
            torch.meshgrid(
                *[
                    torch.linspace(float(a), float(b), n)
                    for a, b, n in zip(low, high, SHAPE, strict=True)
                ],
                indexing="ij",
            )
        )
        assert torch.allclose(image, expected, atol=1e-4)
        edges.append(edge)
    assert min(edges) >= 0.6 - 1e-4
    assert np.ptp(edges) > 0.2


def test_a_cutout_is_one_box_of_the_images_form() -> None:
    images = torch.ones(30, 2, *SHAPE)
    shares = []
    for image in augment(images, range(30), only(cutout=0.6)):
        gone = torch.nonzero(image[0] == 0)
        assert torch.equal(image[0], image[1])
        if not len(gone):
            continue
        edges = (gone.amax(dim=0) - gone.amin(dim=0) + 1).tolist()
        assert len(gone) == np.prod(edges)
        share = edges[1] / SHAPE[1]
        assert edges == [pytest.approx(share * n, abs=1.01) for n in SHAPE]
        shares.append(share)
    assert 0.4 < max(shares) <= 0.6


def test_one_kind_leaves_the_draws_of_the_others() -> None:
    images = textures()
    blurred = augment(images, [1, 2, 3], only(blur=1.0))
    both = augment(images, [1, 2, 3], only(blur=1.0, cutout=0.5))
    assert torch.equal(both[both != 0], blurred[both != 0])
    assert (both == 0).any()
