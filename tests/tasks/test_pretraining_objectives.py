"""Objectives of pre-training against their definitions, each computed another way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from braintune.errors import InputError
from braintune.models.backbone import MapBackbone
from braintune.tasks.pretraining.contrastive import contrastive_losses, kernel
from braintune.tasks.pretraining.objective import (
    OBJECTIVES,
    make_objective,
)
from braintune.tasks.segmentation_losses import soft_dice
from tasks.objective_parts import (
    SFCN,
    SHAPE,
    UNET,
    backbone_of,
    fitted,
    images_of,
    learner_of,
    views_of,
)


def test_there_are_four_objectives() -> None:
    assert OBJECTIVES.names() == ["contrastive", "masked", "segmentation", "supervised"]
    with pytest.raises(InputError, match="Did you mean 'masked'"):
        make_objective("mask", {})
    with pytest.raises(InputError, match="ratio"):
        make_objective("masked", {"ratios": 0.5})


# ---- contrastive


def brute_nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> list[float]:
    """Equation 1 of SimCLR, one pair after the other."""
    z = [v / v.norm() for v in torch.cat([first, second]).double()]
    n = len(first)

    def loss(i: int, j: int) -> float:
        others = [math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i]
        return -math.log(math.exp(float(z[i] @ z[j]) / temperature) / sum(others))

    return [(loss(i, i + n) + loss(i + n, i)) / 2 for i in range(n)]


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_nt_xent_is_that_of_the_paper(temperature: float) -> None:
    first, second = torch.randn(5, 6), torch.randn(5, 6)
    found = contrastive_losses(first, second, temperature)
    assert found.tolist() == pytest.approx(brute_nt_xent(first, second, temperature), rel=1e-4)


def test_the_loss_that_knows_labels_is_that_of_its_definition() -> None:
    first, second = torch.randn(4, 6), torch.randn(4, 6)
    ages, sigma, temperature = torch.tensor([20.0, 23.0, 60.0, 61.0]), 5.0, 0.3
    z = [v / v.norm() for v in torch.cat([first, second]).double()]
    y = [*ages.tolist(), *ages.tolist()]
    each = []
    for i in range(8):
        others = [k for k in range(8) if k != i]
        weights = {k: math.exp(-((y[i] - y[k]) ** 2) / (2 * sigma**2)) for k in others}
        below = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in others)
        each.append(
            -sum(
                weights[k]
                / sum(weights.values())
                * math.log(math.exp(float(z[i] @ z[k]) / temperature) / below)
                for k in others
            )
        )
    expected = [(each[i] + each[i + 4]) / 2 for i in range(4)]
    found = contrastive_losses(first, second, temperature, kernel(ages, sigma))
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_with_a_narrow_kernel_labels_change_nothing() -> None:
    first, second = torch.randn(6, 5), torch.randn(6, 5)
    ages = torch.tensor([20.0, 30.0, 41.0, 55.0, 62.0, torch.nan])
    alike = kernel(ages, 1e-3)
    assert torch.equal(alike, torch.eye(6))
    plain, aware = (contrastive_losses(first, second, 0.2, a) for a in (None, alike))
    assert torch.allclose(plain, aware)


def test_two_views_go_through_the_network_together() -> None:
    learner = learner_of("contrastive", backbone_of("sfcn", SFCN), temperature=0.5).eval()
    first, second = images_of(3), images_of(3, seed=1)
    projected = [learner.projection(learner.backbone(x)) for x in (first, second)]
    expected = contrastive_losses(*projected, 0.5)
    assert torch.allclose(learner(views_of(first, second)), expected, atol=1e-5)


# ---- supervised


def test_losses_of_labels_are_weighted_summed_and_left_out_where_unknown() -> None:
    tasks = fitted(age={"kind": "regression"}, sex={"kind": "classification", "labels": ["F", "M"]})
    tasks["age"] = tasks["age"].fit(np.array([20.0, 80.0]))
    learner = learner_of(
        "supervised",
        backbone_of("sfcn", SFCN),
        tasks,
        targets={
            "age": {"kind": "regression", "weight": 2.0},
            "sex": {"kind": "classification", "labels": ["F", "M"]},
        },
    ).eval()
    images = images_of(3)
    ages, sexes = torch.tensor([30.0, torch.nan, 50.0]), torch.tensor([1.0, 0.0, torch.nan])
    found = learner(views_of(images, targets={"age": ages, "sex": sexes}))
    features = learner.backbone(images)
    age = (learner.heads[0](features)[:, 0] - (ages - 50) / 30).abs()
    sex = F.cross_entropy(learner.heads[1](features), torch.tensor([1, 0, 0]), reduction="none")
    assert torch.allclose(found, torch.stack([2 * age[0] + sex[0], sex[1], 2 * age[2]]))
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


def test_options_of_a_label_are_checked() -> None:
    with pytest.raises(InputError, match="huber"):
        make_objective("supervised", {"targets": {"age": {"loss": "hubble"}}})
    with pytest.raises(InputError, match="Unknown task"):
        make_objective("supervised", {"targets": {"age": {"kind": "regress"}}})
    with pytest.raises(InputError, match="targets"):
        make_objective("supervised", {"targets": {}})


# ---- segmentation


def test_segmentation_is_cross_entropy_and_dice() -> None:
    backbone = backbone_of("unet", UNET)
    learner = learner_of("segmentation", backbone, classes=(0, 1, 2, 1), dice=0.5).eval()
    labels = torch.randint(4, (2, *SHAPE), generator=torch.Generator().manual_seed(0))
    images = images_of(2)
    found = learner(views_of(images, labels=labels.short()))
    truth = torch.tensor([0, 1, 2, 1])[labels]
    assert isinstance(backbone, MapBackbone)
    chances = learner.head(backbone.maps(images)).softmax(dim=1)
    for scan in range(2):
        right = chances[scan].gather(0, truth[scan][None])
        scores = []
        for number in range(3):
            p, t = chances[scan, number], (truth[scan] == number).float()
            scores.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
        expected = -right.log().mean() + 0.5 * (1 - torch.stack(scores).mean())
        assert found[scan].item() == pytest.approx(expected.item(), rel=1e-4)


def test_dice_is_none_for_a_perfect_map_and_one_for_a_wrong_one() -> None:
    truth = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    truth[:, :4] = 1
    right = 100.0 * F.one_hot(truth, 2).movedim(-1, 1).float()
    assert soft_dice(right, truth, True, 1.0).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice(-right, truth, True, 1.0).item() == pytest.approx(1, abs=0.01)


def test_segmentation_needs_a_decoder() -> None:
    with pytest.raises(InputError, match="needs a backbone with a decoder"):
        learner_of("segmentation", backbone_of("sfcn", SFCN), classes=(0, 1))


def test_decoders_are_kept_where_they_learn_alone() -> None:
    kept = learner_of("masked", backbone_of("unet", UNET), patch=4)
    dropped = learner_of("contrastive", backbone_of("unet", UNET))
    assert any(name.startswith("backbone.decoder") for name in kept.state_dict())
    assert not any(name.startswith("backbone.decoder") for name in dropped.state_dict())
