"""Every adapter of the registry keeps the contract, on every geometry of layer."""

import copy
from itertools import product

import pytest
import torch
from torch import nn

from braintune.adapters.adapter import (
    ADAPTERS,
    adapt,
    attach,
    check_options,
    detach,
    learning_rate_factors,
    merge,
    set_training,
)
from braintune.adapters.counting import audit_parameters
from braintune.errors import InputError

# Those that find nothing to train in some networks of one layer, which is an error; see
# `test_freezing`.
SELECTIVE = ["bias", "norm"]
NAMES = [name for name in ADAPTERS.names() if name not in SELECTIVE]
LOW_RANK = ["lora", "dora", "pissa", "olora", "rslora"]
GEOMETRIES = {
    "linear": (lambda: nn.Linear(6, 8), (5, 6)),
    "linear without bias": (lambda: nn.Linear(6, 8, bias=False), (2, 3, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3, padding=1), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3, stride=2), (2, 4, 9, 8)),
    "conv3d": (lambda: nn.Conv3d(4, 8, 3, padding=1), (2, 4, 6, 7, 5)),
    "conv3d 1x1x1": (lambda: nn.Conv3d(4, 8, 1, bias=False), (2, 4, 6, 7, 5)),
    "conv3d stride": (lambda: nn.Conv3d(4, 8, 3, stride=(2, 1, 3), padding=1), (2, 4, 8, 7, 9)),
    "conv3d dilation": (lambda: nn.Conv3d(4, 8, 3, dilation=2, padding=2), (2, 4, 7, 7, 7)),
    "conv3d groups": (lambda: nn.Conv3d(4, 8, 3, groups=2, padding=1), (2, 4, 6, 7, 5)),
    "conv3d depthwise": (lambda: nn.Conv3d(4, 4, 3, groups=4, dilation=2), (2, 4, 7, 7, 7)),
    "conv3d same": (lambda: nn.Conv3d(4, 8, (3, 5, 1), padding="same"), (2, 4, 6, 7, 5)),
    "conv3d reflect": (
        lambda: nn.Conv3d(4, 8, 3, padding=1, padding_mode="reflect"),
        (2, 4, 6, 7, 5),
    ),
    "conv3d circular": (
        lambda: nn.Conv3d(4, 8, 3, padding=2, dilation=2, padding_mode="circular", groups=2),
        (2, 4, 6, 7, 5),
    ),
}
GEOMETRIES |= {
    "transposed conv1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5)),
    "transposed conv2d": (
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, output_padding=1),
        (2, 4, 3, 4),
    ),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(4, 6, 2, stride=2), (2, 4, 3, 4, 2)),
    "transposed conv3d groups": (
        lambda: nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False),
        (2, 4, 4, 3, 4),
    ),
}
DTYPES = [torch.float32, torch.bfloat16]


def case(
    geometry: str, dtype: torch.dtype, name: str, options: dict[str, object] | None = None
) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """The layer as it was, the adapted one within a network, and an input."""
    torch.manual_seed(0)
    make, shape = GEOMETRIES[geometry]
    network = nn.Sequential(make()).to(dtype)
    plain = copy.deepcopy(network)
    adapt(network, name, options)
    return plain, network, torch.randn(shape, dtype=dtype)


