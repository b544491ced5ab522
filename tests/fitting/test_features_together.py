"""Heads that train together end as heads that train alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braintune.evaluation.splits import Fold
from braintune.fitting.features.optimisers import StackedOptimiser
from braintune.fitting.features.together import HeadFit, fit_heads
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.precision import Precision, make_fabric
from braintune.fitting.training import FoldTrainer
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.loading import save_folder
from braintune.models.weights.record import WeightRecord
from braintune.recipe import PrepareRecipe, Recipe
from braintune.tasks.task import make_task
from braintune.training_recipe import TrainRecipe
from conftest import tiny_recipe
from fitting.stopping import StoppingBar
from imaging.test_store import scan

SHAPE = (16, 16, 16)
COUNT = 20
# Folds of different sizes: four and five steps an epoch, and unlike numbers of validation rows.
FOLDS = [
    Fold("1", np.arange(0, 13), np.arange(13, 16), np.arange(16, 20)),
    Fold("2", np.arange(5, 20), np.arange(0, 2), np.arange(2, 5)),
    Fold(
        "3",
        np.array([1, 19, 3, 5, 7, 9, 11, 2, 8, 14, 6, 16, 4]),
        np.array([0, 10, 12]),
        np.array([13, 15, 17, 18]),
    ),
]
TRUTH = {
    "regression": np.linspace(20.0, 80.0, COUNT),
    "classification": np.array([0.0, 1, 1] * 6 + [0, 1]),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "last, constant": {"keep": "last", "schedule": "constant", "clip": None},
    "moving average, weights": {"ema": 0.8, "balance": "weights"},
    "last epochs": {"average_last": 2, "keep": "last", "schedule": "polynomial"},
    "amsgrad, one cycle": {"optimiser": "adam-amsgrad", "schedule": "one-cycle", "clip": 0.1},
    "nesterov, sampler": {"optimiser": "sgd-nesterov", "balance": "sampler", "weight_decay": 0.3},
    "patience": {"patience": 1, "epochs": 12, "optimiser": "sgd-nesterov"},
    "mirrored": {"flip_average": True},
}
TRAIN = {"epochs": 4, "batch_size": 3, "augment": "none"}
RATES = (1e-3, 3e-2, 0.3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    store = PreparedStore.create(tmp_path_factory.mktemp("scans"), PrepareRecipe(shape=SHAPE))
    for number in range(COUNT):
        store.write(f"s{number}", scan(number, SHAPE), "")
    return store


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, so that all seeds have the same backbone."""
    folder = tmp_path_factory.mktemp("weights") / "w"
    torch.manual_seed(1)
    backbone = build_backbone("sfcn", InputShape(1, SHAPE), {"channels": [4, 8]})
    record = WeightRecord(
        backbone="sfcn",
        tag="tiny",
        options={"channels": [4, 8]},
        licence="Apache-2.0",
        citation="–",
        summary="random",
    )
    save_folder(folder, record, backbone.state_dict())
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINTUNE_CACHE", str(tmp_path / "cache"))


def recipe_of(weights: Path | str, kind: str, seed: int = 0, **changes: Any) -> Recipe:
    train = {**TRAIN, **changes.pop("train", {})}
    adapter = changes.pop("adapter", {"name": "probe"})
    task: dict[str, Any] = {"kind": "regression", "target": "age"}
    if kind == "classification":
        task = {"kind": kind, "target": "dx", "classes": 2, **changes}
    return tiny_recipe(
        task=task,
        prepare={"shape": SHAPE},
        backbone={"name": "sfcn", "channels": [4, 8], "weights": str(weights)},
        adapter=adapter,
        train=train,
    ).model_copy(update={"seed": seed})


def machinery_in(folder: Path, dtype: Any = "fp32") -> Machinery:
    precision = Precision(dtype, channels_last=True)
    fabric = make_fabric(precision, "cpu")
    fabric.launch()
    return Machinery(fabric, precision, folder, 1e9, StopRequest())


def fit_of(store: PreparedStore, recipe: Recipe, number: int) -> HeadFit:
    truth = TRUTH[recipe.task.kind]
    fold = FOLDS[number]
    task = make_task(recipe.task).fit(truth[fold.train])
    loader = ScanLoader(store, [f"s{row}" for row in range(COUNT)])
    return HeadFit(recipe, task, FoldData(loader, truth, fold, number))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", TRUTH)
