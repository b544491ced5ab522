"""Who learns how fast, who decays, and that the optimiser belongs to the network as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from braintune.adapters.adapter import adapt
from braintune.errors import BraintuneError, InputError
from braintune.fitting.network import Network
from braintune.fitting.optimiser import demand_current, make_optimiser, set_learning_rate
from braintune.recipe import TrainRecipe
from fitting.test_recalibration import make_trainer, run
from models.test_backbones import tiny

EDGE = (16, 16, 16)
# How many groups above a parameter learn faster than it, by its name's beginning.
VIT = {"patch_embed": 3, "pos_embed": 3, "cls_token": 3, "blocks.0": 2, "blocks.1": 1, "norm": 1}
RESNET = {"conv1": 5, "bn1": 5, "layer1.0": 4, "layer2.0": 3, "layer3.0": 2, "layer4.0": 1}


def make(backbone: str, adapter: str, options: dict[str, Any] | None = None) -> Network:
    made = tiny(backbone, EDGE)
    adapt(made, adapter, options)
    return Network(made, nn.Linear(made.n_features, 2))


def groups_by_name(network: nn.Module, recipe: TrainRecipe) -> dict[str, dict[str, Any]]:
    """The group of each parameter that trains."""
    names = {id(p): name for name, p in network.named_parameters()}
    return {
        names[id(p)]: group
        for group in make_optimiser(network, recipe).param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize(("backbone", "depths"), [("vit", VIT), ("resnet10", RESNET)])
@pytest.mark.parametrize(
    ("adapter", "options"),
    [("full", {}), ("lora", {}), ("dora", {"lr_ratio": 16}), ("lora", {"norms": "affine"})],
)
def test_rates_fall_with_depth(
    backbone: str, depths: dict[str, int], adapter: str, options: dict[str, Any]
) -> None:
    network = make(backbone, adapter, options)
    groups = groups_by_name(network, TrainRecipe(lr=0.01, layer_decay=0.6))
    trains = {name for name, p in network.named_parameters() if p.requires_grad}
    assert groups.keys() == trains
    for name, group in groups.items():
        part, _, own = name.partition(".")
        depth = 0 if part == "head" else next(n for p, n in depths.items() if own.startswith(p))
        ratio = options.get("lr_ratio", 1) if name.endswith("lora_b") else 1
        assert group["factor"] == 0.6**depth * ratio, name
        assert group["lr"] == 0.01 * group["factor"]


def test_faster_factors_hold_without_decay_too() -> None:
    groups = groups_by_name(make("vit", "lora", {"lr_ratio": 16}), TrainRecipe())
    factors = {name.rpartition(".")[2]: group["factor"] for name, group in groups.items()}
    assert factors == {"lora_a": 1, "lora_b": 16, "weight": 1, "bias": 1}


def test_the_schedule_moves_all_groups_together() -> None:
    optimiser = make_optimiser(make("vit", "full"), TrainRecipe(layer_decay=0.5))
    set_learning_rate(optimiser, 0.08)
    assert sorted({g["lr"] for g in optimiser.param_groups}) == [0.01, 0.02, 0.04, 0.08]
    assert optimiser.defaults["fused"]


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_what_has_one_dimension_never_decays(layer_decay: float | None) -> None:
    recipe = TrainRecipe(weight_decay=0.1, layer_decay=layer_decay)
    for adapter in ("full", "dora"):
        network = make("vit", adapter)
        groups = groups_by_name(network, recipe)
        free = {name for name, group in groups.items() if group["weight_decay"] == 0}
        expected = {
            name
            for name, p in network.named_parameters()
            if p.requires_grad and (p.ndim == 1 or name.endswith(("cls_token", "pos_embed")))
        }
        assert free == expected
        assert free
        assert {g["weight_decay"] for n, g in groups.items() if n not in free} == {0.1}


def test_rates_are_those_that_steps_take() -> None:
    """Without gradients to tell them apart, Adam's steps are as large as the rates."""
    network = make("resnet10", "full")
    recipe = TrainRecipe(lr=1e-3, layer_decay=0.5, weight_decay=0)
    optimiser = make_optimiser(network, recipe)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    for name, own in (("head.weight", 0), ("backbone.layer4.0.conv1.weight", 1)):
        moved = before[name] - dict(network.named_parameters())[name].detach()
        assert torch.allclose(moved, torch.full_like(moved, 1e-3 * 0.5**own), rtol=1e-2)


