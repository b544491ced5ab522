"""The losses of label maps against their definitions, voxel by voxel, and against MONAI's."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, FocalLoss

from braintune.errors import InputError
from braintune.fitting.network import MapNetwork, make_network, outline
from braintune.recipe import Recipe, TaskRecipe
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.segmentation_losses import (
    cross_entropy,
    focal,
    labels_at,
    over_scales,
    soft_dice,
)
from braintune.tasks.task import TASKS, make_any_task, make_task

SHAPE = (2, 3, 2)


def case() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, *SHAPE))
    labels[1][labels[1] == 2] = 0  # a class that is nowhere
    return torch.randn(2, 3, *SHAPE), labels


def slow_chances(logits: torch.Tensor, place: tuple[int, ...]) -> list[float]:
    odds = [math.exp(float(logits[(c, *place)])) for c in range(3)]
    return [o / sum(odds) for o in odds]


def slow_losses(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> dict[str, float]:
    """Of one scan, by the sums that define them."""
    places = list(itertools.product(*map(range, SHAPE)))
    chances = [slow_chances(logits, place) for place in places]
    truth = [int(labels[place]) for place in places]
    dice = []
    for c in range(3):
        both = sum(p[c] for p, t in zip(chances, truth, strict=True) if t == c)
        sizes = sum(p[c] for p in chances) + truth.count(c)
        dice.append(1 - (2 * both + 1e-5) / (sizes + 1e-5))
    right = [p[t] for p, t in zip(chances, truth, strict=True)]
    return {
        "dice": (dice[1] + dice[2]) / 2,
        "dice with background": sum(dice) / 3,
        "ce": -sum(map(math.log, right)) / len(right),
        "focal": -sum((1 - p) ** gamma * math.log(p) for p in right) / len(right),
    }


def test_losses_are_their_definitions_for_each_scan() -> None:
    logits, labels = case()
    for number in range(2):
        expected = slow_losses(logits[number], labels[number], 1.7)
        found = {
            "dice": soft_dice(logits, labels, with_background=False),
            "dice with background": soft_dice(logits, labels, with_background=True),
            "ce": cross_entropy(logits, labels),
            "focal": focal(logits, labels, 1.7),
        }
        assert {k: float(v[number]) for k, v in found.items()} == pytest.approx(expected, rel=1e-5)


def test_losses_are_monais() -> None:
    logits, labels = case()
    channel = labels[:, None]
    dice = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    assert float(soft_dice(logits, labels, False).mean()) == pytest.approx(
        float(dice(logits, channel)), rel=1e-5
    )
    monais = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0, reduction="none")
    expected = monais(logits, channel).sum(dim=1).flatten(1).mean(dim=1)
    assert torch.allclose(focal(logits, labels, 2.0), expected, atol=1e-6)


def test_coarser_scales_count_half_and_see_the_nearest_label() -> None:
    losses = [torch.tensor([4.0]), torch.tensor([2.0]), torch.tensor([1.0])]
    assert float(over_scales(losses)) == pytest.approx((4 + 2 / 2 + 1 / 4) / 1.75)
    labels = torch.arange(8).view(1, 8, 1, 1)
    assert labels_at(labels, torch.Size((4, 1, 1))).flatten().tolist() == [1, 3, 5, 7]
    assert torch.equal(labels_at(labels, torch.Size((8, 1, 1))), labels)


def task(**options: Any) -> Segmentation:
    values = {"labels": {1: "anterior", 2: "posterior"}, **options}
    made = make_any_task(TaskRecipe(kind="segmentation", target="hippocampus", **values))
    assert isinstance(made, Segmentation)
    return made


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("dice-ce", ("dice", "ce")),
        ("dice", ("dice",)),
        ("ce", ("ce",)),
        ("focal", ("focal",)),
        ("dice-focal", ("dice", "focal")),
    ],
)
def test_the_loss_of_a_recipe_is_the_sum_of_its_parts(name: str, parts: tuple[str, ...]) -> None:
    logits, labels = case()
    found = task(loss=name, gamma=1.7).loss([logits], labels)
    for number in range(2):
        slow = slow_losses(logits[number], labels[number], 1.7)
        assert float(found[number]) == pytest.approx(sum(slow[part] for part in parts), rel=1e-5)


def recipe(backbone: dict[str, Any], **options: Any) -> Recipe:
    labels = {1: "anterior", 2: "posterior"}
    return Recipe.parse(
        {
            "task": {
                "kind": "segmentation",
                "target": "hippocampus",
                "labels": labels,
                "patch": [32, 32, 64],
                **options,
            },
            "prepare": {"shape": [48, 48, 64]},
            "backbone": backbone,
        }
    )


BACKBONES = {
    "unet": ({"channels": [2, 3, 4, 5], "norm": "instance"}, 2),
    "segresnet": ({"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]}, 1),
    "swinunetr": ({"feature_size": 12}, 4),
    "unetr": ({"width": 24, "heads": 3, "hidden": 32, "feature_size": 4}, 3),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_deep_supervision_reads_every_coarser_map(name: str) -> None:
    """On the meta device, where channels and shapes are checked and nothing is computed."""
    options, count = BACKBONES[name]
    chosen = recipe({"name": name, **options}, deep_supervision=True)
    network = outline(chosen, make_any_task(chosen.task)).train()
    assert isinstance(network, MapNetwork)
    scales = network(torch.empty(2, 1, 32, 32, 64, device="meta"))
    assert [tuple(logits.shape[:2]) for logits in scales] == [(2, 3)] * (count + 1)
    assert tuple(scales[0].shape[2:]) == (32, 32, 64)
    sizes = [logits.shape[2:].numel() for logits in scales]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] == sizes[0] // 8
    assert network.eval()(torch.empty(2, 1, 32, 32, 64, device="meta")).shape[1] == 3


def test_deep_supervision_trains_the_coarse_heads_and_leaves_the_output_as_it_was() -> None:
    chosen = recipe({"name": "unet", "channels": [2, 3, 4]}, deep_supervision=True)
    torch.manual_seed(0)
    network = make_network(chosen, make_any_task(chosen.task))
    images, labels = torch.randn(2, 1, 8, 8, 8), torch.randint(0, 3, (2, 8, 8, 8))
    scales = network.train()(images)
    task(deep_supervision=True).loss(scales, labels).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.coarse_heads.parameters())
    plain = network.head(network.backbone.maps(images))
    assert torch.allclose(scales[0], plain, atol=1e-5)


def test_adapters_train_on_maps_too() -> None:
    values = recipe({"name": "unet", "channels": [2, 3, 4]}).model_dump()
    chosen = Recipe.parse({**values, "adapter": {"name": "hyps", "rank": 1}})
    network = make_network(chosen, make_any_task(chosen.task))
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert any("decoder" in name for name in trained)
    assert {"head.weight", "head.bias"} <= set(trained)


def test_pairs_of_sides_swap_their_classes() -> None:
    sides = task(labels={47: "right", 48: "left", 9: "stem"}, mirrored=[[47, 48]])
    assert sides.table.values == (9, 47, 48)
    assert sides.mirrored.tolist() == [0, 1, 3, 2]
    assert np.array_equal(sides.table.written(np.array([1, 3], np.uint8)), [9, 48])


def test_state_round_trips_and_a_value_task_is_not_made_of_label_maps() -> None:
    made = task(mirrored=[[1, 2]], largest=True)
    assert TASKS.get("segmentation").restore(made.state()) == made
    with pytest.raises(InputError, match="predicts no value of a scan"):
        make_task(TaskRecipe(kind="segmentation", target="x", labels={1: "a"}))


def test_a_recipe_with_labels_reads_back_as_it_was(tmp_path: Any) -> None:
    chosen = recipe({"name": "unet"})
    (tmp_path / "recipe.yaml").write_text(chosen.dump())
    again = Recipe.read(tmp_path / "recipe.yaml")
    assert make_any_task(again.task) == make_any_task(chosen.task)
    assert again.model_dump(mode="json") == chosen.model_dump(mode="json")
