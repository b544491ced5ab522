"""Recipes of papers parse, count and split a cohort of the paper's layout; some run, shortened."""

import json
from pathlib import Path

import numpy as np
import pytest

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.fitting.chain_recipe import ChainRecipe
from braintune.fitting.fit import fit
from braintune.fitting.network import audit_recipe, make_network
from braintune.fitting.plan import plan_fit
from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
from braintune.fitting.starting import settle
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from braintune.studies.choices import choices_of
from braintune.studies.contexts import contexts_of
from braintune.studies.evaluate import evaluate
from braintune.studies.plan import plan_study
from braintune.studies.recipe import StudyRecipe
from braintune.tasks.task import make_task
from fitting.blob_phantom import write_blob_cohort

FOLDER = Path(__file__).parents[1] / "recipes" / "papers"
PRETRAINING = sorted(FOLDER.glob("efficient-vit/pretrain-*.yaml"))
SYNTHETIC = sorted(FOLDER.glob("video-and-synthetic/pretrain-*.yaml"))
RECIPES = sorted(set(FOLDER.glob("efficient-vit/*.yaml")) - set(PRETRAINING))
CHAINS = sorted(FOLDER.glob("hyps/*-diagnosis.yaml"))
SEGMENTING = sorted(set(FOLDER.glob("hyps/*.yaml")) - set(CHAINS))
# What makes any of them short: one epoch, coarse scans, a network of two small blocks.
SHORT = ["train.epochs=1", "train.batch_size=4", "prepare.spacing=6", "prepare.shape=[32,32,32]"]
SMALL = ["patch=8", "width=16", "depth=2", "heads=2", "hidden=16"]
STUDIES = sorted(FOLDER.glob("*/*study.yaml"))
# Single recipes that studies are built on, and what trains in them: of FMCIB, in the paper's count.
BASES = {"adhd-lora/lora": 1_639_088, "slice-models/age": 1_019_361}
every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
# Counted by the paper (HyPS), by the definition of the method, and of the whole network.
MILLIONS = {"hyps": 20.070, "serial": 19.828, "parallel": 19.840, "cps": 20.070, "full": 62.187}


