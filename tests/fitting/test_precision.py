"""bfloat16 is taken only where its gradients are right."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from braintune.adapters.adapter import adapt
from braintune.fitting.precision import (
    Precision,
    choose_precision,
    find_depthwise,
    find_overhang,
    keep_exact,
)
from braintune.models.backbone import BACKBONES
from models.test_backbones import tiny

CPU = torch.device("cpu")


def poison() -> None:
    """Leave NaN in memory that is handed out next, so that reading unwritten memory shows."""
    blocks = [torch.full((n,), float("nan")) for n in (500, 5000, 50_000, 500_000)] * 4
    del blocks


_WEIGHT_GRADIENT = {nn.Conv2d: torch.nn.grad.conv2d_weight, nn.Conv3d: torch.nn.grad.conv3d_weight}


def watch(network: nn.Module) -> dict[str, list[torch.Tensor]]:
    """Keep what goes into each convolution, and the gradient that comes back to it."""
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, given: torch.Tensor, output: torch.Tensor) -> None:
        seen[name] = [given.detach().clone()]
        output.register_hook(lambda gradient: seen[name].append(gradient.detach().clone()))

    for name, layer in network.named_modules():
        if type(layer) in _WEIGHT_GRADIENT:
            layer.register_forward_hook(lambda _, x, y, name=name: keep(name, x[0], y))
    return seen


_CASES = [
    (name, edge)
    for name in BACKBONES.names()
    for edge in ((48, 96) if BACKBONES.get(name).family in {"resnet", "sfcn", "vit"} else (64,))
]


@pytest.mark.parametrize(("name", "edge"), _CASES)
def test_gradients_are_right_in_the_precision_that_is_chosen(name: str, edge: int) -> None:
    """Each convolution's weight gradient against the one computed in float32 from what it saw."""
    shape = (edge, edge, edge)
    network = tiny(name, shape)
    images = torch.randn(2, 1, *shape)
    precision = choose_precision("auto", CPU, find_overhang(network, images[:1]))
    network.train()
    keep_exact(network, precision.exact)
    precision.arrange_kernels(network)
    seen = watch(network)
    poison()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision.dtype == "bf16"):
        output = network(precision.arrange(images).requires_grad_())
    poison()
    (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    assert seen
    for key, (given, returned) in seen.items():
        layer = network.get_submodule(key)
        assert isinstance(layer, nn.Conv2d | nn.Conv3d)
        expected = _WEIGHT_GRADIENT[type(layer)](
            given.float(),
            layer.weight.shape,
            returned.float(),
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )
        gap = (layer.weight.grad - expected).norm() / expected.norm().clamp_min(1e-6)
        assert gap < 0.05, key


@pytest.mark.parametrize(
    ("layer", "shape", "overhangs"),
    [
        (nn.Conv3d(1, 2, 3, padding=1), (3, 3, 3), False),
        (nn.Conv3d(1, 2, 3, padding=1), (3, 2, 3), True),
        (nn.Conv3d(1, 2, 1), (1, 1, 1), False),
        (nn.Conv3d(1, 2, 3, padding=2, dilation=2), (5, 5, 5), False),
        (nn.Conv3d(1, 2, 3, padding=2, dilation=2), (5, 4, 5), True),
        (nn.Conv3d(1, 2, 4, stride=4), (8, 8, 8), False),
        (nn.Conv3d(1, 2, 2, padding=1), (8, 8, 8), True),
    ],
)
def test_overhanging_kernels_are_found(
    layer: nn.Module, shape: tuple[int, int, int], overhangs: bool
) -> None:
    network = nn.Sequential(nn.Identity(), layer)
    assert find_overhang(network, torch.zeros(1, 1, *shape)) == (("1",) if overhangs else ())


def test_layers_where_bf16_is_wrong_are_kept_in_float32() -> None:
    names = ("layer4.0.conv2",)
    assert choose_precision("bf16", CPU, names).exact == names
    assert choose_precision("fp32", CPU, names).exact == ()
    assert choose_precision("fp32", CPU).fabric == "32-true"
    assert choose_precision("bf16", CPU).fabric == "bf16-mixed"
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1))
    keep_exact(network, ("1",))
    images = torch.randn(1, 1, 2, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        first = network[0](images)
        assert first.dtype == torch.bfloat16
        assert network(images).dtype == torch.float32
        # Behind the layer, autocast goes on.
        assert network[0](images).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError):
        network[1](torch.randn(1, 5, 2, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert network[0](images).dtype == torch.bfloat16


def test_depthwise_convolutions_are_found() -> None:
    network = nn.Sequential(nn.Conv3d(4, 4, 3, groups=4), nn.Conv3d(4, 4, 3, groups=2))
    assert find_depthwise(network) == ("0",)
    assert find_depthwise(nn.Sequential(nn.Conv3d(1, 4, 3))) == ()
    adapt(network, "lora")
    assert find_depthwise(network) == ("0",)


def test_an_adapted_layer_overhangs_as_a_whole() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 1))
    adapt(network, "lora")
    assert find_overhang(network, torch.zeros(1, 1, 2, 3, 3)) == ("0",)


def test_images_are_arranged_as_the_precision_says() -> None:
    arranged = choose_precision("auto", CPU).arrange(torch.zeros(1, 2, 3, 4, 5))
    assert arranged.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_first_layer_keeps_the_layout_of_arranged_images(channels: int) -> None:
    images, layer = torch.randn(2, channels, 6, 7, 8), nn.Conv3d(channels, 4, 3)
    arranged = Precision("fp32", channels_last=True).arrange(images)
    assert torch.equal(arranged, images)
    output = layer(arranged)
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(output, layer(images), atol=1e-6)


def test_keeping_freed_memory_keeps_it() -> None:
    """After the call, freeing and asking again gives the same pages."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only glibc gives memory back")
    program = (
        "import torch, resource\n"
        "from braintune.fitting.precision import keep_freed_memory\n"
        "{}\n"
        "for _ in range(3): torch.ones(20_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): torch.ones(20_000_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = []
    for call in ("keep_freed_memory()", ""):
        command = [sys.executable, "-c", program.format(call)]
        faults.append(int(subprocess.check_output(command, text=True)))
    assert faults[0] < faults[1] / 2


def test_kernels_of_two_and_three_axes_are_arranged_and_compute_the_same() -> None:
    network = torch.nn.ModuleList([torch.nn.Conv3d(2, 4, 3), torch.nn.Conv2d(2, 4, 3)])
    images = torch.randn(2, 2, 6, 6, 6), torch.randn(2, 2, 6, 6)
    before = [layer(image) for layer, image in zip(network, images, strict=True)]
    Precision("fp32", channels_last=True).arrange_kernels(network)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last)
    for layer, image, expected in zip(network, images, before, strict=True):
        assert torch.allclose(layer(image), expected, atol=1e-6)
        assert isinstance(layer.weight, torch.nn.Parameter)
