"""Methods that add nothing: which parameters train, which move, and what becomes of norms."""

import copy

import pytest
import torch
from torch import nn

from adapters.test_adapters import DTYPES, train
from braintune.adapters.adapter import adapt, merge, set_training
from braintune.adapters.counting import audit_parameters
from braintune.errors import InputError
from braintune.fitting.network import audit_recipe, make_network, outline
from braintune.models.backbone import InputShape, build_backbone
from braintune.recipe import TaskRecipe
from braintune.tasks.task import make_task
from conftest import tiny_recipe
from models.test_backbones import tiny

EDGE = (16, 16, 16)
AGE = {"kind": "regression", "target": "age", "head": {"hidden": 5, "dropout": 0.5}}


def is_norm(name: str) -> bool:
    return any(part in name for part in ("norm", "bn", "downsample.1"))


# For each method which parameters train, by their names.
TRAINS = {
    "probe": lambda _: False,
    "mlp-head": lambda _: False,
    "bias": lambda name: name.endswith(".bias"),
    "norm": is_norm,
    "last-k": lambda name: name.startswith(("blocks.1", "norm", "layer4")),
    "full": lambda _: True,
}


@pytest.mark.parametrize("backbone", ["resnet10", "vit"])
@pytest.mark.parametrize("name", TRAINS)
def test_what_should_train_trains_and_moves_and_nothing_else(backbone: str, name: str) -> None:
    network = tiny(backbone, EDGE)
    adapt(network, name)
    trains = {key for key, p in network.named_parameters() if p.requires_grad}
    assert trains == {key for key, _ in network.named_parameters() if TRAINS[name](key)}
    before = copy.deepcopy(network.state_dict())
    parameters = dict(network.named_parameters())
    if trains:
        set_training(network)
        train(network, torch.randn(2, 1, *EDGE))
    moved = {key for key, v in network.state_dict().items() if not torch.equal(v, before[key])}
    assert moved & parameters.keys() == trains
    learns = {"full": "", "last-k": "layer4"}.get(name, "none")
    statistics = {key for key in before if "running" in key and key.startswith(learns)}
    assert {key for key in moved if "running" in key} == statistics


@pytest.mark.parametrize("backbone", ["resnet10", "vit"])
@pytest.mark.parametrize("name", TRAINS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_start_is_the_backbone_and_state_comes_back(
    backbone: str, name: str, dtype: torch.dtype
) -> None:
    plain = tiny(backbone, EDGE).to(dtype).eval()
    network, x = copy.deepcopy(plain), torch.randn(2, 1, *EDGE, dtype=dtype)
    adapt(network, name)
    assert torch.equal(network(x), plain(x))
    if any(p.requires_grad for p in network.parameters()):
        train(network, x, steps=1)
        assert not torch.equal(network(x), plain(x))
    adapt(plain, name)
    plain.load_state_dict(network.state_dict())
    assert torch.equal(network(x), plain(x))
    assert merge(network) is network


def test_a_frozen_network_exports() -> None:
    network, x = tiny("resnet10", EDGE).eval(), torch.randn(2, 1, *EDGE)
    adapt(network, "norm")
    exported = torch.export.export(merge(network), (x,)).module()
    assert torch.allclose(exported(x), network(x), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Patches, then for each block two norms, the attention's two layers and the two behind it.
        ("bias", 768 + 12 * (2 * 768 + 3 * 768 + 768 + 3072 + 768) + 768),
        ("norm", 25 * 2 * 768),
        ("last-k", 7_087_872 + 2 * 768),
        ("probe", 0),
    ],
)
def test_counts_on_vit_b(name: str, count: int) -> None:
    with torch.device("meta"):
        network = build_backbone("vit", InputShape(1, (96, 96, 96)), {})
        adapt(network, name)
    assert audit_parameters(network).trainable_parts == {"backbone": count, "adapter": 0, "head": 0}


def test_layers_that_have_several_biases() -> None:
    network = nn.ModuleDict(
        {"lstm": nn.LSTM(3, 4), "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True)}
    )
    assert adapt(network, "bias") == ["lstm", "attention", "attention.out_proj"]
    trains = [name for name, p in network.named_parameters() if p.requires_grad]
    assert sorted(trains) == [
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "lstm.bias_hh_l0",
        "lstm.bias_ih_l0",
    ]


def test_tables_of_relative_positions_are_no_biases() -> None:
    network = tiny("swin3d-t")
    adapt(network, "bias")
    tables = [p for name, p in network.named_parameters() if name.endswith("bias_table")]
    assert tables
    assert not any(p.requires_grad for p in tables)


def biased() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Conv3d(2, 2, 1, bias=False), nn.Linear(2, 2)
    )


