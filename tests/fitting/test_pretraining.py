"""Pre-training learns what is planted, resumes exactly, and leaves weights that fits take."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import BraintuneError, InterruptedFitError
from braintune.files import read_json, read_lines
from braintune.fitting.checkpoint import load_checkpoint
from braintune.fitting.fit import fit
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import Machinery
from braintune.fitting.precision import Precision, make_fabric
from braintune.fitting.pretraining import pretrain as verb
from braintune.fitting.pretraining.batches import Reader, epoch_items, in_order, shares
from braintune.fitting.pretraining.plan import plan_pretraining
from braintune.fitting.pretraining.pretrain import PretrainExecution, PretrainFolder, pretrain
from braintune.fitting.pretraining.probe import Probe
from braintune.fitting.pretraining.trainer import Pretrainer
from braintune.fitting.starting import settle
from braintune.models.weights.tensors import read_tensors
from braintune.pretraining_recipe import PretrainRecipe, ProbeRecipe
from braintune.recipe import Recipe
from conftest import Command, tiny_values
from fitting.pretraining_phantom import SFCN, UNET, VIT, made, tiny, values, write_balls

ALONE = PretrainExecution(accelerator="cpu", workers=1)
VOLUME = "intracranial_mm3"


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("maps") / "balls")


class Bar:
    """Asks to stop after some steps."""

    def __init__(self, stop: StopRequest, after: int) -> None:
        self._stop, self._left = stop, after

    def advance(self, steps: int = 1, note: str = "") -> None:
        del note
        self._left -= steps
        self._stop.wanted = self._left <= 0

    def skip(self, steps: int) -> None:
        del steps


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
    trainer.run(Bar(stop, 10**6))
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
    trainer.run(Bar(stop, 10**6))
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
    whole.run(Bar(stop, 10**6))
    stopped, stop = trainer_of(recipe, tmp_path / "stopped")
    with pytest.raises(InterruptedFitError, match=f"after step {after} of 9"):
        stopped.run(Bar(stop, after))
    resumed, stop = trainer_of(recipe, tmp_path / "stopped")
    assert resumed.resume() == after
    resumed.run(Bar(stop, 10**6))
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
            trainer.run(Bar(stop, 10**6))
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found is not None
    assert found.step == 3
    state = trainer.learner.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.trained.items())


# ---- what is left


@pytest.fixture(scope="module")
def folder(balls: Path, cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ViT, pre-trained on some subjects and on generated scans."""
    sources = {
        **made(balls),
        "pilot": {"cohort": str(cohort_folder), "where": {"site": "site1"}},
    }
    recipe = tiny(
        sources,
        objective={"kind": "masked", "ratio": 0.6},
        backbone=VIT,
        probe={"cohort": str(cohort_folder), "target": "age", "kind": "regression", "every": 2},
    )
    out = tmp_path_factory.mktemp("weights") / "Masked ViT"
    pretrain(recipe, out, ALONE)
    return out


def test_the_folder_tells_what_it_is(folder: Path, cohort_folder: Path) -> None:
    record = PretrainFolder(folder).record
    assert record.name == "vit.masked-vit"
    assert record.learning is not None
    assert record.learning.model_dump() == {
        "objective": "masked",
        "scans": {"made": 12, "pilot": 12},
        "epochs": 2,
        "steps": 6,
    }
    assert set(record.cohorts) == {"pilot", "balls"}
    assert record.prepare.values() == {
        "spacing": 10.0,
        "shape": (16, 16, 16),
        "intensity": "zscore",
        "brain": "nonzero",
    }
    assert PretrainRecipe.read(folder / "pretraining.yaml").objective.options == {"ratio": 0.6}
    history = read_lines(folder / "history.jsonl")
    assert [("probe_mae" in entry) for entry in history] == [False, True]
    assert read_json(folder / "environment.json")["device"] == "cpu"
    assert not (folder / "checkpoint.pt").exists()
    seen = read_table(folder / "seen.tsv")
    cohort = read_cohort(cohort_folder)
    pilot = seen[seen["cohort"] == "pilot"]
    assert set(pilot["participant_id"]) == set(
        cohort.table.loc[cohort.table["site"] == "site1", "participant_id"]
    )
    assert pilot[["image", "prepared"]].notna().all(axis=None)
    assert seen.loc[seen["cohort"] == "balls", "participant_id"].tolist() == [
        "sub-ball0",
        "sub-ball1",
    ]


