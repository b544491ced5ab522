"""Pre-training learns what is planted, resumes exactly, and leaves weights that fits take."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from braintune.cohort.read import read_cohort
from braintune.errors import BraintuneError, InterruptedFitError
from braintune.files import read_lines
from braintune.fitting.checkpoint import load_checkpoint
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import Machinery
from braintune.fitting.precision import Precision, make_fabric
from braintune.fitting.pretraining import pretrain as verb
from braintune.fitting.pretraining.batches import Reader, epoch_items, in_order, shares
from braintune.fitting.pretraining.plan import plan_pretraining
from braintune.fitting.pretraining.pretrain import PretrainExecution
from braintune.fitting.pretraining.trainer import Pretrainer
from braintune.pretraining_recipe import PretrainRecipe
from conftest import Command
from fitting.pretraining_phantom import SFCN, UNET, VIT, made, tiny, values, write_balls
from fitting.stopping import StoppingBar

ALONE = PretrainExecution(accelerator="cpu", workers=1)
VOLUME = "intracranial_mm3"


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("maps") / "balls")


def trainer_of(
    recipe: PretrainRecipe, folder: Path, every: float = 1e9
) -> tuple[Pretrainer, StopRequest]:
    folder.mkdir(parents=True, exist_ok=True)
    plan, reader = verb._open(plan_pretraining(recipe), ALONE, "cpu")
    stop, precision = StopRequest(), Precision("fp32", channels_last=True)
    fabric = make_fabric(precision, "cpu")
    fabric.launch()
    return Pretrainer(plan, reader, Machinery(fabric, precision, folder, every, stop)), stop


def losses_of(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_lines(folder / "history.jsonl")]


# ---- which scans


@given(weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=6), count=st.integers(1, 1000))
def test_shares_follow_the_weights_and_use_all(weights: list[float], count: int) -> None:
    found = shares(weights, count)
    assert sum(found) == count
    exact = np.array(weights) / sum(weights) * count
    assert (np.abs(np.array(found) - exact) < 1 + 1e-9).all()


@given(
    rows=st.integers(1, 20), total=st.integers(2, 40), epochs=st.integers(1, 4), seed=st.integers(0)
)
def test_rows_come_equally_often_and_made_scans_never_twice(
    rows: int, total: int, epochs: int, seed: int
) -> None:
    shown = [
        item
        for epoch in range(epochs)
        for item in epoch_items([rows, None], [1, 1], total, epoch, seed)
    ]
    assert shown == [
        item
        for epoch in range(epochs)
        for item in epoch_items([rows, None], [1, 1], total, epoch, seed)
    ]
    assert len(shown) == total * epochs
    times = np.bincount([number for source, number in shown if source == 0], minlength=rows)
    assert times.max() - times.min() <= 1
    scans = sorted(number for source, number in shown if source == 1)
    assert scans == list(range(len(scans)))


# ---- what is learnt


def test_volumes_of_generated_scans_are_learnt(balls: Path, tmp_path: Path) -> None:
    """Scans that were never shown are measured far better than by the mean."""
    recipe = tiny(
        made(balls),
        objective={
            "kind": "supervised",
            "targets": {VOLUME: {"loss": "mse"}, "age": {"weight": 0.01}},
        },
        # Norms within a scan would take out how much of it is what.
        backbone={**SFCN, "channels": [8, 16, 16], "norm": "batch"},
        train={"epochs": 4, "augment": "none", "batch_size": 8, "lr": 1e-2},
        scans_per_epoch=80,
    )
    trainer, stop = trainer_of(recipe, tmp_path)
    trainer.run(StoppingBar(stop, 10**6))
    unseen = trainer._reader.load([(0, 10_000 + number) for number in range(48)])
    truth = unseen.targets[VOLUME]
    with torch.no_grad():
        found = trainer.learner.eval().predict(torch.from_numpy(unseen.images))[VOLUME][:, 0]
    error = np.abs(found.numpy() - truth).mean()
    of_mean = np.abs(truth - trainer._plan.knowledge.tasks[VOLUME].center).mean()
    assert error < 0.5 * of_mean


@pytest.mark.parametrize(
    ("objective", "backbone", "train", "least"),
    [
        # Guessing among the seven other projections of a batch of four costs log 7 = 1.95.
        ({"kind": "contrastive", "width": 16}, SFCN, {"lr": 1e-2}, 1.2),
        # Guessing the mean of all voxels costs their variance, 0.115.
        ({"kind": "masked", "ratio": 0.5, "normalise": False}, VIT, {"epochs": 4}, 0.08),
        (
            {"kind": "masked", "patch": 4, "normalise": False, "decoder_width": 16},
            SFCN,
            {"lr": 1e-2},
            0.06,
        ),
        # Cross-entropy and Dice of guesses among three classes: log 3 + 2/3 = 1.77.
        ({"kind": "segmentation"}, UNET, {"lr": 1e-2}, 0.8),
    ],
    ids=["contrastive", "masked ViT", "masked CNN", "segmentation"],
)
def test_each_objective_learns(
    objective: dict[str, Any],
    backbone: dict[str, Any],
    train: dict[str, Any],
    least: float,
    balls: Path,
    tmp_path: Path,
) -> None:
    recipe = tiny(
        made(balls),
        objective=objective,
        backbone=backbone,
        train={"epochs": 3, "batch_size": 4, **train},
        scans_per_epoch=80,
    )
    trainer, stop = trainer_of(recipe, tmp_path)
    trainer.run(StoppingBar(stop, 10**6))
    found = [entry["loss"] for entry in trainer.history]
    assert found[-1] < least
    assert found[-1] < 0.8 * found[0]


# ---- going on


@pytest.mark.parametrize("after", [3, 4])
def test_resuming_is_exact(balls: Path, tmp_path: Path, after: int) -> None:
    train = {
        "epochs": 3,
        "batch_size": 2,
        "accumulate": 2,
        "ema": 0.8,
        "sam": 0.05,
        "drop_path": 0.3,
        "layer_decay": 0.8,
        "augment": "standard",
    }
    recipe = tiny(
        made(balls, weight=2.0),
        objective={"kind": "contrastive", "label": "age", "sigma": 10.0},
        backbone=VIT,
        train=train,
    )
    whole, stop = trainer_of(recipe, tmp_path / "whole")
    whole.run(StoppingBar(stop, 10**6))
    stopped, stop = trainer_of(recipe, tmp_path / "stopped")
    with pytest.raises(InterruptedFitError, match=f"after step {after} of 9"):
        stopped.run(StoppingBar(stop, after))
    resumed, stop = trainer_of(recipe, tmp_path / "stopped")
    assert resumed.resume() == after
    resumed.run(StoppingBar(stop, 10**6))
    state = resumed.learner.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.learner.state_dict().items())
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "stopped")


@pytest.mark.slow
def test_batches_do_not_depend_on_the_number_of_processes(balls: Path, tmp_path: Path) -> None:
    recipe = tiny(made(balls), objective={"kind": "segmentation"}, backbone=UNET)
    trainer, _ = trainer_of(recipe, tmp_path)
    batches = list(trainer._batches(0))[:3]
    for alone, together in zip(
        in_order(trainer._reader.load, batches, 1),
        in_order(trainer._reader.load, batches, 2),
        strict=True,
    ):
        assert alone.names == together.names
        assert np.array_equal(alone.images, together.images)
        assert np.array_equal(alone.labels, together.labels)


def test_sources_are_put_together_in_the_order_of_the_batch(
    balls: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    sources = {**made(balls, weight=3.0), "real": {"cohort": str(cohort_folder)}}
    recipe = tiny(sources, objective={"kind": "supervised", "targets": {"age": {}}})
    trainer, _ = trainer_of(recipe, tmp_path)
    reader = trainer._reader
    assert isinstance(reader, Reader)
    mixed = reader.load([(1, 5), (0, 2), (1, 0), (0, 7)])
    alone = [reader.load([item]) for item in [(1, 5), (0, 2), (1, 0), (0, 7)]]
    assert mixed.names == tuple(one.names[0] for one in alone)
    assert np.array_equal(mixed.images, np.concatenate([one.images for one in alone]))
    assert np.array_equal(
        mixed.targets["age"], np.concatenate([one.targets["age"] for one in alone])
    )
    cohort = read_cohort(cohort_folder)
    assert alone[0].targets["age"][0] == float(cohort.table["age"].iloc[5])
    shown = [source for batch in trainer._batches(0) for source, _ in batch]
    assert np.bincount(shown).tolist() == [18, 6]


def test_a_scan_that_is_no_number_is_named_and_the_last_good_checkpoint_kept(
    cohort_folder: Path, tmp_path: Path
) -> None:
    recipe = tiny(
        {"real": {"cohort": str(cohort_folder)}},
        objective={"kind": "masked", "patch": 4},
        train={"batch_size": 2, "augment": "none"},
    )
    trainer, stop = trainer_of(recipe, tmp_path, every=0)
    reader = trainer._reader.sources[0]
    batches = list(trainer._batches(0))
    bad = reader.scan_ids[batches[3][1][1]]
    load = Reader.load

    def poisoned(self: Reader, items: Any) -> Any:
        loaded = load(self, items)
        for name, image in zip(loaded.names, loaded.images, strict=True):
            if name == bad:
                image[0, 4, 4, 4] = np.nan
        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "load", poisoned)
        with pytest.raises(BraintuneError, match=rf"Step 4 .* no number for scans {bad}\. "):
            trainer.run(StoppingBar(stop, 10**6))
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found is not None
    assert found.step == 3
    state = trainer.learner.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.trained.items())


# ---- the command


def test_the_command_prints_one_document(braintune: Command, balls: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values(made(Path("nowhere")))))
    found = braintune(
        "pretrain", path, "--out", tmp_path / "out", "--set", f"sources.made.maps={balls}",
        "--set", "objective.kind=masked", "--set", "objective.patch=4",
        "--set", "train.epochs=1", "--workers", "1", "--accelerator", "cpu", "--json",
    )  # fmt: skip
    assert found.status == 0, found.err
    document = json.loads(found.out)
    assert document["objective"] == "masked"
    assert document["scans"] == {"made": 12}
    assert "Pre-training: 3/3" in found.err
    text = braintune("pretrain", path, "--out", tmp_path / "no")
    assert text.status == 2
    assert "nowhere" in text.err
    assert not (tmp_path / "no").exists()
