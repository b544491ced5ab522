"""The 3D ResNets against MONAI's, which share weights but not always the function."""

import pytest
import torch
from monai.networks import nets

from braintune.models.backbone import InputShape, build_backbone


def ours(name: str, stride: int) -> torch.nn.Module:
    torch.manual_seed(1)
    options = {"width": 8, "output_stride": stride}
    return build_backbone(name, InputShape(1, (64, 64, 64)), options).eval()


def monais(name: str) -> torch.nn.Module:
    widths = [8, 16, 32, 64]
    depths = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2], "resnet50": [3, 4, 6, 3]}
    return nets.ResNet(
        "bottleneck" if name == "resnet50" else "basic",
        depths[name],
        widths,
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type="A" if name == "resnet18" else "B",
        feed_forward=False,
        bias_downsample=False,
    ).eval()


def features_of_both(name: str, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What ours and MONAI's network say to the same images with the same weights."""
    network, reference = ours(name, stride), monais(name)
    reference.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 64, 64, 64)
    with torch.no_grad():
        return network(images), reference(images)


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet50"])
def test_stride_32_is_monais_network(name: str) -> None:
    assert torch.allclose(*features_of_both(name, 32), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet50"])
def test_stride_8_has_the_same_weights_and_is_another_network(name: str) -> None:
    assert not torch.allclose(*features_of_both(name, 8), atol=1e-2)


@pytest.mark.parametrize(("stride", "edge"), [(8, 8), (16, 4), (32, 2)])
def test_the_last_map_is_as_coarse_as_asked(stride: int, edge: int) -> None:
    network = ours("resnet18", stride)
    shapes = []
    network.layer4.register_forward_hook(lambda *a: shapes.append(a[2].shape[2:]))
    with torch.no_grad():
        network(torch.randn(1, 1, 64, 64, 64))
    assert shapes == [torch.Size([edge] * 3)]
