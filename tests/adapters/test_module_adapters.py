"""Adapters that add modules: branches beside and behind layers, and scales of their outputs."""

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adapters.test_adapters import DTYPES, GEOMETRIES, case, train
from braintune.adapters.adapter import (
    ADAPTERS,
    AdapterLayer,
    adapt,
    adapted_layers,
    attach,
    detach,
    merge,
    set_training,
)
from braintune.adapters.counting import audit_parameters
from braintune.adapters.targets import TargetOptions
from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone

BRANCHED = ["parallel", "serial", "cps", "hyps"]
SCALED = ["ia3", "ssf"]
METHODS = [*BRANCHED, *SCALED]
# All that put layers in the place of chosen ones.
CHOOSING = [
    name
    for name in ADAPTERS.names()
    if issubclass(ADAPTERS.get(name).options, TargetOptions) and name != "bias"
]
EVERYWHERE = list(product(METHODS, GEOMETRIES))
# The convolutions that the published training script freezes, by the names of their weights.
BESIDE_SWIN = r"^(?!swinViT)(?!encoder(1|2|3|4|10)\.layer\.conv[12]\.conv\.weight)"


def moved(network: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize(("name", "geometry"), EVERYWHERE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_start_is_exact_and_only_what_was_added_moves(
    name: str, geometry: str, dtype: torch.dtype
) -> None:
    plain, network, x = case(geometry, dtype, name)
    assert torch.equal(network(x), plain(x))
    before = state_of(network)
    train(network, x)
    added = {f"0.{key}" for key, _ in network[0].named_parameters() if not key.startswith("base.")}
    assert moved(network, before) == added
    assert len(added) == len(network[0].adapter_parameters())
    base = network[0].base.state_dict()
    assert all(torch.equal(v, base[k]) for k, v in plain[0].state_dict().items())


@pytest.mark.parametrize(("name", "geometry"), EVERYWHERE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_merging_gives_the_same_and_attaching_undoes_it(
    name: str, geometry: str, dtype: torch.dtype
) -> None:
    plain, network, x = case(geometry, dtype, name)
    train(network, x)
    expected, layers = network(x), adapted_layers(network)
    assert not torch.allclose(expected, plain(x), atol=1e-2)
    merged = merge(network)
    assert not any(isinstance(module, AdapterLayer) for module in merged.modules())
    assert (type(merged[0]) is type(plain[0])) == (name in SCALED)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(merged(x), expected, atol=tolerance, rtol=tolerance)
    attach(network, layers)
    assert torch.equal(network(x), expected)
    assert detach(network).keys() == {"0"}
    assert type(network[0]) is type(plain[0])
    assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize(("name", "geometry"), EVERYWHERE)
def test_the_state_holds_all_that_the_output_needs(name: str, geometry: str) -> None:
    """Also what HyPS leaves of the weight: the other network starts from other weights."""
    _, network, x = case(geometry, torch.float32, name)
    train(network, x)
    torch.manual_seed(1)
    other = nn.Sequential(GEOMETRIES[geometry][0]())
    adapt(other, name)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("geometry", ["linear", "conv3d reflect", "transposed conv3d groups"])
def test_a_trained_and_merged_network_exports(name: str, geometry: str) -> None:
    _, network, x = case(geometry, torch.float32, name)
    train(network, x)
    merged = merge(network).eval()
    exported = torch.export.export(merged, (x,)).module()
    assert torch.allclose(exported(x), merged(x), atol=1e-5)


@pytest.mark.parametrize(("name", "geometry"), EVERYWHERE)
def test_no_branch_is_dead(name: str, geometry: str) -> None:
    """Every tensor has a gradient after the second step at the latest.

    The published code of HyPS applies its activation to Up's weight, which starts at zero: neither
    Up nor Down ever has a gradient.
    """
    _, network, x = case(geometry, torch.float32, name)
    train(network, x, steps=2)
    for key, parameter in network.named_parameters():
        if ".base." in key:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", BRANCHED)
@pytest.mark.parametrize("geometry", ["linear", "conv3d", "transposed conv3d groups"])
@pytest.mark.parametrize("dim", [2, 3])
def test_no_branch_starts_dead_even_with_few_channels_and_one_place(
    name: str, geometry: str, dim: int
) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        make, shape = GEOMETRIES[geometry]
        network = nn.Sequential(make())
        adapt(network, name, {"dim": dim})
        x = torch.randn(shape)[:1]
        # The linear layer sees one vector; convolutions see the same voxel everywhere.
        x = x if geometry == "linear" else x[..., :1, :1, :1].expand_as(x)
        before = state_of(network)
        train(network, x)
        trained = {key for key, p in network.named_parameters() if p.requires_grad}
        assert moved(network, before) == trained


class HyPSOfTheFigure(nn.Module):
    """The figure, for a weight as a matrix: the residual is a tensor of its own."""

    def __init__(self, layer: nn.Module, down: torch.Tensor, rank: int) -> None:
        super().__init__()
        self.layer = layer
        u, s, v = torch.linalg.svd(layer.weight.detach().flatten(1), full_matrices=False)
        self.residual = u[:, rank:] * s[rank:] @ v[rank:]
        self.first = nn.Parameter(u[:, :rank] * s[:rank].sqrt())
        self.second = nn.Parameter(s[:rank].sqrt()[:, None] * v[:rank])
        self.down = nn.Parameter(down.detach().flatten(1).clone())
        self.up = nn.Parameter(torch.zeros_like(self.down.T))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = (self.residual + self.first @ self.second).view_as(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            h = F.linear(x, weight, self.layer.bias)
            return h + 0.5 * (h @ self.down.T).relu() @ self.up.T
        h = F.conv3d(x, weight, self.layer.bias, padding=1)
        hidden = torch.einsum("bcxyz,dc->bdxyz", h, self.down).relu()
        return h + 0.5 * torch.einsum("bdxyz,cd->bcxyz", hidden, self.up)


@pytest.mark.parametrize("geometry", ["linear", "conv3d"])
def test_hyps_trains_as_the_figure_does(geometry: str) -> None:
    plain, network, x = case(geometry, torch.float32, "hyps", {"rank": 2, "dim": 3, "scale": 0.5})
    figure = HyPSOfTheFigure(plain[0].requires_grad_(False), network[0].serial.down.weight, 2)
    assert torch.allclose(figure(x), network(x), atol=1e-5)
    for model in (figure, network):
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(trained, lr=0.5)
        for _ in range(10):
            output = model(x)
            loss = ((output - torch.linspace(-1, 1, output.numel()).view_as(output)) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert not torch.allclose(network(x), plain(x), atol=0.05)
    assert torch.allclose(figure(x), network(x), atol=1e-4)
    merged = merge(network)[0]
    weight = figure.residual + figure.first @ figure.second
    assert torch.allclose(merged.layer.weight.flatten(1), weight, atol=1e-4)


@pytest.mark.parametrize("geometry", ["linear", "conv3d"])
def test_cps_is_a_branch_beside_and_one_behind_both(geometry: str) -> None:
    plain, network, x = case(geometry, torch.float32, "cps", {"dim": 4})
    train(network, x)
    layer = network[0]
    columns = plain[0].weight[0].shape

    def linear(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if geometry == "linear":
            return F.linear(values, weight.flatten(1))
        return F.conv3d(values, weight, padding=weight.shape[-1] // 2)

    ones = [1] * (len(columns) - 1)
    hidden = linear(x, layer.parallel.down.unflatten(1, columns)).relu()
    h = plain(x) + linear(hidden, layer.parallel.up.view(8, 4, *ones)) / 4
    y = h + linear(linear(h, layer.serial.down.weight).relu(), layer.serial.up.weight) / 4
    assert torch.allclose(network(x), y, atol=1e-5)


@pytest.mark.parametrize("geometry", ["transposed conv3d", "transposed conv3d groups"])
def test_beside_a_transposed_convolution_up_enlarges(geometry: str) -> None:
    plain, network, x = case(geometry, torch.float32, "parallel", {"dim": 3})
    train(network, x)
    branch, base = network[0].parallel, plain[0]
    groups, out = base.groups, base.out_channels // base.groups
    parts = []
    for part, down in zip(x.chunk(groups, 1), branch.down.chunk(groups), strict=True):
        hidden = torch.einsum("bcxyz,cd->bdxyz", part, down).relu()
        up = branch.up.view(3, out, *base.kernel_size)
        placed = (base.stride, base.padding, 0, 1, base.dilation)
        parts.append(F.conv_transpose3d(hidden, up, None, *placed))
    expected = plain(x) + torch.cat(parts, 1) / 3
    assert torch.allclose(network(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", BRANCHED)
def test_a_layer_with_a_nonlinear_branch_has_no_weight(name: str) -> None:
    """Attention of torch's own computes with its last layer's weight: the branch would be lost."""
    attention = nn.MultiheadAttention(4, 2)
    adapt(attention, name)
    x = torch.randn(3, 1, 4)
    with pytest.raises(InputError, match="a linear adapter such as 'lora'"):
        attention(x, x, x)
    with pytest.raises(InputError, match="reads the bias"):
        _ = attention.out_proj.bias


@pytest.mark.parametrize("name", SCALED)
def test_attention_computes_with_the_scaled_weight(name: str) -> None:
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(4, 2), torch.randn(3, 1, 4)
    plain = copy.deepcopy(attention)
    adapt(attention, name)
    assert torch.equal(attention(x, x, x)[0], plain(x, x, x)[0])
    with torch.no_grad():
        attention.out_proj.scale.fill_(2)
        plain.out_proj.weight.mul_(2)
        plain.out_proj.bias.mul_(2)
    assert torch.allclose(attention(x, x, x)[0], plain(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize("name", SCALED)
def test_scales_are_of_the_output_with_its_bias(name: str) -> None:
    plain, network, x = case("conv3d groups", torch.float32, name)
    scale, shift = torch.arange(1.0, 9.0), torch.linspace(-1, 1, 8)
    with torch.no_grad():
        network[0].scale.copy_(scale)
        if name == "ssf":
            network[0].shift.copy_(shift)
    expected = plain(x) * scale.view(-1, 1, 1, 1)
    if name == "ssf":
        expected = expected + shift.view(-1, 1, 1, 1)
    assert torch.allclose(network(x), expected, atol=1e-6)


NORMS = {
    "batch": (lambda: nn.BatchNorm3d(4), (2, 4, 3, 4, 5)),
    "instance": (lambda: nn.InstanceNorm3d(4, affine=True), (2, 4, 3, 4, 5)),
    "group": (lambda: nn.GroupNorm(2, 4), (2, 4, 3, 4, 5)),
    "layer": (lambda: nn.LayerNorm((3, 4)), (2, 5, 3, 4)),
    "layer without bias": (lambda: nn.LayerNorm(4, bias=False), (2, 5, 4)),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ssf_scales_and_shifts_norms(norm: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, shape = NORMS[norm]
    network = nn.Sequential(make(), nn.Identity(), nn.Conv1d(1, 1, 1)).to(dtype)
    with torch.no_grad():
        for parameter in network[0].parameters():
            parameter.uniform_(0.5, 2)
    plain, x = copy.deepcopy(network[0]).eval(), torch.randn(shape, dtype=dtype)
    assert adapt(network, "ssf") == ["2", "0"]
    set_training(network)
    layer = nn.Sequential(network[0])
    assert torch.equal(layer(x), plain(x))
    before = state_of(layer)
    train(layer, x)
    assert moved(layer, before) == {"0.scale", "0.shift"}
    expected, tolerance = layer(x), 1e-5 if dtype == torch.float32 else 0.05
    merged = merge(layer)
    assert type(merged[0]) is type(plain)
    assert torch.allclose(merged(x), expected, atol=tolerance, rtol=tolerance)


def test_ssf_takes_the_norms_that_are_asked_for() -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(1, 2, 1),
            nn.BatchNorm3d(2),
            nn.BatchNorm3d(2, affine=False),
            nn.GroupNorm(1, 2),
        )

    assert adapt(network(), "ssf") == ["0", "1", "3"]
    assert adapt(network(), "ssf", {"kinds": ["convolution"]}) == ["0"]
    assert adapt(network(), "ssf", {"layers": "[01]"}) == ["0", "1"]
    assert adapt(network(), "ssf", {"norms": "affine"}) == ["0"]


@pytest.mark.parametrize("name", METHODS)
def test_the_output_keeps_the_precision_and_the_format_of_the_backbone(name: str) -> None:
    plain, network, x = case("conv3d", torch.float32, name)
    last = x.to(memory_format=torch.channels_last_3d)
    assert network(last).is_contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype == plain(x).dtype == torch.bfloat16
        assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize("name", CHOOSING)
def test_further_parameters_train_and_those_of_adapted_layers_never(name: str) -> None:
    network = nn.ModuleDict({"encoder": nn.Linear(4, 4), "decoder": nn.Linear(4, 2)})
    assert adapt(network, name, {"layers": "encoder", "also": "coder"}) == ["encoder"]
    training = {key for key, p in network.named_parameters() if p.requires_grad}
    assert {"decoder.weight", "decoder.bias"} < training
    assert not any(".base." in key for key in training)
    network = nn.ModuleDict({"encoder": nn.Linear(4, 4), "decoder": nn.Linear(4, 2)})
    message = "'also' '.encoder' matches no parameter .* There are: decoder.weight, decoder.bias"
    with pytest.raises(InputError, match=message):
        adapt(network, name, {"layers": "encoder", "also": ".encoder"})
    assert not adapted_layers(network)
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(InputError, match="is no regular expression"):
        adapt(network, name, {"also": "("})


@pytest.mark.parametrize("name", BRANCHED)
def test_a_second_adapter_leaves_the_first_ones_frozen_layers(name: str) -> None:
    network = nn.ModuleDict({"encoder": nn.Linear(4, 4), "decoder": nn.Linear(4, 2)})
    adapt(network, "lora", {"layers": "encoder"})
    assert adapt(network, name, {"also": "encoder"}) == ["decoder"]
    training = {key for key, p in network.named_parameters() if p.requires_grad}
    assert {"encoder.lora_a", "encoder.lora_b"} < training
    assert not any(".base." in key for key in training)


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("serial", {"dim": 1}, 28_800),
        ("serial", {"dim": 5}, 5 * 28_800),
        ("parallel", {"dim": 3}, 3 * 30_240),
        ("cps", {"dim": 8}, 8 * (28_800 + 30_240)),
        ("hyps", {"dim": 1, "rank": 4}, 28_800 + 4 * 30_240),
        ("hyps", {"dim": 8, "rank": 8}, 8 * (28_800 + 30_240)),
    ],
)
def test_counts_on_the_linear_layers_of_swin_unetr(
    name: str, options: dict[str, int], count: int
) -> None:
    with torch.device("meta"):
        network = build_backbone("swinunetr", InputShape(1, (64, 64, 64)), {})
        names = adapt(network, name, {"kinds": ["linear"], "layers": "^swinViT", **options})
    assert len(names) == 36
    assert audit_parameters(network).trainable == count


def test_counts_of_the_published_setting() -> None:
    """19,598 thousand parameters outside of the encoder train; with r = d = 8, 20.070 million."""
    options = {"kinds": ["linear"], "layers": "^swinViT", "dim": 8, "rank": 8, "also": BESIDE_SWIN}
    with torch.device("meta"):
        network = build_backbone("swinunetr", InputShape(1, (64, 64, 64)), {})
        # The published network's last convolution is the head here.
        head = nn.Conv3d(48, 2, 1)
        adapt(network, "hyps", options)
    audit = audit_parameters(network, head)
    outside = audit.trainable_parts["backbone"] + audit.trainable_parts["head"]
    assert round(outside / 1000) == 19_598
    assert audit.trainable_parts["adapter"] == 472_320
    assert round(audit.trainable / 1e6, 3) == 20.070
