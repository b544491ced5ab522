"""LoRA-PT and tCURLoRA: t-products by the definition, stacks, and the invariants on a tiny ViT."""

import copy
from itertools import product

import pytest
import torch
from torch import nn

from adapters.test_adapters import DTYPES, train
from braintune.adapters.adapter import adapt, adapted_layers, attach, detach, merge
from braintune.adapters.counting import audit_parameters
from braintune.adapters.kernels import LINEAR
from braintune.adapters.lora_pt import scale_tubes, t_svd
from braintune.adapters.stacks import StackedLayer, find_stacks, left_of_slice, stack_weights
from braintune.adapters.targets import TargetOptions, find_layers
from braintune.adapters.tcurlora import choose_columns_and_rows, t_product
from braintune.models.backbone import BACKBONES, Backbone, InputShape, build_backbone

NAMES = ["lora-pt", "tcurlora"]
# At rank 1 the layers multiply by thin matrices, at rank 3 by the changed weight.
RANKS = {"lora-pt": [1, 3], "tcurlora": [1, 3]}
METHODS = [(name, rank) for name in NAMES for rank in RANKS[name]]
BLOCK = ["attn.qkv", "attn.proj", "fc1", "fc2"]
LAYERS = [f"blocks.{number}.{layer}" for number in range(2) for layer in BLOCK]


def tiny(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    sizes = {"patch": 8, "width": 48, "depth": 2, "heads": 3, "hidden": 64}
    return build_backbone("vit", InputShape(1, (16, 16, 8)), sizes)


def images(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 1, 16, 16, 8).to(dtype)


def adapted(
    name: str, rank: int, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """The network as it was, the adapted one, and an input."""
    plain = tiny().to(dtype)
    network = copy.deepcopy(plain)
    assert adapt(network, name, {"rank": rank}) == LAYERS
    return plain, network, images(dtype)


def slow_t_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """From the definition: the block-circulant matrix of one times the other, unfolded."""
    stack, rows, _ = left.shape
    circulant = torch.cat(
        [torch.cat([left[(i - j) % stack] for j in range(stack)], dim=1) for i in range(stack)]
    )
    return (circulant @ right.flatten(0, 1)).view(stack, rows, -1)


@pytest.mark.parametrize("stack", [1, 2, 5, 6])
def test_t_products_are_those_of_the_definition(stack: int) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(stack, 4, 3), torch.randn(stack, 3, 5)
    expected = slow_t_product(left, right)
    assert torch.allclose(t_product(left, right), expected, atol=1e-5)
    thin = [left_of_slice(left, j) @ right.flatten(0, 1) for j in range(stack)]
    assert torch.allclose(torch.stack(thin), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5, 8), (6, 8, 5), (5, 4, 4), (1, 4, 6), (2, 6, 4)])
@pytest.mark.parametrize("rank", [1, 3])
def test_t_svd_is_the_truncation_of_each_frequency(shape: tuple[int, ...], rank: int) -> None:
    torch.manual_seed(0)
    tensor = torch.randn(shape)
    spectrum = torch.fft.fft(tensor, dim=0)
    truncated = []
    for matrix in spectrum:
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        truncated.append(u[:, :rank] * s[:rank] @ v[:rank])
    expected = torch.fft.ifft(torch.stack(truncated), dim=0)
    assert expected.imag.abs().max() < 1e-5
    u, s, v = t_svd(tensor, rank)
    found = slow_t_product(scale_tubes(u, s), v) / shape[0] ** 0.5
    assert torch.allclose(found, expected.real, atol=1e-4)
    lengths = torch.fft.fft(u, dim=0, norm="ortho").norm(dim=1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4)


def test_a_stack_of_full_rank_is_its_t_svd() -> None:
    tensor = torch.randn(4, 3, 5)
    u, s, v = t_svd(tensor, 9)
    assert u.shape == (4, 3, 3)
    assert torch.allclose(slow_t_product(scale_tubes(u, s), v) / 2, tensor, atol=1e-4)


def test_columns_are_the_longest_and_rows_the_longest_within_them() -> None:
    torch.manual_seed(0)
    tensor = torch.randn(5, 6, 7)
    lengths, within = torch.zeros(7), torch.zeros(6)
    spectrum = torch.fft.fft(tensor, dim=0)
    for matrix in spectrum:
        lengths += (matrix.abs() ** 2).sum(dim=0).sqrt()
    wanted = lengths.argsort(descending=True)[:2]
    for matrix in spectrum:
        within += (matrix[:, wanted].abs() ** 2).sum(dim=1).sqrt()
    columns, rows = choose_columns_and_rows(tensor, 2)
    assert columns.tolist() == wanted.tolist()
    assert rows.tolist() == within.argsort(descending=True)[:2].tolist()


