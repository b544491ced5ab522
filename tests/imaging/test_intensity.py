import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.imaging.intensity import MASKS, RULES, foreground_mask, template_quantiles


def head(gain: float = 1.0, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    image = np.zeros((12, 12, 12), dtype=np.float32)
    image[3:9, 3:9, 3:9] = gain * random.uniform(1, 5, (6, 6, 6)) + offset
    return image, image != 0


@pytest.mark.parametrize("rule", sorted(RULES))
def test_outside_of_the_mask_is_zero(rule: str) -> None:
    image, mask = head()
    assert (RULES[rule](image, mask)[~mask] == 0).all()
    assert RULES[rule](image, mask).dtype == np.float32


@pytest.mark.parametrize("rule", ["zscore", "minmax", "percentile"])
@given(gain=st.floats(0.01, 1000), offset=st.floats(0, 100))
def test_scaling_takes_away_gain_and_offset(rule: str, gain: float, offset: float) -> None:
    image, mask = head()
    other, _ = head(gain, offset)
    assert np.allclose(RULES[rule](image, mask), RULES[rule](other, mask), atol=2e-3)


def test_each_rule_does_what_it_says() -> None:
    image, mask = head()
    z = RULES["zscore"](image, mask)[mask]
    assert z.mean() == pytest.approx(0, abs=1e-5)
    assert z.std() == pytest.approx(1, abs=1e-5)
    m = RULES["minmax"](image, mask)[mask]
    assert (m.min(), m.max()) == (0, 1)
    p = RULES["percentile"](image, mask)[mask]
    assert (p.min(), p.max()) == (0, 1)
    assert 0.005 < (p == 1).mean() < 0.02
    assert np.array_equal(RULES["none"](image, mask), image)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_flat_image_gives_no_nan(rule: str) -> None:
    image = np.full((4, 4, 4), 3, dtype=np.float32)
    assert np.isfinite(RULES[rule](image, image > 0)).all()


def test_masks() -> None:
    image, mask = head()
    noisy = image + np.random.default_rng(1).normal(0, 0.05, image.shape).astype(np.float32)
    assert np.array_equal(MASKS["nonzero"](image), mask)
    assert (foreground_mask(noisy) == mask).mean() > 0.97
    assert MASKS["whole"](image).all()
    assert not foreground_mask(np.zeros((3, 3, 3), dtype=np.float32)).any()


def tissues() -> tuple[np.ndarray, np.ndarray]:
    """Fluid, grey and white matter at 20, 60 and 100, with noise, in a box."""
    random = np.random.default_rng(3)
    image = np.zeros((30, 30, 30), dtype=np.float32)
    image[3:27, 3:27, 3:27] = np.repeat([20.0, 60, 100], 8)[:, None, None]
    noise = random.normal(0, 3, image.shape).astype(np.float32)
    return np.where(image > 0, image + noise, 0).astype(np.float32), image > 0


@given(gain=st.floats(0.01, 1000))
def test_white_matter_is_at_one_whatever_the_gain(gain: float) -> None:
    image, mask = tissues()
    scaled = RULES["white-peak"](image * np.float32(gain), mask)
    assert np.median(scaled[mask & (image > 80)]) == pytest.approx(1, abs=0.02)
    assert np.median(scaled[mask & (image < 40)]) == pytest.approx(0.2, abs=0.02)


@given(gain=st.floats(0.01, 1000), offset=st.floats(-100, 100))
def test_matched_histograms_are_the_templates(gain: float, offset: float) -> None:
    image, mask = tissues()
    matched = RULES["histogram"](image * np.float32(gain) + np.float32(offset), mask)[mask]
    shares = np.linspace(0.02, 0.98, 25)
    assert np.allclose(np.quantile(matched, shares), template_quantiles(shares), atol=0.01)
    order = np.argsort(image[mask])
    assert (np.diff(matched[order]) >= -1e-4).all()
