"""Statistics of frozen batch norms, estimated anew on training rows alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from braintune.adapters.adapter import adapt
from braintune.errors import InterruptedFitError
from braintune.evaluation.splits import Fold
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.network import Network
from braintune.fitting.precision import Precision, make_fabric
from braintune.fitting.recalibration import recalibrate
from braintune.fitting.training import FoldData, FoldTrainer, Machinery
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe
from braintune.tasks.task import make_task
from conftest import tiny_recipe
from fitting.stopping import StoppingBar
from imaging.test_store import scan

SHAPE = (8, 8, 8)
COUNT = 12
FOLD = Fold("1", np.array([7, 1, 4, 9, 2, 5, 11]), np.array([0, 3, 6]), np.array([8, 10]))
RECALIBRATED = {"name": "probe", "norms": "recalibrate"}


def make_trainer(
    folder: Path, *, every: float = 1e9, **sections: Any
) -> tuple[FoldTrainer, StopRequest]:
    """A trainer of a tiny network with batch norms, on random scans that are made once."""
    sections.setdefault("train", {"epochs": 3, "batch_size": 3, "lr": 0.01})
    sections.setdefault("backbone", {"name": "sfcn", "channels": [4, 8]})
    recipe = tiny_recipe(
        task={"kind": "regression", "target": "age"},
        prepare={"shape": SHAPE},
        **sections,
    )
    names = [f"s{number}" for number in range(COUNT)]
    store = PreparedStore.create(folder / "store", PrepareRecipe(shape=SHAPE))
    for number, name in enumerate(names):
        if name not in store:
            store.write(name, scan(number, SHAPE), "")
    truth = np.arange(float(COUNT))
    task = make_task(recipe.task).fit(truth[FOLD.train])
    stop, precision = StopRequest(), Precision("fp32", channels_last=True)
    fabric = make_fabric(precision, "cpu")
    fabric.launch()
    machinery = Machinery(fabric, precision, folder, every, stop)
    return FoldTrainer(
        recipe, task, FoldData(ScanLoader(store, names), truth, FOLD, 0), machinery
    ), stop


def run(trainer: FoldTrainer, stop: StopRequest, after: int = 1000) -> torch.Tensor:
    """Train, and predict the test rows."""
    trainer.resume()
    trainer.run(StoppingBar(stop, after))
    return trainer.outputs(FOLD.test)


def rows_of(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([scan(row, SHAPE).image for row in rows])).float()


def norms_of(network: Network) -> list[nn.BatchNorm3d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]


@pytest.mark.parametrize("sizes", [(10,), (4, 4, 2), (3, 1, 6)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_one_norm_gets_the_exact_mean_and_variance(sizes: tuple[int, ...], offset: float) -> None:
    torch.manual_seed(0)
    scans = torch.randn(10, 3, 4, 5, 2) * torch.arange(1.0, 11.0).view(-1, 1, 1, 1, 1) + offset
    network = nn.Sequential(nn.BatchNorm3d(3, momentum=0.3))
    adapt(network, "probe")
    recalibrate(network, scans.split(sizes))
    variance, mean = torch.var_mean(scans.double(), dim=(0, 2, 3, 4))
    assert torch.allclose(network[0].running_mean.double(), mean, rtol=1e-5, atol=1e-5)
    assert torch.allclose(network[0].running_var.double(), variance, rtol=1e-5)
    assert network[0].momentum == 0.3
    normed = network.eval()(scans)
    assert torch.allclose(normed.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(normed.std(dim=(0, 2, 3, 4)), torch.ones(3), atol=1e-3)


def test_norms_that_learn_their_statistics_are_left_alone() -> None:
    network = nn.Sequential(nn.BatchNorm3d(2), nn.Conv3d(2, 2, 1), nn.BatchNorm3d(2))
    adapt(network, "last-k", {"norms": "recalibrate"})
    recalibrate(network, [torch.randn(4, 2, 3, 3, 3) + 5])
    assert (network[0].running_mean > 4).all()
    assert not network[2].running_mean.any()


def test_nothing_else_of_the_network_changes_and_nothing_is_drawn() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Dropout(0.5))
    adapt(network, "probe")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    recalibrate(network, [torch.randn(2, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))])
    assert torch.equal(torch.get_rng_state(), state)
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_fold_sees_training_rows_alone(tmp_path: Path, ema: float | None) -> None:
    train = {"epochs": 1, "batch_size": 3, "ema": ema}
    trainer, stop = make_trainer(tmp_path, adapter=RECALIBRATED, train=train)
    run(trainer, stop)
    first, norm = trainer.network.backbone.blocks[0][0], norms_of(trainer.network)[0]
    with torch.no_grad():
        seen = first(rows_of(FOLD.train))
    variance, mean = torch.var_mean(seen, dim=(0, 2, 3, 4))
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(norm.running_var, variance, atol=1e-5)
    plain, stop = make_trainer(tmp_path, adapter={"name": "probe"}, train=train)
    run(plain, stop)
    assert not norms_of(plain.network)[0].running_mean.any()


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_resumed_fold_ends_with_the_same_predictions(tmp_path: Path, after: int) -> None:
    sections = {
        "adapter": {"name": "lora", "norms": "recalibrate", "rank": 1, "lr_ratio": 4},
        "train": {"epochs": 3, "batch_size": 3, "lr": 0.01, "ema": 0.8, "layer_decay": 0.7},
    }
    whole, stop = make_trainer(tmp_path / "whole", **sections)
    expected = run(whole, stop)
    stopped, stop = make_trainer(tmp_path / "stopped", **sections)
    with pytest.raises(InterruptedFitError):
        run(stopped, stop, after)
    resumed, stop = make_trainer(tmp_path / "stopped", **sections)
    assert torch.equal(run(resumed, stop), expected)
    state = resumed.network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.network.state_dict().items())
    assert [e["lr"] for e in resumed.history] == [e["lr"] for e in whole.history]
