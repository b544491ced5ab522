import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.imaging.intensity import MASKS, RULES, foreground_mask


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
