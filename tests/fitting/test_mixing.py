"""Mixup and cutmix: what becomes of images, and what of labels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from braintune.fitting.batches import Share, share_batch
from braintune.fitting.losses import Batch, Labels, TrainingLoss
from braintune.fitting.mixing import Mixture, draw_mixture, mix
from braintune.fitting.precision import Precision
from braintune.recipe import TaskRecipe, TrainRecipe
from braintune.tasks.task import Task, make_task
from conftest import tiny_recipe

SHAPE = (12, 10, 8)
SHARES = (1.0, 0.7, 0.25, 0.0)
MIXTURES = tuple(Mixture(share) for share in SHARES)
TWO = Share(np.arange(4), np.array([1, 2, 3, 0]))


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 2, *SHAPE, generator=torch.Generator().manual_seed(0))


def losses(
    task: Task, outputs: torch.Tensor, truth: np.ndarray, weights: np.ndarray | None = None
) -> torch.Tensor:
    """The losses of four scans of which each is mixed with the next."""
    recipe = tiny_recipe(train={"mixup": 1})
    loss = TrainingLoss(
        recipe, task, 0, Labels(truth, weights), Precision("fp32", False), torch.device("cpu")
    )
    return loss(lambda x: x, Batch(TWO, outputs, MIXTURES))


def task_of(kind: str, truth: np.ndarray, **options: object) -> Task:
    recipe = TaskRecipe.model_validate({"kind": kind, "target": "x", **options})
    return make_task(recipe).fit(truth)


def gradient(values: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(values.sum(), outputs)[0]


def test_mixup_is_a_weighted_mean() -> None:
    first, second = images(), images().flip(0)
    mixed = mix(first, second, [Mixture(0.3), Mixture()])
    assert torch.allclose(mixed[0], 0.3 * first[0] + 0.7 * second[0], atol=1e-6)
    assert torch.equal(mixed[1], first[1])
    assert torch.equal(first, images())


@given(seed=st.integers(0, 10_000), alpha=st.floats(0.1, 5))
def test_cutmix_takes_a_box_over_all_three_axes(seed: int, alpha: float) -> None:
    mixture = draw_mixture(TrainRecipe(cutmix=1, mix_alpha=alpha), SHAPE, seed)
    first, second = images()[:1], images()[1:]
    mixed = mix(first, second, [mixture])[0, 0]
    own, other = mixed == first[0, 0], mixed == second[0, 0]
    assert (own ^ other).all()
    assert float(own.float().mean()) == pytest.approx(mixture.share, abs=1e-6)
    assert mixture.box is not None
    box = torch.zeros(SHAPE, dtype=torch.bool)
    box[mixture.box] = True
    assert torch.equal(box, other)
    # The box has the image's form: before it is cut off at an edge, each axis has the same share.
    edges = [(part.stop - part.start) / n for part, n in zip(mixture.box, SHAPE, strict=True)]
    inside = [p.start > 0 and p.stop < n for p, n in zip(mixture.box, SHAPE, strict=True)]
    if all(inside):
        assert max(edges) - min(edges) <= 1 / min(SHAPE) + 1 / max(SHAPE)


def test_scans_are_mixed_as_often_as_asked() -> None:
    recipe = TrainRecipe(mixup=0.3, cutmix=0.5, mix_alpha=0.4)
    drawn = [draw_mixture(recipe, SHAPE, seed) for seed in range(2000)]
    cut = np.mean([mixture.box is not None for mixture in drawn])
    blended = [m.share for m in drawn if m.box is None and m.share < 1]
    assert cut == pytest.approx(0.5, abs=0.04)
    assert len(blended) / 2000 == pytest.approx(0.3, abs=0.04)
    # Moments of the Beta distribution.
    assert np.mean(blended) == pytest.approx(0.5, abs=0.05)
    assert np.var(blended) == pytest.approx(0.25 / (2 * 0.4 + 1), rel=0.1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_the_mixed_label(smoothing: float) -> None:
    truth = np.array([0.0, 2.0, 1.0, 2.0])
    task = task_of("classification", truth, classes=3, label_smoothing=smoothing)
    outputs = torch.randn(4, 3)
    labels = F.one_hot(torch.tensor(truth).long(), 3).float()
    shares = torch.tensor(SHARES)[:, None]
    mixed = shares * labels + (1 - shares) * labels.roll(-1, 0)
    expected = F.cross_entropy(outputs, mixed, reduction="none", label_smoothing=smoothing)
    assert torch.allclose(losses(task, outputs, truth), expected, atol=1e-6)


def test_label_smoothing_is_its_definition() -> None:
    """A share of the label is spread evenly over all classes (Szegedy et al. 2016)."""
    truth = np.array([0.0, 2.0, 1.0])
    task = task_of("classification", truth, classes=3, label_smoothing=0.3)
    outputs = torch.randn(3, 3)
    labels = F.one_hot(torch.tensor(truth).long(), 3)
    expected = -((0.7 * labels + 0.1) * outputs.log_softmax(dim=1)).sum(dim=1)
    assert torch.allclose(task.loss(outputs, torch.tensor(truth)), expected, atol=1e-6)


def test_the_squared_error_learns_the_mixed_value() -> None:
    truth = np.array([20.0, 50.0, 35.0, 80.0])
    task = task_of("regression", truth, loss="mse")
    outputs = torch.randn(4, 1, requires_grad=True)
    shares = torch.tensor(SHARES)
    values = torch.tensor(truth, dtype=torch.float32)
    mixed = shares * values + (1 - shares) * values.roll(-1)
    expected = gradient(task.loss(outputs, mixed), outputs)
    assert torch.allclose(gradient(losses(task, outputs, truth), outputs), expected, atol=1e-5)


def test_soft_labels_are_learnt_as_their_mixture() -> None:
    truth = np.array([20.0, 50.0, 35.0, 80.0])
    task = task_of("soft-label-regression", truth, bins=7)
    outputs = torch.randn(4, 7, requires_grad=True)
    shares = torch.tensor(SHARES)[:, None]
    labels = task.labels(torch.tensor(truth, dtype=torch.float32))
    mixed = shares * labels + (1 - shares) * labels.roll(-1, 0)
    expected = outputs.softmax(dim=1) - mixed
    assert torch.allclose(gradient(losses(task, outputs, truth), outputs), expected, atol=1e-5)


def test_the_absolute_error_is_least_at_the_larger_share() -> None:
    truth = np.array([20.0, 50.0, 35.0, 80.0])
    task = task_of("regression", truth)
    tries = torch.linspace(-3, 3, 601)
    found = torch.stack([losses(task, torch.full((4, 1), float(t)), truth) for t in tries])
    least = task.predict(tries[found.argmin(dim=0)][:, None])[:, 0]
    assert least.tolist() == pytest.approx([20, 50, 80, 20], abs=0.3)


def test_each_label_has_the_weight_of_its_class() -> None:
    truth, weights = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.5, 3.0, 0.5, 3.0])
    task, outputs = task_of("classification", truth, classes=2), torch.randn(4, 2)
    own = task.loss(outputs, torch.tensor(truth)) * torch.tensor(weights)
    other = task.loss(outputs, torch.tensor(truth).roll(-1)) * torch.tensor(weights).roll(-1)
    shares = torch.tensor(SHARES)
    expected = (shares * own + (1 - shares) * other).float()
    assert torch.allclose(losses(task, outputs, truth, weights), expected, atol=1e-6)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_mix_what_one_would(world: int) -> None:
    """Each loads the partners that it needs; all together have the mixtures of one process."""
    rows, stored = np.array([4, 0, 7, 3, 5, 2]), torch.randn(8, 1, *SHAPE)
    recipe = tiny_recipe(train={"mixup": 0.5, "cutmix": 0.5, "augment": "heavy"})
    task = task_of("regression", np.arange(8.0))
    labels = Labels(np.arange(8.0), None)
    loss = TrainingLoss(recipe, task, 0, labels, Precision("fp32", False), torch.device("cpu"))
    one = share_batch(rows, 11, 0, 1)
    assert sorted(one.loaded) == sorted(rows)
    whole = loss.batch(one, stored[one.loaded], step=3)
    assert not torch.allclose(whole.images, loss.batch(one, stored[one.loaded], step=4).images)
    for rank in range(world):
        share = share_batch(rows, 11, rank, world)
        part = loss.batch(share, stored[share.loaded], step=3)
        assert torch.allclose(part.images, whole.images[rank::world], atol=1e-5)
        assert part.mixtures == whole.mixtures[rank::world]
        assert share.partners.tolist() == one.partners[rank::world].tolist()