def test_a_fit_takes_the_weights_their_preparation_and_another_grid(
    folder: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_folder)
    others = Cohort(
        cohort.source, cohort.table[cohort.table["site"] != "site1"].reset_index(drop=True)
    )
    recipe = tiny_values(
        task={"kind": "regression", "target": "age"},
        backbone={"name": "vit", "weights": str(folder)},
        train={"epochs": 1},
    )
    recipe["prepare"] = {"like": "weights"}
    settled = settle(Recipe.parse(recipe))
    assert settled.prepare.spacing == 10.0
    assert settled.backbone.options == {k: v for k, v in VIT.items() if k != "name"}
    run = fit(Recipe.parse(recipe), others, tmp_path / "run")
    assert run.is_complete
    document = read_json(run.weights_file)
    assert document["parameters_from_weights"] == document["parameters"]
    recipe["prepare"] = {"like": "weights", "shape": [20, 16, 16]}
    settled = settle(Recipe.parse(recipe))
    from braintune.fitting.starting import read_start

    start = read_start(settled, others)
    assert start is not None
    assert start.report.adapted == {"pos_embed": "tokens resized from 4×4×4 to 5×4×4"}


def test_the_same_call_again_changes_nothing_and_another_recipe_is_refused(
    folder: Path, balls: Path
) -> None:
    before = read_tensors(folder / "weights.safetensors")
    recipe = PretrainRecipe.read(folder / "pretraining.yaml")
    pretrain(recipe, folder, ALONE)
    after = read_tensors(folder / "weights.safetensors")
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    other = recipe.model_copy(update={"seed": 1})
    with pytest.raises(BraintuneError, match="another recipe, which differs in seed"):
        pretrain(other, folder, ALONE)


def test_a_decoder_that_learnt_is_kept_and_one_that_did_not_starts_anew(
    balls: Path, tmp_path: Path
) -> None:
    from braintune.models.backbone import InputShape
    from braintune.models.weights.loading import load_backbone

    kept, dropped = tmp_path / "kept", tmp_path / "dropped"
    train = {"epochs": 1}
    segmentation = tiny(made(balls), objective={"kind": "segmentation"}, backbone=UNET, train=train)
    pretrain(segmentation, kept, ALONE)
    pretrain(tiny(made(balls), backbone=UNET, train=train), dropped, ALONE)
    assert any(key.startswith("decoder") for key in read_tensors(kept / "weights.safetensors"))
    assert not any(
        key.startswith("decoder") for key in read_tensors(dropped / "weights.safetensors")
    )
    for folder in (kept, dropped):
        network = load_backbone("unet", InputShape(1, (16, 16, 16)), str(folder), {})
        state = read_tensors(folder / "weights.safetensors")
        own = network.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in state.items())


def test_pretraining_goes_on_from_weights_and_keeps_what_they_saw(
    folder: Path, balls: Path, tmp_path: Path
) -> None:
    recipe = tiny(
        made(balls),
        objective={"kind": "contrastive"},
        backbone={"name": "vit", "weights": str(folder)},
        train={"epochs": 1, "lr": 1e-12, "weight_decay": 0.0},
    )
    pretrain(recipe, tmp_path / "second", ALONE)
    record = PretrainFolder(tmp_path / "second").record
    assert set(record.cohorts) == {"balls", "pilot"}
    first, second = (read_tensors(f / "weights.safetensors") for f in (folder, tmp_path / "second"))
    assert all(torch.allclose(value, second[key], atol=1e-6) for key, value in first.items())
    seen = read_table(tmp_path / "second" / "seen.tsv")
    assert (seen["cohort"] == "pilot").any()


# ---- the probe


def probe_of(truth: np.ndarray, subjects: list[str], kind: str = "regression") -> Probe:
    table = pd.DataFrame({"scan_id": [f"s{i}" for i in range(len(truth))]})
    table = table.assign(participant_id=subjects, session_id=pd.NA, path="x")
    recipe = ProbeRecipe.model_validate({"cohort": "c", "target": "t", "kind": kind})
    return Probe(recipe, Cohort(Path("c"), table), truth)


def test_a_probe_finds_what_is_linear_in_the_features_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(50, 15, 80)
    probe = probe_of(truth, [f"sub-{i}" for i in range(80)])
    features = random.normal(size=(80, 10))
    blind = probe.scores(features, 0)
    assert blind["probe_mae"] > 0.9 * blind["probe_mae_of_mean"]
    sighted = probe.scores(np.c_[features, 3 * truth + 7], 0)
    assert sighted["probe_mae"] < 0.05 * sighted["probe_mae_of_mean"]
    assert sighted == probe.scores(np.c_[features, 3 * truth + 7], 0)
    sexes = (truth > 50).astype(float)
    probe = probe_of(sexes, [f"sub-{i}" for i in range(80)], "classification")
    assert probe.scores(np.c_[features, truth], 0)["probe_auc"] > 0.97
    assert abs(probe.scores(features, 0)["probe_auc"] - 0.5) < 0.25


def test_a_probe_never_has_a_subject_on_both_sides() -> None:
    """Features that tell subjects apart, but nothing else, are of no use."""
    random = np.random.default_rng(1)
    subjects = np.repeat(np.arange(40), 3)
    truth = random.normal(size=40)[subjects]
    features = random.normal(size=(40, 60))[subjects]
    scores = probe_of(truth, [f"sub-{i}" for i in subjects]).scores(features, 0)
    assert scores["probe_mae"] > 0.85 * scores["probe_mae_of_mean"]


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