def test_biases_are_chosen_by_name_kind_and_depth() -> None:
    for options, names in (
        ({}, ["0", "1", "3"]),
        ({"layers": "[13]"}, ["1", "3"]),
        ({"kinds": ["convolution"]}, ["0"]),
        ({"depth": [0.5, 1]}, ["1", "3"]),
    ):
        assert adapt(biased(), "bias", options) == names
    with pytest.raises(InputError, match=r"no layer with a bias .*There are: 0, 1, 3"):
        adapt(biased(), "bias", {"layers": "2"})
    with pytest.raises(InputError, match="There are: none"):
        adapt(nn.Sequential(nn.Linear(2, 2, bias=False)), "bias")


def test_frozen_layers_within_adapters_keep_their_biases() -> None:
    network = biased()
    adapt(network, "lora", {"layers": "0"})
    assert adapt(network, "bias") == ["1", "3"]
    assert not network[0].base.bias.requires_grad


def test_norms_need_parameters_to_train() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2, affine=False))
    with pytest.raises(InputError, match="There are: BatchNorm3d, Conv3d, Sequential"):
        adapt(network, "norm")
    assert adapt(nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2)), "norm") == ["0", "1"]


@pytest.mark.parametrize("name", ["lora", "probe", "bias", "last-k"])
def test_affine_norms_train_on_statistics_that_stay(name: str) -> None:
    network = tiny("resnet10", EDGE)
    adapt(network, name, {"norms": "affine"})
    before = copy.deepcopy(network.state_dict())
    set_training(network)
    train(network, torch.randn(2, 1, *EDGE) + 3)
    after = network.state_dict()
    for key in before:
        if "running" in key:
            assert torch.equal(after[key], before[key]), key
        elif is_norm(key) and key.endswith("weight") and ".base" not in key:
            assert not torch.equal(after[key], before[key]), key


def test_the_last_stages_are_those_that_the_network_tells() -> None:
    network = tiny("resnet10", EDGE)
    assert adapt(network, "last-k", {"blocks": 2}) == ["layer3.0", "layer4.0"]
    assert adapt(network, "last-k", {"blocks": 5})[:2] == ["conv1", "bn1"]
    assert audit_parameters(network).frozen == 0
    with pytest.raises(InputError, match="blocks is 6, but the network has 5 stages"):
        adapt(network, "last-k", {"blocks": 6})


def test_other_networks_have_their_children_as_stages() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())
    assert adapt(network, "last-k") == ["1"]
    # A submodule of that name is no method.
    named = nn.ModuleDict({"first": nn.Linear(2, 2), "stages": nn.Linear(2, 2)})
    assert adapt(named, "last-k") == ["stages"]


def test_an_mlp_head_stands_on_a_frozen_backbone() -> None:
    recipe = tiny_recipe(task=AGE, adapter={"name": "mlp-head"})
    task = make_task(recipe.task)
    network = make_network(recipe, task)
    layers = [layer for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(8, 5), (5, 1)]
    # The last layer is the task's own: a regression starts at the mean.
    assert not layers[-1].bias.any()
    counts = audit_recipe(recipe).parameters
    assert counts.trainable_parts == {"backbone": 0, "adapter": 0, "head": 8 * 5 + 5 + 5 + 1}
    network.train()
    train(network, torch.randn(4, 1, *recipe.prepare.shape))
    assert layers[-1].bias.any()


def test_a_head_that_has_a_hidden_layer_gets_no_second_one() -> None:
    heads = []
    for adapter in ("probe", "mlp-head"):
        head = {"kind": "mlp", "hidden": 5}
        recipe = tiny_recipe(task={**AGE, "head": head}, adapter={"name": adapter})
        heads.append(str(outline(recipe, make_task(recipe.task)).head))
    assert heads[0] == heads[1]
    recipe = tiny_recipe(adapter={"name": "probe"})
    task = make_task(TaskRecipe(kind="classification", target="dx", classes=2))
    assert sum(isinstance(m, nn.Linear) for m in outline(recipe, task).head.modules()) == 1


@pytest.mark.parametrize(
    ("backbone", "name"), [("vit", "lora"), ("resnet10", "full"), ("vit", "probe")]
)
def test_there_must_be_statistics_to_recalibrate(backbone: str, name: str) -> None:
    with pytest.raises(InputError, match=f"keep their statistics under {name}"):
        adapt(tiny(backbone, EDGE), name, {"norms": "recalibrate"})


@pytest.mark.parametrize("name", ["lora", "probe", "norm"])
def test_norms_without_parameters_keep_their_statistics_until_all_trains(name: str) -> None:
    norm = nn.BatchNorm3d(2, affine=False)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), norm, nn.Conv3d(2, 2, 1), nn.BatchNorm3d(2))
    adapt(network, name)
    set_training(network)
    network(torch.randn(2, 1, 5, 5, 5) + 3)
    assert torch.equal(norm.running_mean, torch.zeros(2))
    adapt(network, "full")
    set_training(network)
    network(torch.randn(2, 1, 5, 5, 5) + 3)
    assert not torch.equal(norm.running_mean, torch.zeros(2))
