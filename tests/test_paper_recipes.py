"""Recipes of papers parse, count and split a cohort of the paper's layout; some run, shortened."""

from pathlib import Path

import numpy as np
import pytest

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.fitting.external import evaluate
from braintune.fitting.fit import fit
from braintune.fitting.network import audit_recipe
from braintune.fitting.plan import plan_fit
from braintune.recipe import Recipe

FOLDER = Path(__file__).parents[1] / "recipes" / "papers"
RECIPES = sorted(FOLDER.glob("*/*.yaml"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in RECIPES]
# What makes any of them short: one epoch, coarse scans, a network of two small blocks.
SHORT = ["train.epochs=1", "train.batch_size=4", "prepare.spacing=6", "prepare.shape=[32,32,32]"]
SMALL = ["patch=8", "width=16", "depth=2", "heads=2", "hidden=16"]
every_recipe = pytest.mark.parametrize("path", RECIPES, ids=NAMES)


@pytest.fixture(scope="module")
def like_adni(cohort_folder: Path) -> Cohort:
    """Simulated patients and controls, a third of whom are tested."""
    cohort = read_cohort(cohort_folder)
    splits = np.where(np.arange(len(cohort)) % 3 == 0, "test", "train")
    return Cohort(cohort.source, cohort.table.assign(split=splits))


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