def test_each_head_ends_as_if_it_had_trained_alone(
    store: PreparedStore, weights: Path, tmp_path: Path, kind: str, name: str
) -> None:
    adapter = {"name": "mlp-head" if name in ("plain", "patience") else "probe"}
    fits = [
        fit_of(
            store,
            recipe_of(weights, kind, seed, adapter=adapter, train={**OPTIONS[name], "lr": lr}),
            number,
        )
        for number in range(len(FOLDS))
        for seed, lr in ((0, RATES[0]), (3, RATES[0]), (3, RATES[1]), (0, RATES[2]))
    ]
    together = fit_heads(fits, machinery_in(tmp_path))
    assert together is not None
    for index, (fit, found) in enumerate(zip(fits, together, strict=True)):
        alone = FoldTrainer(fit.recipe, fit.task, fit.data, machinery_in(tmp_path / str(index)))
        alone.run(StoppingBar(StopRequest(), 10_000))
        assert found.best_epoch == alone.best_epoch
        assert len(found.history) == len(alone.history)
        for mine, theirs in zip(found.history, alone.history, strict=True):
            for key in ("epoch", "lr", "loss", "validation_loss"):
                assert mine[key] == pytest.approx(theirs[key], rel=2e-3, abs=2e-4), key
        rows = fit.data.fold.test
        torch.testing.assert_close(found.outputs(rows), alone.outputs(rows), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("optimiser", ["adamw", "adam-amsgrad", "sgd-nesterov"])
def test_stacked_optimisers_move_as_torchs(optimiser: Any) -> None:
    torch.manual_seed(0)
    train = TrainRecipe(optimiser=optimiser, weight_decay=0.1)
    rates = torch.tensor([1e-3, 1e-2, 0.1], dtype=torch.float64)
    stack = {
        "weight": torch.randn(3, 4, 5, dtype=torch.float64),
        "bias": torch.randn(3, 4, dtype=torch.float64),
    }
    alone = []
    for number, rate in enumerate(rates.tolist()):
        own = [p[number].clone().requires_grad_() for p in stack.values()]
        groups = [
            {"params": own[:1], "weight_decay": 0.1},
            {"params": own[1:], "weight_decay": 0.0},
        ]
        kinds: dict[str, Any] = {
            "adamw": lambda g, lr: torch.optim.AdamW(g, lr=lr),
            "adam-amsgrad": lambda g, lr: torch.optim.Adam(g, lr=lr, amsgrad=True),
            "sgd-nesterov": lambda g, lr: torch.optim.SGD(g, lr=lr, momentum=0.9, nesterov=True),
        }
        alone.append((own, kinds[optimiser](groups, rate)))
    mine = StackedOptimiser(train, stack)
    for step in range(8):
        gradients = {name: torch.randn_like(p) / (step + 1) for name, p in stack.items()}
        for number, (own, theirs) in enumerate(alone):
            for parameter, gradient in zip(own, gradients.values(), strict=True):
                parameter.grad = gradient[number].clone()
            theirs.step()
        mine.step(stack, {n: g.clone() for n, g in gradients.items()}, rates)
        for number, (own, _) in enumerate(alone):
            for parameter, stacked in zip(own, stack.values(), strict=True):
                torch.testing.assert_close(stacked[number], parameter.detach())


def test_one_head_that_fails_leaves_the_others_as_they_would_be(
    store: PreparedStore, weights: Path, tmp_path: Path
) -> None:
    def fits(rates: tuple[float, ...]) -> list[HeadFit]:
        train = {"optimiser": "sgd-nesterov", "clip": None, "epochs": 3}
        return [
            fit_of(store, recipe_of(weights, "classification", train={**train, "lr": lr}), 0)
            for lr in rates
        ]

    good = fit_heads(fits((0.01, 0.1)), machinery_in(tmp_path))
    mixed = fit_heads(fits((0.01, 3e38, 0.1)), machinery_in(tmp_path))
    assert good is not None
    assert mixed is not None
    assert mixed[1].failure is not None
    assert "no number" in mixed[1].failure
    for left, right in ((good[0], mixed[0]), (good[1], mixed[2])):
        assert right.failure is None
        torch.testing.assert_close(left.outputs(FOLDS[0].test), right.outputs(FOLDS[0].test))


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"augment": "light"}},
        {"train": {"sam": 0.1}},
        {"train": {"accumulate": 2}},
        {"adapter": {"name": "last-k"}},
        {"head": {"dropout": 0.5}},
    ],
    ids=str,
)
def test_what_can_not_be_stacked_is_left_to_be_trained_alone(
    store: PreparedStore, weights: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    fits = [fit_of(store, recipe_of(weights, "classification", **changes), 0)]
    assert fit_heads(fits, machinery_in(tmp_path)) is None
