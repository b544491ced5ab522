"""Frozen layers keep nothing that they do not need, and compute what torch's layers compute."""

import copy
from weakref import WeakSet

import pytest
import torch
from torch import nn

from braintune.adapters.adapter import adapt, set_training
from braintune.adapters.frozen import LightBatchNorm3d, lighten
from braintune.adapters.fused import add_product, can_fuse
from braintune.adapters.kernels import compute, matrix_of, weight_of
from braintune.adapters.product import ProductLayer
from braintune.fitting.precision import Precision
from braintune.models.backbone import InputShape, build_backbone
from models.test_backbones import close

# Layers and their inputs: many voxels and few weights, and the other way round.
LAYERS = {
    "linear": (nn.Linear(5, 7), (3, 4, 5)),
    "wide linear": (nn.Linear(40, 50), (2, 40)),
    "2d": (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 5)),
    "3d": (nn.Conv3d(3, 4, 3, padding=1), (2, 3, 6, 5, 4)),
    "strided": (nn.Conv3d(2, 4, 3, stride=2, padding=1, bias=False), (2, 2, 7, 6, 5)),
    "dilated": (nn.Conv3d(2, 3, 3, padding=2, dilation=2), (1, 2, 6, 5, 7)),
    "pointwise": (nn.Conv3d(3, 5, 1), (2, 3, 4, 4, 4)),
    "strided pointwise": (nn.Conv3d(3, 5, 1, stride=2), (2, 3, 4, 5, 4)),
    "few voxels": (nn.Conv3d(6, 8, 3, padding=1), (1, 6, 2, 2, 2)),
    "few voxels, pointwise": (nn.Conv3d(16, 20, 1), (1, 16, 2, 2, 1)),
    "one channel": (nn.Conv3d(1, 4, 3), (2, 1, 5, 5, 5)),
}
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
every_layer = pytest.mark.parametrize("name", LAYERS)


def case(
    name: str, dtype: torch.dtype
) -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A frozen layer, its input, and a product's factors."""
    torch.manual_seed(0)
    layer, shape = copy.deepcopy(LAYERS[name])
    layer = layer.to(dtype).requires_grad_(False)
    x = torch.randn(shape, dtype=dtype)
    x = x.contiguous(memory_format=LAYOUTS.get(x.ndim, torch.contiguous_format))
    rows, columns = matrix_of(layer).shape
    left, right = torch.randn(rows, 2, dtype=dtype), torch.randn(2, columns, dtype=dtype)
    return layer, x.requires_grad_(), left.requires_grad_(), right.requires_grad_()


@every_layer
def test_a_kernel_and_a_product_are_one_kernel(name: str) -> None:
    layer, x, left, right = case(name, torch.float64)
    assert can_fuse(layer, x)
    merged = weight_of(layer) + (left @ right).view_as(weight_of(layer))
    assert torch.allclose(add_product(layer, x, left, right), compute(layer, x, merged))


@every_layer
def test_its_gradients_are_right(name: str) -> None:
    layer, *given = case(name, torch.float64)
    assert torch.autograd.gradcheck(lambda *tensors: add_product(layer, *tensors), given)


