"""CP-LoRA and LoRA in loralib's layout: their kernels, their counts, their invariants."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from adapters.test_adapters import DTYPES, GEOMETRIES, case, train
from braintune.adapters.adapter import adapt, attach, detach, merge
from braintune.adapters.counting import audit_parameters

NAMES = ["cp-lora", "lora-reshaped"]
# Each axis of a kernel gets a letter.
AXES = "oiabc"


@pytest.mark.parametrize(("name", "geometry"), list(product(NAMES, GEOMETRIES)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_adapter_moves_and_all_of_it_does(
    name: str, geometry: str, dtype: torch.dtype
) -> None:
    plain, network, x = case(geometry, dtype, name, {"rank": 2})
    assert torch.equal(network(x), plain(x))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    train(network, x)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("0.base."), key
    assert all(torch.equal(v, before[f"0.base.{k}"]) for k, v in plain[0].state_dict().items())


@pytest.mark.parametrize(("name", "geometry"), list(product(NAMES, GEOMETRIES)))
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_merging_gives_the_same_and_an_ordinary_layer(
    name: str, geometry: str, alpha: float | None
) -> None:
    plain, network, x = case(geometry, torch.float32, name, {"rank": 2, "alpha": alpha})
    train(network, x)
    expected = network(x)
    assert not torch.allclose(expected, plain(x), atol=1e-2)
    weight = network[0].weight.detach().clone()
    layers = detach(network)
    assert torch.equal(network(x), plain(x))
    attach(network, layers)
    assert torch.equal(network(x), expected)
    merged = merge(network)
    assert torch.equal(merged[0].weight, weight)
    assert type(merged[0]) is type(plain[0])
    assert torch.allclose(merged(x), expected, atol=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_cp_updates_are_sums_of_outer_products(geometry: str) -> None:
    plain, network, x = case(geometry, torch.float32, "cp-lora", {"rank": 3, "alpha": 6})
    train(network, x)
    axes = [axis.detach() for axis in network[0].axes]
    letters = AXES[: len(axes)]
    terms = ",".join(f"{letter}r" for letter in letters)
    update = 2 * torch.einsum(f"{terms}->{letters}", *axes)
    assert torch.allclose(network[0].weight, plain[0].weight + update, atol=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_cp_counts_grow_with_the_sum_of_the_edges(geometry: str) -> None:
    plain, network, _ = case(geometry, torch.float32, "cp-lora", {"rank": 3})
    assert audit_parameters(network).trainable == 3 * sum(plain[0].weight.shape)


def test_cp_factors_spread_as_those_of_lora() -> None:
    """The kernels on the right vary by 1 / (3 · columns), and for linear layers uniformly."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(32, 4, 5), nn.Linear(400, 4))
    adapt(network, "cp-lora", {"rank": 64})
    for layer in network:
        right = layer.factors()[1].detach()
        assert right.pow(2).mean() * 3 * right.shape[1] == pytest.approx(1, rel=0.25)
    largest = network[1].axes[1].detach().abs().max()
    assert largest == pytest.approx(1 / math.sqrt(400), rel=0.01)


def test_the_reshaped_layout_in_2d_is_that_of_loralib() -> None:
    """loralib: W + α/r · (B·A).view(W.shape), A of (r·k, C_in·k) and B of (C_out·k, r·k)."""
    torch.manual_seed(0)
    r, k, alpha = 2, 3, 7
    layer = nn.Conv2d(4, 8, k, padding=1)
    network = nn.Sequential(layer)
    adapt(network, "lora-reshaped", {"rank": r * k, "alpha": alpha * k})
    adapted, a, b = network[0], torch.randn(r * k, 4 * k), torch.randn(8 * k, r * k)
    with torch.no_grad():
        adapted.lora_a.copy_(a)
        adapted.lora_b.copy_(b)
    x = torch.randn(2, 4, 6, 5)
    weight = layer.weight + alpha / r * (b @ a).view(layer.weight.shape)
    expected = nn.functional.conv2d(x, weight, layer.bias, padding=1)
    assert torch.allclose(network(x), expected, atol=1e-5)


def test_reshaped_counts() -> None:
    """r · (C_out·k1 + C_in / groups · k2·k3), whatever the edges."""
    for layer, sizes in (
        (nn.Conv3d(4, 8, (3, 5, 7)), 8 * 3 + 4 * 5 * 7),
        (nn.Conv3d(4, 8, 3, groups=2), 8 * 3 + 2 * 9),
        (nn.Conv2d(4, 8, 3), 8 * 3 + 4 * 3),
        (nn.Conv1d(4, 8, 3), 8 * 3 + 4),
        (nn.ConvTranspose3d(4, 6, 2), 4 * 2 + 6 * 4),
        (nn.Linear(4, 8), 8 + 4),
    ):
        network = nn.Sequential(layer)
        adapt(network, "lora-reshaped", {"rank": 2})
        assert audit_parameters(network).trainable == 2 * sizes


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_memory_are_adapted(name: str) -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv3d(4, 8, 3), nn.ConvTranspose3d(8, 4, 2))
    adapt(network, name)
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert network(torch.empty(1, 4, 5, 5, 5, device="meta")).shape == (1, 4, 4, 4, 4)
