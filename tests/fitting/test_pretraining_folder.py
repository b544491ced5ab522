"""What pre-training leaves: a folder of weights that tells what it is and what it saw."""

from pathlib import Path

import pytest
import torch

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import BraintuneError
from braintune.files import read_json, read_lines
from braintune.fitting.fit import fit
from braintune.fitting.pretraining.pretrain import PretrainExecution, PretrainFolder, pretrain
from braintune.fitting.starting import settle
from braintune.models.weights.tensors import read_tensors
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from conftest import tiny_values
from fitting.pretraining_phantom import UNET, VIT, made, tiny, write_balls

ALONE = PretrainExecution(accelerator="cpu", workers=1)
VOLUME = "intracranial_mm3"


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("maps") / "balls")


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