def train(network: nn.Module, x: torch.Tensor, steps: int = 5) -> None:
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.1)
    for _ in range(steps):
        output = network(x).float()
        loss = ((output - torch.linspace(-1, 1, output.numel()).view_as(output)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize(("name", "geometry"), list(product(NAMES, GEOMETRIES)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_start_computes_what_the_backbone_computed(
    name: str, geometry: str, dtype: torch.dtype
) -> None:
    plain, network, x = case(geometry, dtype, name)
    assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize(("name", "geometry"), list(product(LOW_RANK, GEOMETRIES)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_adapter_moves_and_all_of_it_does(
    name: str, geometry: str, dtype: torch.dtype
) -> None:
    plain, network, x = case(geometry, dtype, name, {"rank": 2})
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train(network, x)
    for key, value in network.state_dict().items():
        moved = not torch.equal(value, before[key])
        is_added = not key.startswith("0.base.") and "start_" not in key
        assert moved == is_added, key
    assert all(torch.equal(v, before[f"0.base.{k}"]) for k, v in plain[0].state_dict().items())


@pytest.mark.parametrize(("name", "geometry"), list(product(LOW_RANK, GEOMETRIES)))
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_merging_gives_the_same_and_an_ordinary_layer(
    name: str, geometry: str, alpha: float | None
) -> None:
    plain, network, x = case(geometry, torch.float32, name, {"rank": 2, "alpha": alpha})
    train(network, x)
    expected = network(x)
    assert not torch.allclose(expected, plain(x), atol=1e-2)
    weight = network[0].weight.detach().clone()
    merged = merge(network)
    assert torch.equal(merged[0].weight, weight)
    assert type(merged[0]) is type(plain[0])
    assert torch.allclose(merged(x), expected, atol=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_an_update_of_full_rank_can_be_any_kernel(geometry: str) -> None:
    """With r as large as the kernel, B·A reaches any change of the weights: nothing is tied."""
    plain, network, x = case(geometry, torch.float32, "lora", {"rank": 64})
    layer, weight = network[0], plain[0].weight
    wanted = torch.randn_like(weight)
    with torch.no_grad():
        a = layer.lora_a.flatten(1)
        layer.lora_b.copy_(wanted.flatten(1) @ torch.linalg.pinv(a))
        plain[0].weight += wanted
    if a.shape[1] <= 64:
        assert torch.allclose(network(x), plain(x), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_saved_state_restores_the_outputs(name: str) -> None:
    _, network, x = case("conv3d", torch.float32, name)
    if any(p.requires_grad for p in network.parameters()):
        train(network, x)
    _, other, _ = case("conv3d", torch.float32, name)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_merged_network_exports(name: str) -> None:
    _, network, x = case("conv3d groups", torch.float32, name)
    merged = merge(network).eval()
    assert torch.allclose(torch.export.export(merged, (x,)).module()(x), merged(x), atol=1e-5)


def test_counts_of_low_rank_updates() -> None:
    """C_out·r + r·C_in·k³, as in the 3D LoRA of the paper."""
    network = nn.Sequential(nn.Conv3d(4, 8, 3), nn.BatchNorm3d(8), nn.Flatten(), nn.Linear(8, 3))
    assert adapt(network, "lora", {"rank": 2}) == ["0", "3"]
    audit = audit_parameters(network, nn.Linear(3, 2))
    assert audit.parts == {
        "backbone": 4 * 27 * 8 + 8 + 16 + 27,
        "adapter": 2 * (8 + 4 * 27) + 2 * (3 + 8),
        "head": 8,
    }
    assert audit.trainable_parts == {"backbone": 0, "adapter": 254, "head": 8}
    assert audit.trainable == 262
    assert audit.frozen == audit.total - 262


def test_layers_are_chosen_by_name_and_matching_none_is_an_error() -> None:
    network = nn.ModuleDict({"stem": nn.Conv3d(1, 2, 1), "late": nn.Linear(2, 2)})
    assert adapt(copy.deepcopy(network), "lora", {"layers": "^late"}) == ["late"]
    with pytest.raises(InputError, match=r"matches no layer .*There are: stem, late"):
        adapt(network, "lora", {"layers": "head"})
    with pytest.raises(InputError, match="no layer of the kinds linear"):
        adapt(nn.Sequential(nn.ReLU()), "lora")
    with pytest.raises(InputError, match="is no regular expression"):
        adapt(network, "lora", {"layers": "("})


def test_frozen_norms_keep_their_statistics_and_others_learn() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    adapt(network, "lora")
    set_training(network)
    before = network[1].running_mean.clone()
    network(torch.randn(4, 1, 3, 3, 3) + 5)
    assert torch.equal(network[1].running_mean, before)
    adapt(full := nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)), "full")
    set_training(full)
    full(torch.randn(4, 1, 3, 3, 3) + 5)
    assert not torch.equal(full[1].running_mean, before)


def test_full_trains_all_and_probe_nothing() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Linear(2, 2))
    adapt(network, "probe")
    assert audit_parameters(network).trainable == 0
    adapt(network, "full")
    assert audit_parameters(network).frozen == 0


def test_mistakes_name_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Unknown adapter 'lor'. Did you mean 'lora'\?"):
        adapt(nn.Linear(2, 2), "lor")
    with pytest.raises(InputError, match=r"'adapter.ranks'. Did you mean 'rank'\?"):
        check_options("lora", {"ranks": 3})


@pytest.mark.parametrize("name", ADAPTERS.names())
def test_entries_explain_themselves(name: str) -> None:
    entry = ADAPTERS.get(name)
    assert entry.summary
    assert entry.adapts


def test_layers_are_chosen_by_kind_and_depth() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 1), nn.Flatten(), nn.Linear(2, 2))
    for options, names in (
        ({"kinds": ["linear"]}, ["3"]),
        ({"kinds": ["convolution"]}, ["0", "1"]),
        ({"depth": [0.5, 1]}, ["1", "3"]),
        ({"kinds": ["convolution"], "depth": [0, 0.5]}, ["0"]),
    ):
        assert adapt(copy.deepcopy(network), "lora", options) == names
    with pytest.raises(InputError, match="must rise within 0 and 1"):
        adapt(network, "lora", {"depth": [0.5, 0.5]})


@pytest.mark.parametrize("name", LOW_RANK)
@pytest.mark.parametrize("geometry", ["linear", "conv3d groups", "transposed conv3d groups"])
def test_adapters_take_turns_on_one_backbone(name: str, geometry: str) -> None:
    plain, network, x = case(geometry, torch.float32, name)
    train(network, x)
    first = network(x)
    layers = detach(network)
    assert type(network[0]) is type(plain[0])
    assert torch.equal(network(x), plain(x))
    adapt(network, "lora")
    assert torch.equal(network(x), plain(x))
    attach(network, layers)
    assert torch.equal(network(x), first)
    merge(network)
    attach(network, layers)
    assert torch.equal(network(x), first)


@pytest.mark.parametrize("geometry", ["linear", "conv3d", "conv3d groups", "transposed conv3d"])
def test_principal_factors_are_those_of_the_decomposition(geometry: str) -> None:
    _, network, _ = case(geometry, torch.float32, "pissa", {"rank": 2})
    layer = network[0]
    matrix = layer.base.weight.detach().flatten(1)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(layer.lora_b @ layer.lora_a, u[:, :2] * s[:2] @ v[:2], atol=1e-4)
    norms = layer.lora_a.detach().norm(dim=1), layer.lora_b.detach().norm(dim=0)
    assert torch.allclose(norms[0], norms[1], atol=1e-4)


def test_dora_is_the_published_equation() -> None:
    """W = m · (W₀ + ΔW) / ‖W₀ + ΔW‖, the norm over each output channel's kernel."""
    _, network, x = case("conv3d", torch.float32, "dora", {"rank": 2, "alpha": 6})
    train(network, x)
    layer = network[0]
    update = 3 * (layer.lora_b @ layer.lora_a).view_as(layer.base.weight)
    direction = layer.base.weight + update
    norms = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    expected = layer.magnitude.view(-1, 1, 1, 1, 1) * direction / norms
    assert torch.allclose(layer.weight, expected, atol=1e-5)
    output = torch.nn.functional.conv3d(x, expected, layer.base.bias, padding=1)
    assert torch.allclose(network(x), output, atol=1e-5)


def test_scales_and_learning_rates_of_the_family() -> None:
    _, network, _ = case("linear", torch.float32, "rslora", {"rank": 4, "alpha": 8})
    assert network[0].scale == 4
    _, network, _ = case("linear", torch.float32, "lora", {"rank": 4, "alpha": 8, "lr_ratio": 16})
    assert network[0].scale == 2
    assert learning_rate_factors(network) == {"0.lora_b": 16}
