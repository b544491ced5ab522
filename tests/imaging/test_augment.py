import pytest
import torch

from braintune.imaging.augment import STRENGTHS, Strength, augment

NOTHING = Strength(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
SHAPE = (20, 24, 16)
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
