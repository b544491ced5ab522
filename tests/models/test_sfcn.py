"""The SFCN against the published description."""

import pytest
import torch
import torch.nn.functional as F

from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone


def published(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Five blocks of convolution, norm, pooling and ReLU, one of 1×1×1, then an average."""
    x = images
    for number in range(6):
        kernel, key = state[f"blocks.{number}.0.weight"], f"blocks.{number}.1"
        x = F.conv3d(x, kernel, state[f"blocks.{number}.0.bias"], padding=kernel.shape[-1] // 2)
        statistics = [
            state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        ]
        x = F.batch_norm(x, *statistics)
        if number < 5:
            x = F.max_pool3d(x, 2)
        x = F.relu(x)
    return F.avg_pool3d(x, x.shape[2:]).flatten(1)


def test_it_is_the_published_network() -> None:
    torch.manual_seed(2)
    options = {"channels": [8, 8, 16, 16, 16, 12]}
    network = build_backbone("sfcn", InputShape(1, (64, 96, 64)), options)
    images = torch.randn(2, 1, 64, 96, 64)
    network(images)
    network.eval()
    with torch.no_grad():
        assert torch.allclose(network(images), published(network.state_dict(), images), atol=1e-5)


def test_published_widths() -> None:
    with torch.device("meta"):
        network = build_backbone("sfcn", InputShape(1, (160, 192, 160)), {})
    assert [block[0].out_channels for block in network.blocks] == [32, 64, 128, 256, 256, 64]


def test_an_instance_norm_needs_more_than_one_voxel() -> None:
    options = {"channels": [4, 4, 4], "norm": "instance"}
    with torch.device("meta"):
        build_backbone("sfcn", InputShape(1, (4, 8, 4)), options)
        with pytest.raises(InputError, match="ends in one voxel"):
            build_backbone("sfcn", InputShape(1, (6, 7, 5)), options)
