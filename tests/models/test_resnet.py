"""The 3D ResNets against MedicalNet's description, and MONAI's, which is not always it."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets

from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.record import find_record

DEPTHS = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
BOTTLENECKS = {"resnet50", "resnet101"}
SHORTCUT_A = {"resnet18", "resnet34"}


def settled(network: torch.nn.Module) -> torch.nn.Module:
    """Give norms statistics as after training, so that outputs stay of order 1."""
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(4, 1, 40, 40, 40))
    return network.eval()


def ours(name: str, stride: int, width: int = 8) -> torch.nn.Module:
    torch.manual_seed(1)
    options = {"width": width, "output_stride": stride}
    return settled(build_backbone(name, InputShape(1, (64, 64, 64)), options))


def monais(name: str) -> torch.nn.Module:
    return nets.ResNet(
        "bottleneck" if name in BOTTLENECKS else "basic",
        list(DEPTHS[name]),
        [8, 16, 32, 64],
        n_input_channels=1,
        conv1_t_stride=2,
        shortcut_type="A" if name in SHORTCUT_A else "B",
        feed_forward=False,
        bias_downsample=False,
    ).eval()


def norm(state: dict[str, torch.Tensor], key: str, x: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(
        x, *[state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    )


def medicalnet(name: str, state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Features as Chen et al. describe them: no strides after the second stage, but dilation.

    Written with plain functions, from the paper and its figure, as an independent reference.
    """
    x = F.relu(norm(state, "bn1", F.conv3d(images, state["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool3d(x, 3, stride=2, padding=1)
    geometry = ((1, 1), (2, 1), (1, 2), (1, 4))
    for stage, (depth, (stride, dilation)) in enumerate(zip(DEPTHS[name], geometry, strict=True)):
        for index in range(depth):
            key, step = f"layer{stage + 1}.{index}", stride if index == 0 else 1
            x = block(state, key, x, step, dilation, name)
    return x.mean(dim=(2, 3, 4))


def block(
    state: dict[str, torch.Tensor], key: str, x: torch.Tensor, step: int, dilation: int, name: str
) -> torch.Tensor:
    def conv(which: int, y: torch.Tensor, stride: int) -> torch.Tensor:
        kernel = state[f"{key}.conv{which}.weight"]
        wide = kernel.shape[-1] == 3
        y = F.conv3d(
            y, kernel, stride=stride, padding=dilation * wide, dilation=dilation if wide else 1
        )
        return norm(state, f"{key}.bn{which}", y)

    if name in BOTTLENECKS:
        y = conv(3, F.relu(conv(2, F.relu(conv(1, x, 1)), step)), 1)
    else:
        y = conv(2, F.relu(conv(1, x, step)), 1)
    if f"{key}.downsample.0.weight" in state:
        x = F.conv3d(x, state[f"{key}.downsample.0.weight"], stride=step)
        x = norm(state, f"{key}.downsample.1", x)
    elif x.shape != y.shape:
        x = x[:, :, ::step, ::step, ::step]
        x = torch.cat([x, x.new_zeros(len(x), y.shape[1] - x.shape[1], *x.shape[2:])], dim=1)
    return F.relu(x + y)


@pytest.mark.parametrize("name", list(DEPTHS))
def test_stride_32_is_monais_network(name: str) -> None:
    network, reference, images = ours(name, 32), monais(name), torch.randn(2, 1, 64, 64, 64)
    reference.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.allclose(network(images), reference(images), atol=1e-5)


@pytest.mark.parametrize("name", list(DEPTHS))
def test_stride_8_is_medicalnet(name: str) -> None:
    network, images = ours(name, 8, width=4), torch.randn(1, 1, 40, 48, 40)
    with torch.no_grad():
        expected = medicalnet(name, network.state_dict(), images)
        assert torch.allclose(network(images), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet50"])
def test_medicalnets_weights_in_monais_network_are_another_function(name: str) -> None:
    """All keys match there, strictly, and the features point elsewhere; the record refuses that."""
    network, reference, images = ours(name, 8), monais(name), torch.randn(4, 1, 64, 64, 64)
    assert str(reference.load_state_dict(network.state_dict(), strict=True)) == (
        "<All keys matched successfully>"
    )
    with torch.no_grad():
        right, wrong = network(images), reference(images)
    similarity = F.cosine_similarity(right - right.mean(0), wrong - wrong.mean(0))
    assert similarity.max() < 0.95
    assert not torch.allclose(right, wrong, atol=0.05)
    with pytest.raises(InputError, match="output_stride: 8, but the recipe says output_stride: 32"):
        find_record(name, "medicalnet").demand_options({"output_stride": 32})


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        (
            "fmcib",
            lambda: nets.resnet50(
                n_input_channels=1,
                widen_factor=2,
                conv1_t_stride=2,
                feed_forward=False,
                bias_downsample=True,
            ),
        ),
        (
            "anatcl",
            lambda: nets.resnet18(
                n_input_channels=1,
                conv1_t_stride=2,
                feed_forward=False,
                shortcut_type="B",
                bias_downsample=False,
            ),
        ),
        (
            "brainiac-resnet50",
            lambda: nets.resnet50(n_input_channels=1, conv1_t_stride=2, feed_forward=False),
        ),
    ],
)
def test_published_foundation_networks_are_monais(name: str, reference) -> None:
    torch.manual_seed(0)
    network = build_backbone(name, InputShape(1, (32, 32, 32)), {})
    theirs = reference()
    theirs.load_state_dict(network.state_dict())
    images = torch.randn(4, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(images), theirs(images), atol=1e-5)


def test_fmcib_has_53_convolutions_and_4096_features() -> None:
    with torch.device("meta"):
        network = build_backbone("fmcib", InputShape(1, (50, 50, 50)), {})
    assert sum(isinstance(module, torch.nn.Conv3d) for module in network.modules()) == 53
    assert network.n_features == 4096


@pytest.mark.parametrize(("stride", "edge"), [(8, 8), (16, 4), (32, 2)])
def test_the_last_map_is_as_coarse_as_asked(stride: int, edge: int) -> None:
    network = ours("resnet18", stride)
    shapes = []
    network.layer4[-1].register_forward_hook(lambda *a: shapes.append(a[2].shape[2:]))
    with torch.no_grad():
        network(torch.randn(1, 1, 64, 64, 64))
    assert shapes == [torch.Size([edge] * 3)]