@pytest.mark.parametrize("name", ["vit", "unetr", "videomae"])
def test_networks_of_the_size_of_vit_b_have_three_stacks(name: str) -> None:
    with torch.device("meta"):
        network = build_backbone(name, BACKBONES.get(name).published, {})
    stacks = find_stacks(find_layers(network, TargetOptions(), ("linear",)))
    shapes = [tuple(stack_weights(list(stack.values())).shape) for stack in stacks]
    assert sorted(shapes) == [(12, 768, 3072), (12, 3072, 768), (48, 768, 768)]


@pytest.mark.parametrize("rank", [1, 8])
def test_counts_on_vit_b(rank: int) -> None:
    """tCURLoRA trains 72·r² numbers, LoRA-PT what the vectors and values of all slices hold."""
    with torch.device("meta"):
        network = build_backbone("vit", InputShape(1, (96, 96, 96)), {})
    other = copy.deepcopy(network)
    adapt(network, "tcurlora", {"rank": rank})
    audit = audit_parameters(network)
    assert audit.trainable_parts == {"backbone": 0, "adapter": 72 * rank**2, "head": 0}
    assert audit.parts["backbone"] == 88_369_920
    adapt(other, "lora-pt", {"rank": rank})
    counts = [48 * (768 + 768) + 25, *[12 * (3072 + 768) + 7] * 2]
    assert audit_parameters(other).trainable == rank * sum(counts)


def test_fused_weights_are_split_only_beside_square_ones() -> None:
    linear = {"qkv": nn.Linear(4, 12), "fc": nn.Linear(6, 4), "proj": nn.Linear(4, 4)}
    assert [list(stack) for stack in find_stacks(linear)] == [["qkv", "proj"], ["fc"]]
    weights = stack_weights([linear["qkv"], linear["proj"]])
    expected = [*linear["qkv"].weight.split(4), linear["proj"].weight]
    assert torch.equal(weights, torch.stack(expected))
    del linear["proj"]
    assert [list(stack) for stack in find_stacks(linear)] == [["qkv"], ["fc"]]
    kernels = {"down": nn.Conv1d(4, 4, 1), "up": nn.ConvTranspose1d(4, 4, 1)}
    half = {"half": nn.Conv1d(4, 4, 1).bfloat16()}
    assert len(find_stacks(kernels | half)) == 3


