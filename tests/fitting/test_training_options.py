"""Options of training: resuming is exact under each, and averages are of what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from braintune.errors import BraintuneError, InterruptedFitError
from braintune.fitting.checkpoint import load_checkpoint
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.training import FoldTrainer
from braintune.imaging.store import PreparedStore
from fitting.stopping import StoppingBar
from fitting.test_recalibration import FOLD, SHAPE, make_trainer, run
from imaging.test_store import scan

TRAIN = {"epochs": 3, "batch_size": 3, "lr": 0.01}
ALL = {
    "sam": 0.1,
    "optimiser": "sgd-nesterov",
    "schedule": "polynomial",
    "mixup": 0.4,
    "cutmix": 0.4,
    "average_last": 2,
    "keep": "last",
    "accumulate": 2,
    "batch_size": 2,
    "drop_path": 0.4,
    "augment": {"strength": "heavy", "crop": 0.3},
}
VIT = {"name": "vit", "patch": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 8}
OPTIONS: dict[str, dict[str, Any]] = {
    "sam": {"sam": 0.1},
    "sam with a moving average": {"sam": 0.1, "ema": 0.8},
    "last epochs": {"average_last": 2, "keep": "last"},
    "mixup and cutmix": {"mixup": 0.5, "cutmix": 0.5, "balance": "sampler"},
    "amsgrad and one cycle": {"optimiser": "adam-amsgrad", "schedule": "one-cycle"},
    "augmentation": {"augment": "heavy"},
    "stochastic depth": {"drop_path": 0.5},
    "all": ALL,
}


def make(folder: Path, **train: Any) -> tuple[FoldTrainer, StopRequest]:
    return make_trainer(folder, backbone=VIT, adapter={"name": "full"}, train={**TRAIN, **train})


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("after", [1, 3])
def test_resuming_is_exact(tmp_path: Path, name: str, after: int) -> None:
    whole, stop = make(tmp_path / "whole", **OPTIONS[name])
    expected = run(whole, stop)
    stopped, stop = make(tmp_path / "stopped", **OPTIONS[name])
    if after >= stopped.total_steps:
        after = stopped.total_steps - 1
    with pytest.raises(InterruptedFitError):
        run(stopped, stop, after)
    resumed, stop = make(tmp_path / "stopped", **OPTIONS[name])
    assert torch.equal(run(resumed, stop), expected)
    state = resumed.network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.network.state_dict().items())
    for first, second in zip(whole.history, resumed.history, strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "last epochs"])
def test_options_change_what_is_learnt(tmp_path: Path, name: str) -> None:
    plain, stop = make(tmp_path)
    chosen, other = make(tmp_path, **OPTIONS[name])
    assert not torch.equal(run(plain, stop), run(chosen, other))


class Watcher(StoppingBar):
    """Keeps the weights of every step."""

    def __init__(self, trainer: FoldTrainer) -> None:
        super().__init__(StopRequest(), 1000)
        self._trainer = trainer
        self.seen: list[dict[str, torch.Tensor]] = []

    def advance(self, steps: int = 1, note: str = "") -> None:
        del steps, note
        state = self._trainer.network.state_dict()
        self.seen.append({key: value.clone() for key, value in state.items()})


@pytest.mark.parametrize("last", [2, 3])
def test_the_last_epochs_are_averaged(tmp_path: Path, last: int) -> None:
    trainer, _ = make_trainer(tmp_path, train={**TRAIN, "average_last": last, "keep": "last"})
    watcher = Watcher(trainer)
    trainer.run(watcher)
    ends = watcher.seen[1::2][-last:]
    assert len(watcher.seen) == 6
    for key, value in trainer.network.state_dict().items():
        if value.is_floating_point():
            mean = torch.stack([end[key] for end in ends]).mean(dim=0)
            assert torch.allclose(value, mean, atol=1e-6), key
        else:
            assert torch.equal(value, ends[-1][key])
    # What is kept is what was validated last.
    losses = trainer._lesson.validation_losses(trainer.network, FOLD.validation)
    assert trainer.history[-1]["validation_loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def poisoned(folder: Path, row: int) -> None:
    """Put a value that is no number into a prepared scan."""
    store = PreparedStore.open(folder / "store")
    bad = scan(row, SHAPE)
    bad.image[0, 4, 4, 4] = np.nan
    store.write(f"s{row}", bad, "")


@pytest.mark.parametrize("options", [{}, {"sam": 0.1}, {"mixup": 1.0}, {"accumulate": 2}])
def test_a_scan_that_is_no_number_is_named_and_the_last_good_checkpoint_kept(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    train = {**TRAIN, "batch_size": 2, "augment": "none", **options}
    make_trainer(tmp_path / "healthy", train=train)
    good, _ = make_trainer(tmp_path / "healthy", every=0, train=train)
    watcher = Watcher(good)
    good.run(watcher)
    make_trainer(tmp_path / "bad", train=train)
    poisoned(tmp_path / "bad", 4)
    trainer, stop = make_trainer(tmp_path / "bad", every=0, train=train)
    with pytest.raises(BraintuneError, match=r"Step \d+ of fold 1 .* no number for scans s4\. "):
        run(trainer, stop)
    found = load_checkpoint(tmp_path / "bad" / "checkpoint.pt")
    steps = found.step if found else 0
    if found is not None:
        expected = watcher.seen[steps - 1]
        assert all(torch.equal(value, expected[key]) for key, value in found.trained.items())
        # The weights were left alone by the step that failed.
        for key, value in trainer.network.named_parameters():
            assert torch.equal(value, expected[key]), key
    again, stop = make_trainer(tmp_path / "bad", every=0, train=train)
    with pytest.raises(BraintuneError, match=f"Step {steps + 1} of fold 1"):
        run(again, stop)


def test_weights_that_explode_never_reach_a_checkpoint(tmp_path: Path) -> None:
    train = {**TRAIN, "optimiser": "sgd-nesterov", "lr": 1e38, "clip": None, "epochs": 9}
    trainer, stop = make_trainer(tmp_path, every=0, train=train)
    with pytest.raises(BraintuneError, match="no number"):
        run(trainer, stop)
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    if found is not None:
        assert all(torch.isfinite(value).all() for value in found.trained.values())


def test_a_validation_loss_that_is_no_number_stops_too(tmp_path: Path) -> None:
    make_trainer(tmp_path)
    poisoned(tmp_path, 3)
    trainer, stop = make_trainer(tmp_path, every=0)
    with pytest.raises(BraintuneError, match=r"After epoch 1 \(step 2\).* for scans s3\. "):
        run(trainer, stop)
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found is not None
    assert found.step == 1