# Its bfloat16 gradients are wrong in torch itself where kernels are larger than the input, which is
# why a fit computes such layers in float32.
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "few voxels"])
def test_in_bfloat16_it_is_as_near_as_bfloat16_is(name: str) -> None:
    layer, x, left, right = case(name, torch.float32)
    exact = add_product(layer, x, left, right)
    to = torch.randn_like(exact)
    expected = torch.autograd.grad((exact * to).sum(), (x, left, right))
    with torch.autocast("cpu", torch.bfloat16):
        rough = add_product(layer, x, left, right)
    assert rough.dtype is torch.bfloat16
    found = torch.autograd.grad((rough * to).sum(), (x, left, right))
    for value, truth in zip((rough, *found), (exact, *expected), strict=True):
        assert (value.float() - truth).norm() < 0.02 * truth.norm()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv3d(4, 4, 3, groups=2), (1, 4, 5, 5, 5)),
        (nn.ConvTranspose3d(2, 3, 2), (1, 2, 3, 3, 3)),
        (nn.Conv3d(2, 3, 3, padding=1, padding_mode="reflect"), (1, 2, 4, 4, 4)),
        (nn.Conv1d(2, 3, 3), (1, 2, 6)),
    ],
)
def test_what_it_cannot_compute_is_left_to_torch(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    x = x.contiguous(memory_format=LAYOUTS.get(x.ndim, torch.contiguous_format))
    assert not can_fuse(layer.requires_grad_(False), x)
    trained, y = nn.Conv3d(2, 3, 3), torch.randn(1, 2, 4, 4, 4)
    assert not can_fuse(trained, y.contiguous(memory_format=torch.channels_last_3d))
    assert not can_fuse(trained.requires_grad_(False), y)


def small_network(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    network = build_backbone("resnet10", InputShape(1, (32, 32, 32)), {"width": width})
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network


def trained_once(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The output, the gradient of the images, and those of all that trains."""
    set_training(network)
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    output = network(images)
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [output, *torch.autograd.grad(output.float().square().sum(), [images, *parameters])]


@pytest.mark.parametrize("adapter", ["lora", "serial", "ssf", "norm", "bias", "last-k"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_light_layers_change_no_gradient(adapter: str, dtype: str) -> None:
    network = small_network()
    adapt(network, adapter)
    precision = Precision(dtype, channels_last=True)
    precision.arrange_kernels(network)
    images = precision.arrange(torch.randn(2, 1, 32, 32, 32))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        expected = trained_once(network, images)
        state = {k: v.clone() for k, v in network.state_dict().items()}
        lighten(network)
        after = network.state_dict()
        assert list(after) == list(state)
        assert all(torch.equal(after[key], value) for key, value in state.items())
        found = trained_once(network, images)
    for value, truth in zip(found, expected, strict=True):
        assert (value - truth).norm() <= (1e-5 if dtype == "fp32" else 0.03) * truth.norm()


class Kept:
    """A tensor that a graph holds; it goes with the graph's node."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def kept_bytes(network: nn.Module, images: torch.Tensor) -> int:
    """Memory that one forward pass keeps for the backward pass, parameters not counted."""
    own = {t.untyped_storage().data_ptr() for t in network.state_dict().values()}
    alive: WeakSet[Kept] = WeakSet()

    def keep(tensor: torch.Tensor) -> Kept:
        kept = Kept(tensor)
        alive.add(kept)
        return kept

    set_training(network)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        output = network(images)
    assert output.requires_grad
    storages = [kept.tensor.untyped_storage() for kept in alive]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return sum(size for pointer, size in sizes.items() if pointer not in own)


def test_adapted_networks_keep_less_than_fully_tuned_ones() -> None:
    layout = Precision("fp32", channels_last=True)
    images = layout.arrange(torch.randn(2, 1, 32, 32, 32))
    full, adapted = small_network(32), small_network(32)
    adapt(adapted, "lora", {"rank": 2})
    for network in (full, adapted):
        layout.arrange_kernels(network)
    plain = kept_bytes(adapted, images)
    lighten(adapted)
    light = kept_bytes(adapted, images)
    assert light < 0.75 * plain
    assert light < 0.65 * kept_bytes(full, images)


def test_a_light_layer_that_is_unfrozen_trains() -> None:
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3)).requires_grad_(False)
    assert lighten(network) == ["0", "1"]
    assert isinstance(network[1], LightBatchNorm3d)
    network.requires_grad_(True)
    before = network[1].running_mean.clone()
    network(torch.randn(2, 2, 5, 5, 5, requires_grad=True)).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert not torch.equal(network[1].running_mean, before)


def test_a_changed_weight_is_cast_again() -> None:
    layer = nn.Conv3d(1, 2, 3).requires_grad_(False)
    network = nn.Sequential(layer)
    lighten(network)
    x = torch.randn(1, 1, 5, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        first = network(x).detach()
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        second = network(x).detach()
    assert close(second.float(), 2 * first.float(), 1e-2)


@pytest.mark.parametrize("adapter", ["lora", "dora", "hyps", "cp-lora"])
def test_evaluation_computes_with_merged_weights(adapter: str) -> None:
    network = small_network()
    adapt(network, adapter)
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, 1, 0.1)
    images = torch.randn(2, 1, 32, 32, 32)
    branches = network.eval()(images).detach()
    products = []
    for layer in network.modules():
        if isinstance(layer, ProductLayer):
            layer.update = lambda x: products.append(x)
    with torch.no_grad():
        assert close(network(images), branches, 1e-4)
    assert not products
