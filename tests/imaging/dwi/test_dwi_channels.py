"""Images of several channels go through augmentation and into every network."""

import pytest
import torch

from braintune.imaging.augment import STRENGTHS, augment
from braintune.models.backbone import BACKBONES, InputShape, build_backbone


def blob() -> torch.Tensor:
    """A smooth blob off the middle, of shape (1, 1, 24, 26, 22)."""
    axes = [torch.linspace(-1, 1, n) for n in (24, 26, 22)]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return torch.exp(-8 * ((x - 0.2) ** 2 + (y + 0.1) ** 2 + z**2))[None, None]


@pytest.mark.parametrize("name", ["light", "standard", "heavy"])
def test_channels_of_a_scan_move_together(name: str) -> None:
    """Equal channels lie at the same place afterwards, whatever else has changed."""
    strength = STRENGTHS[name]
    assert strength is not None
    image = 10 * blob() + 0.1  # far above the noise that is drawn for each channel
    moved = augment(image.repeat(3, 2, 1, 1, 1), [1, 2, 3], strength)
    assert moved.shape == (3, 2, 24, 26, 22)
    assert torch.isfinite(moved).all()
    for scan in moved:
        first, second = (channel.flatten() for channel in scan)
        assert torch.corrcoef(torch.stack([first, second]))[0, 1] > 0.97
    assert not torch.allclose(moved[0], moved[1])


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_backbone_takes_a_channel_a_map(name: str) -> None:
    shape = BACKBONES.get(name).published.shape
    with torch.device("meta"):
        backbone = build_backbone(name, InputShape(2, shape), {})
        assert backbone(torch.empty(2, 2, *shape)).shape == (2, backbone.n_features)
