"""Sharpness-aware steps against the paper's algorithm."""

from pathlib import Path

import pytest
import torch
from torch import nn

from braintune.fitting.sam import climbed
from braintune.fitting.training import FoldTrainer
from braintune.models.backbone import InputShape, build_backbone
from fitting.test_recalibration import make_trainer, run

STEADY = {"name": "sfcn", "channels": [4, 8], "norm": "instance"}
PLAIN = {"epochs": 2, "augment": "none", "lr": 0.01, "keep": "last", "schedule": "constant"}


def gradients_of(network: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


def test_a_step_is_the_papers() -> None:
    """w - lr * grad L(w + rho * g / |g|), with everything by hand."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    images = torch.randn(8, 3, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return network(images).square().mean() + network(images).sin().sum()

    start = [p.detach().clone() for p in network.parameters()]
    first = gradients_of(network, loss())
    length = torch.sqrt(sum(g.square().sum() for g in first))
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), first, strict=True):
            parameter += 0.3 * gradient / length
    expected = gradients_of(network, loss())
    with torch.no_grad():
        for parameter, origin in zip(network.parameters(), start, strict=True):
            parameter.copy_(origin)

    loss().backward()
    with climbed(network, 0.3):
        loss().backward()
    for parameter, origin, gradient in zip(network.parameters(), start, expected, strict=True):
        assert torch.equal(parameter, origin)
        assert torch.allclose(parameter.grad, gradient, rtol=1e-10)


def test_norms_see_the_weights_that_are_kept_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    frozen = nn.BatchNorm3d(2).eval()
    images = torch.randn(3, 1, 2, 2, 2)
    network(images).sin().sum().backward()
    seen = [buffer.clone() for buffer in network.buffers()]
    with climbed(network, 5.0):
        outputs = network(images)
        # It normalises by the batch, as it does in training.
        assert torch.allclose(outputs.mean(dim=(0, 2, 3, 4)), network[1].bias, atol=1e-5)
        frozen(outputs)
    assert all(torch.equal(a, b) for a, b in zip(seen, network.buffers(), strict=True))
    assert network[1].track_running_stats


def test_an_error_within_leaves_the_weights() -> None:
    layer = nn.Linear(2, 2)
    start = layer.weight.detach().clone()
    layer(torch.ones(1, 2)).sum().backward()
    with pytest.raises(ZeroDivisionError), climbed(layer, 1.0):
        raise ZeroDivisionError
    assert torch.equal(layer.weight, start)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_bfloat16_climbs_as_high(norm: str) -> None:
    """Rounded weights move by chance, but the loss rises by what it does in float32."""
    torch.manual_seed(0)
    given = InputShape(1, (16, 16, 16))
    backbone = build_backbone("sfcn", given, {"channels": [8, 16], "norm": norm})
    network = nn.Sequential(backbone, nn.Linear(16, 2))
    images, truth = torch.randn(8, *given.shape).unsqueeze(1), torch.arange(8) % 2
    rises = []
    for is_rounded in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rounded):
            before = nn.functional.cross_entropy(network(images).float(), truth)
        before.backward()
        with climbed(network, 0.2), torch.autocast("cpu", torch.bfloat16, enabled=is_rounded):
            after = nn.functional.cross_entropy(network(images).float(), truth)
        rises.append(float((after - before).detach()))
    assert rises[0] > 0.01
    assert rises[1] == pytest.approx(rises[0], rel=0.1)


def trained(folder: Path, **train: object) -> FoldTrainer:
    trainer, stop = make_trainer(folder, backbone=STEADY, train={**PLAIN, **train})
    run(trainer, stop)
    return trainer


def test_batches_that_add_up_climb_together(tmp_path: Path) -> None:
    options = {"sam": 0.1, "optimiser": "sgd-nesterov"}
    one = trained(tmp_path, batch_size=6, **options)
    several = trained(tmp_path, batch_size=2, accumulate=3, **options)
    for first, second in zip(one.network.parameters(), several.network.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-5)
    plain = trained(tmp_path, batch_size=6, optimiser="sgd-nesterov")
    pairs = zip(one.network.parameters(), plain.network.parameters(), strict=True)
    gap = [float((a - b).detach().abs().max()) for a, b in pairs]
    assert max(gap) > 1e-4


def test_the_second_gradient_is_what_is_clipped(tmp_path: Path) -> None:
    """The first step of Nesterov's momentum is as long as the clipped gradient, times 1.9."""
    options = {"optimiser": "sgd-nesterov", "epochs": 1, "batch_size": 7, "weight_decay": 0}
    for radius in (1e-3, 1.0):
        trainer, stop = make_trainer(
            tmp_path, backbone=STEADY, train={**PLAIN, **options, "sam": radius, "clip": 0.01}
        )
        before = [p.detach().clone() for p in trainer.network.parameters()]
        run(trainer, stop)
        moved = zip(before, trainer.network.parameters(), strict=True)
        length = torch.sqrt(sum((a - b.detach()).square().sum() for a, b in moved))
        # The warm-up of one step begins at the full rate.
        assert float(length) == pytest.approx(0.01 * 0.01 * 1.9, rel=1e-3)