@pytest.mark.parametrize("optimiser", ["adamw", "adam-amsgrad", "sgd-nesterov"])
def test_without_a_gradient_only_weights_decay(optimiser: str) -> None:
    """Norms, biases and tokens stay as they are under every optimiser."""
    network = make("vit", "full")
    for parameter in network.parameters():
        nn.init.normal_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    recipe = TrainRecipe(optimiser=optimiser, weight_decay=0.1, lr=0.1)
    make_optimiser(network, recipe).step()
    for name, parameter in network.named_parameters():
        is_free = parameter.ndim == 1 or name.endswith(("cls_token", "pos_embed"))
        assert torch.equal(parameter, before[name]) == is_free, name


def steps_of(optimiser: str, gradients: list[float], **options: float) -> list[float]:
    """Where a weight of 1 is after each step."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    made = make_optimiser(layer, TrainRecipe(optimiser=optimiser, weight_decay=0, **options))
    places = []
    for gradient in gradients:
        layer.weight.grad = torch.full((1, 1), gradient)
        made.step()
        places.append(layer.weight.item())
    return places


def test_nesterovs_momentum_is_its_formula() -> None:
    gradients, place, velocity, expected = [1.0, -0.5, 2.0, 0.1], 1.0, 0.0, []
    for gradient in gradients:
        velocity = 0.8 * velocity + gradient
        place -= 0.1 * (gradient + 0.8 * velocity)
        expected.append(place)
    assert steps_of("sgd-nesterov", gradients, lr=0.1, momentum=0.8) == pytest.approx(expected)


def test_amsgrad_never_forgets_the_largest_gradient() -> None:
    gradients, place, mean, square, largest, expected = [5.0, 0.1, 0.2, 0.1], 1.0, 0.0, 0.0, 0.0, []
    for step, gradient in enumerate(gradients, start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        largest = max(largest, square)
        scale = (largest / (1 - 0.999**step)) ** 0.5 + 1e-8
        place -= 0.01 * (mean / (1 - 0.9**step)) / scale
        expected.append(place)
    assert steps_of("adam-amsgrad", gradients, lr=0.01) == pytest.approx(expected, rel=1e-5)


def test_an_optimiser_from_before_the_adapter_is_refused() -> None:
    network = make("vit", "full")
    optimiser = make_optimiser(network, TrainRecipe())
    demand_current(optimiser, network)
    adapt(network.backbone, "lora")
    with pytest.raises(BraintuneError, match=r"before the network was adapted: .*lora_a"):
        demand_current(optimiser, network)
    adapt(network.backbone, "probe")
    with pytest.raises(BraintuneError, match=r"misses nothing, and moves \d+ parameters"):
        demand_current(optimiser, network)


def test_training_refuses_it_before_its_first_step(tmp_path: Path) -> None:
    trainer, stop = make_trainer(tmp_path, adapter={"name": "full"})
    adapt(trainer.network.backbone, "lora", {"rank": 1})
    with pytest.raises(BraintuneError, match="Adapt the network first, then make the optimiser"):
        run(trainer, stop)
    assert trainer.history == []


def test_something_must_train() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    adapt(network, "probe")
    with pytest.raises(InputError, match="No parameter of the network trains"):
        make_optimiser(network, TrainRecipe())


@pytest.mark.parametrize("decay", [0, 1.1])
def test_decay_is_a_share(decay: float) -> None:
    with pytest.raises(ValueError, match="layer_decay"):
        TrainRecipe(layer_decay=decay)
