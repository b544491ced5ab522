"""Fits of heads alone, done together: folds, seeds and learning rates of one recipe."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from braintune.fitting.batches import Rows, derive_seed
from braintune.fitting.features.loader import ActivationLoader
from braintune.fitting.features.shown import Shown, choose_shown
from braintune.fitting.features.stack import Features, HeadStack, Learner
from braintune.fitting.features.targets import Target
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.network import Network, make_network
from braintune.imaging.loader import BatchLoader
from braintune.recipe import Recipe
from braintune.tasks.task import Task


@dataclass(frozen=True)
class HeadFit:
    """One fit of a head.

    Attributes:
        recipe: The whole recipe.
        task: The task, fitted on the fold's training rows.
        data: What it learns from; all fits that are done together have the same scans.
    """

    recipe: Recipe
    task: Task
    data: FoldData


@dataclass(frozen=True)
class HeadResult:
    """What came of it.

    Attributes:
        network: The whole network, its head with the weights that are kept. Fits of one seed share
            the backbone.
        history: One entry an epoch, as a fold's.
        best_epoch: The epoch whose weights are kept, from 1.
        failure: Why it was given up, if it was.
        features: Of all scans.
    """

    network: Network
    history: list[dict[str, float]]
    best_epoch: int
    failure: str | None
    features: Features

    def outputs(self, rows: Rows) -> torch.Tensor:
        """The network's outputs for some rows, of shape (rows, outputs), on the processor."""
        device = self.features.plain.device
        stacked = {n: p.detach()[None].to(device) for n, p in self.network.head.named_parameters()}
        with torch.no_grad():
            return self.features.predicted(self.network.head, stacked, rows[None])[0].cpu()


def can_train_together(recipe: Recipe) -> bool:
    """Whether stacked heads can be trained in a recipe's way."""
    train = recipe.train
    return train.sam is None and train.accumulate == 1


def fit_heads(fits: Sequence[HeadFit], machinery: Machinery) -> list[HeadResult] | None:
    """Fit heads on a frozen backbone together, each as `FoldTrainer` would fit it alone.

    Args:
        fits: Of the same scans; recipes may differ in seed, learning rate and whatever else is
            trained, and folds in everything.
        machinery: Where and how; one process.

    Returns:
        One result a fit, in the same order; None if these fits can't be done together, because
        more than the head trains, or training shows changed scans.
    """
    if machinery.fabric.world_size > 1 or not all(can_train_together(f.recipe) for f in fits):
        return None
    needed = np.unique(np.concatenate([_rows_of(fit) for fit in fits]))
    starts = _Starts(machinery, needed)
    started = [starts.of(fit) for fit in fits]
    found = [start for start in started if start is not None]
    if len(found) < len(fits):
        return None
    targets = _targets(fits)
    learners = [
        Learner(
            fit.recipe,
            target,
            fit.data.fold.train,
            fit.data.fold.validation,
            fit.data.number,
            start.network.head,
        )
        for fit, target, start in zip(fits, targets, found, strict=True)
    ]
    stacks: dict[tuple[Any, ...], list[int]] = {}
    for place, (one, start) in enumerate(zip(learners, found, strict=True)):
        stacks.setdefault((*_stacked_by(one), id(start.features)), []).append(place)
    for places in stacks.values():
        HeadStack([learners[place] for place in places], found[places[0]].features).run()
    return [
        HeadResult(start.network, one.history, _kept_epoch(one), one.failure, start.features)
        for one, start in zip(learners, found, strict=True)
    ]


@dataclass(frozen=True)
class _Start:
    """A network before training, its head its own, and the features of all scans."""

    network: Network
    features: Features


class _Starts:
    """Makes the start of each fit; fits of one seed start from one network.

    Args:
        machinery: Where and how.
        rows: The scans that are needed.
    """

    def __init__(self, machinery: Machinery, rows: Rows) -> None:
        self._machinery, self._rows = machinery, rows
        self._networks: dict[str, tuple[Network, Features] | None] = {}
        self._features: dict[tuple[str, bool], Features] = {}

    def of(self, fit: HeadFit) -> _Start | None:
        """The start of a fit; None if its features change while it trains."""
        recipe = fit.recipe
        train = recipe.train.model_copy(update={"lr": 1.0})
        key = recipe.model_copy(update={"train": train}).model_dump_json()
        if key not in self._networks:
            self._networks[key] = self._make(fit)
        made = self._networks[key]
        if made is None:
            return None
        network, features = made
        return _Start(Network(network.backbone, copy.deepcopy(network.head)), features)

    def _make(self, fit: HeadFit) -> tuple[Network, Features] | None:
        torch.manual_seed(derive_seed(fit.recipe.seed, "start"))
        network = make_network(fit.recipe, fit.task)
        self._machinery.precision.arrange_kernels(network)
        network.to(self._machinery.fabric.device)
        drops = [m for m in network.head.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        if any(module.p > 0 for module in drops):
            return None
        shown = choose_shown(fit.recipe, network, fit.data, self._machinery)
        if shown.prefix is None or not shown.prefix.is_whole:
            return None
        return network, self._features_of(shown)

    def _features_of(self, shown: Shown) -> Features:
        assert isinstance(shown.loader, ActivationLoader)
        key = (shown.loader.key, shown.mirrored is not None)
        if key not in self._features:
            bf16 = self._machinery.precision.dtype == "bf16"
            self._features[key] = Features(
                self._read(shown.loader),
                None if shown.mirrored is None else self._read(shown.mirrored),
                torch.bfloat16 if bf16 else None,
            )
        return self._features[key]

    def _read(self, loader: BatchLoader) -> torch.Tensor:
        (found,) = loader.batches([self._rows])
        features = torch.zeros(len(loader.scan_ids), *found.shape[1:])
        features[torch.as_tensor(self._rows)] = found.float()
        return features.to(self._machinery.fabric.device)


def _targets(fits: Sequence[HeadFit]) -> list[Target]:
    """What each fit learns; one object for fits that learn the same."""
    found: dict[tuple[Any, ...], Target] = {}
    targets = []
    for fit in fits:
        rows = fit.data.fold.train.tobytes()
        key = (rows, id(fit.data.truth), repr(fit.task), fit.recipe.train.balance)
        targets.append(found.setdefault(key, Target(fit.recipe, fit.task, fit.data)))
    return targets


def _stacked_by(learner: Learner) -> tuple[Any, ...]:
    """What learners of one stack have in common."""
    train = learner.recipe.train.model_copy(update={"lr": 1.0})
    layers = [(type(m), getattr(m, "out_features", 0)) for m in learner.head.modules()]
    batch = min(train.batch_size, len(learner.train))
    return train.model_dump_json(), learner.steps, batch, tuple(layers)


def _rows_of(fit: HeadFit) -> Rows:
    return np.concatenate([fit.data.fold.train, fit.data.fold.validation, fit.data.fold.test])


def _kept_epoch(learner: Learner) -> int:
    return learner.best_epoch if learner.recipe.train.keep == "best" else len(learner.history)