@pytest.mark.parametrize(("method", "dtype"), list(product(METHODS, DTYPES)))
def test_only_the_adapter_moves_and_all_of_it_does(
    method: tuple[str, int], dtype: torch.dtype
) -> None:
    plain, network, x = adapted(*method, dtype)
    assert torch.equal(network(x), plain(x))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    parts = {"lora-pt": "usv", "tcurlora": ["core"]}[method[0]]
    holders = [f"blocks.0.{layer}" for layer in ("attn.qkv", "fc1", "fc2")]
    assert trained == {f"{holder}.stack.{part}" for holder in holders for part in parts}
    train(network, x)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) == (key not in trained), key
    detach(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(network.state_dict()[key], value)


@pytest.mark.parametrize(("name", "rank"), METHODS)
def test_no_number_is_idle(name: str, rank: int) -> None:
    _, network, x = adapted(name, rank)
    network(x).square().sum().backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert trained
    assert all((p.grad != 0).all() for p in trained)


@pytest.mark.parametrize(("name", "rank"), METHODS)
def test_weights_change_by_t_products(name: str, rank: int) -> None:
    """Slices of the stack lie in the layers' weights in their order: q, k, v and the projection."""
    plain, network, x = adapted(name, rank)
    train(network, x)
    layers = find_layers(plain, TargetOptions(), ("linear",))
    for stack in find_stacks(layers):
        names = list(stack)
        numbers = network.get_submodule(names[0]).stack
        if name == "lora-pt":
            root = numbers.u.shape[0] ** 0.5
            new = slow_t_product(scale_tubes(numbers.u, numbers.s), numbers.v) / root
            old = slow_t_product(scale_tubes(numbers.start_u, numbers.start_s), numbers.start_v)
            update = new - old / root
        else:
            update = slow_t_product(slow_t_product(numbers.columns, numbers.core), numbers.rows)
        expected = stack_weights(list(stack.values())) + update
        found = torch.cat([network.get_submodule(layer).weight for layer in names])
        assert torch.allclose(found, expected.flatten(0, 1), atol=1e-4)
        assert update.abs().max() > 1e-2


@pytest.mark.parametrize(("name", "rank"), METHODS)
def test_merging_gives_the_same_and_ordinary_layers(name: str, rank: int) -> None:
    plain, network, x = adapted(name, rank)
    train(network, x)
    network.eval()
    expected, layers = network(x), adapted_layers(network)
    assert not torch.allclose(expected, plain(x), atol=1e-2)
    merged = merge(network)
    assert not any(isinstance(module, StackedLayer) for module in merged.modules())
    assert type(merged.get_submodule(LAYERS[0])) is nn.Linear
    assert torch.allclose(merged(x), expected, atol=1e-4)
    exported = torch.export.export(merged, (x,)).module()
    assert torch.allclose(exported(x), merged(x), atol=1e-5)
    attach(network, layers)
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize(("name", "rank"), METHODS)
def test_adapters_take_turns_on_one_backbone(name: str, rank: int) -> None:
    plain, network, x = adapted(name, rank)
    train(network, x)
    first = network(x)
    layers = detach(network)
    assert torch.equal(network(x), plain(x))
    adapt(network, name, {"rank": rank})
    assert torch.equal(network(x), plain(x))
    attach(network, layers)
    assert torch.equal(network(x), first)


@pytest.mark.parametrize("name", NAMES)
def test_saved_state_restores_the_outputs_and_holds_each_stack_once(name: str) -> None:
    _, network, x = adapted(name, 2)
    train(network, x)
    state = network.state_dict()
    pointers = [value.data_ptr() for value in state.values()]
    assert len(set(pointers)) == len(pointers)
    other = tiny(seed=3)
    adapt(other, name, {"rank": 2})
    other.load_state_dict(state)
    assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("name", NAMES)
def test_copies_share_their_stacks_among_themselves_alone(name: str) -> None:
    _, network, x = adapted(name, 2)
    other = copy.deepcopy(network)
    before = network(x)
    train(other, x)
    assert torch.equal(network(x), before)
    assert not torch.allclose(other(x), before, atol=1e-2)
    assert torch.equal(copy.deepcopy(other)(x), other(x))


@pytest.mark.parametrize("name", NAMES)
def test_part_of_the_layers_is_stacked(name: str) -> None:
    network, plain, x = tiny(), tiny(), images()
    assert adapt(network, name, {"layers": r"^blocks\.1\.(attn|fc1)", "rank": 2}) == LAYERS[4:7]
    assert adapted_layers(network)["blocks.1.attn.qkv"].stack.factors()[0].shape[0] == 4
    train(network, x)
    tokens = torch.randn(2, 5, 48)
    assert torch.equal(network.blocks[0](tokens), plain.blocks[0](tokens))
    assert not torch.allclose(network.blocks[1](tokens), plain.blocks[1](tokens), atol=1e-2)
    expected = network(x)
    assert torch.allclose(merge(network)(x), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_are_stacked_where_nothing_is_linear(name: str) -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv3d(4, 4, 3, padding=1, groups=2) for _ in range(3)]
    network = nn.Sequential(*convolutions, nn.ConvTranspose3d(4, 2, 2, stride=2))
    plain, x = copy.deepcopy(network), torch.randn(2, 4, 3, 4, 3)
    assert adapt(network, name, {"rank": 1}) == ["0", "1", "2", "3"]
    assert isinstance(network[0], StackedLayer)
    assert torch.equal(network(x), plain(x))
    train(network, x)
    expected = network(x)
    assert not torch.allclose(expected, plain(x), atol=1e-2)
    assert torch.allclose(merge(network)(x), expected, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_where_layers_are_linear_the_convolutions_are_left_unless_asked_for(name: str) -> None:
    network = tiny()
    assert "patch_embed" not in adapt(copy.deepcopy(network), name)
    names = adapt(network, name, {"kinds": ["linear", "convolution"]})
    assert names == ["patch_embed", *LAYERS]
    assert not any(
        isinstance(module, LINEAR) and path in LAYERS for path, module in network.named_modules()
    )


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_computes_nearly_the_same(name: str) -> None:
    _, network, x = adapted(name, 2)
    train(network, x)
    expected = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(x)
    assert (found - expected).norm() < 0.05 * expected.norm()