@pytest.fixture(scope="module")
def like_adni(cohort_folder: Path) -> Cohort:
    """Simulated patients and controls, a third of whom are tested."""
    cohort = read_cohort(cohort_folder)
    splits = np.where(np.arange(len(cohort)) % 3 == 0, "test", "train")
    return Cohort(cohort.source, cohort.table.assign(split=splits))


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labelled scans."""
    return write_blob_cohort(tmp_path_factory.mktemp("blobs"))


@every_recipe
def test_a_recipe_is_counted(path: Path) -> None:
    counts = audit_recipe(Recipe.read(path)).parameters
    assert 0 < counts.trainable <= counts.total


@every_recipe
def test_a_recipe_splits_as_the_paper_did(path: Path, like_adni: Cohort) -> None:
    recipe = Recipe.read(path)
    (fold,) = plan_fit(recipe, like_adni).folds
    assert like_adni.table["split"].iloc[fold.test].eq("test").all()
    left = int(like_adni.table["split"].eq("train").sum())
    learnt = len(fold.train) + len(fold.validation)
    assert learnt == round(recipe.protocol.fraction * left)


@pytest.mark.parametrize("name", ["vit-synthetic-layer-decay", "nit-tuned"])
def test_a_recipe_runs_and_meets_an_external_cohort(
    name: str, like_adni: Cohort, tmp_path: Path
) -> None:
    path = FOLDER / "efficient-vit" / f"{name}.yaml"
    changes = [*SHORT, *[f"backbone.{option}" for option in SMALL], "backbone.weights=none"]
    recipe = Recipe.read(path, [*changes, "protocol.fraction=0.8"])
    tested = like_adni.table["participant_id"].isin(like_adni.table["participant_id"].iloc[-8:])
    adni = like_adni.keep(~tested, "")
    oasis = like_adni.keep(tested, "")
    run = fit(recipe, adni, tmp_path / "run")
    document = evaluate(run.path, oasis, tmp_path / "external")
    assert document["subjects"] == 8
    assert document["metrics"]["auc"]["label"]


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_a_recipe_of_pretraining_makes_weights_that_a_fit_starts_from(
    path: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    name = path.stem.removeprefix("pretrain-")
    fitted = Recipe.read(FOLDER / "efficient-vit" / f"{name}.yaml")
    whole = PretrainRecipe.read(path)
    assert (whole.backbone.name, whole.prepare) == (fitted.backbone.name, fitted.prepare)
    assert fitted.backbone.weights == f"weights/{name}"
    small = [f"backbone.{option}" for option in SMALL]
    source = f"sources.people.cohort={cohort_folder}"
    recipe = PretrainRecipe.read(path, [*SHORT, *small, source])
    pretrain(recipe, tmp_path / "weights", PretrainExecution(accelerator="cpu", workers=1))
    weights = f"backbone.weights={tmp_path / 'weights'}"
    changes = [*SHORT, *small, weights]
    settled = settle(Recipe.read(FOLDER / "efficient-vit" / f"{name}.yaml", changes))
    make_network(settled, make_task(settled.task))


@pytest.mark.parametrize("path", SEGMENTING, ids=lambda path: path.stem)
def test_a_segmenting_recipe_trains_as_many_parameters_as_published(path: Path) -> None:
    counts = audit_recipe(Recipe.read(path)).parameters
    expected = MILLIONS.get(path.stem, MILLIONS["full"])
    assert round(counts.trainable / 1e6, 3) == expected


def test_a_segmenting_recipe_runs(blobs: Path, tmp_path: Path) -> None:
    """Shortened, on small scans, with a narrow network from random weights."""
    changes = ["task.labels={3: front, 7: back}", "task.patch=[64,32,32]", "task.smallest=0"]
    changes += ["prepare.spacing=2", "prepare.shape=[64,32,32]", "prepare.brain=whole"]
    changes += ["backbone.feature_size=12", "backbone.weights=none"]
    changes += ["train.epochs=2", "train.average_last=2", "protocol={kind: hold-out}"]
    path = FOLDER / "hyps" / "hyps.yaml"
    run = fit(Recipe.read(path, changes), read_cohort(blobs), tmp_path / "run")
    metrics = json.loads(run.metrics_file.read_text())
    assert (metrics["scans"], set(metrics["labels"])) == (3, {"front", "back"})


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.stem)
def test_a_chain_begins_with_the_run_of_a_segmenting_recipe(path: Path) -> None:
    recipe = ChainRecipe.read(path)
    assert recipe.segment.run == "runs/hyps-hyps"
    assert len(recipe.diagnose.labels or []) == 2


@pytest.mark.parametrize("name", BASES)
def test_what_a_study_is_built_on_trains_as_many_parameters_as_published(name: str) -> None:
    assert audit_recipe(Recipe.read(FOLDER / f"{name}.yaml")).parameters.trainable == BASES[name]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_choice_of_a_study_is_a_network(path: Path) -> None:
    """Each is counted, but for its weights, which nobody has here."""
    choices = choices_of(StudyRecipe.read(path))
    for choice in choices:
        recipe = choice.recipe(None, {"backbone.weights": "none"})
        counts = audit_recipe(recipe).parameters
        assert 0 < counts.trainable <= counts.total, choice.name
    assert len({choice.name for choice in choices}) == len(choices) > 5


@pytest.mark.parametrize("path", SYNTHETIC, ids=lambda path: path.stem)
def test_weights_from_synthetic_scans_are_those_that_the_studies_start_from(path: Path) -> None:
    recipe = PretrainRecipe.read(path)
    study = StudyRecipe.read(FOLDER / "video-and-synthetic" / "age-study.yaml")
    name = recipe.backbone.name
    choice = next(c for c in choices_of(study) if c.name == f"{name}-synthetic")
    fitted = choice.recipe(None, {})
    assert fitted.backbone.weights == f"weights/synthetic-{name}"
    assert (fitted.backbone.name, fitted.prepare) == (name, recipe.prepare)


def test_a_study_of_a_paper_is_planned_on_a_cohort_of_its_layout(like_adni: Cohort) -> None:
    study = StudyRecipe.read(FOLDER / "slice-models" / "alzheimers-study.yaml")
    scratch = {name: change for name, change in study.methods.items() if "imagenet" not in name}
    study = study.model_copy(update={"methods": scratch})
    planned = plan_study(study, contexts_of(study, {"cohort": like_adni}))
    assert planned.n_fits == len(planned.choices) * len(study.seeds) == 9 * 3
