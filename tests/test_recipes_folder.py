"""Every recipe that comes with braintune parses, builds and runs."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.fitting.fit import fit
from braintune.fitting.network import audit_recipe
from braintune.recipe import Recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
# What makes any recipe short: few epochs, few folds, coarse scans, a narrow network.
_SHORT = ["train.epochs=1", "train.batch_size=4", "prepare.spacing=6", "prepare.shape=[32,36,32]"]
_NARROW = {"sfcn": ["backbone.channels=[4,8]"]}


def shortened(path: Path) -> list[str]:
    """The overrides that make a recipe short."""
    recipe = Recipe.read(path)
    folds = ["protocol.folds=2"] if recipe.protocol.kind == "cross-validation" else []
    return [*_SHORT, *_NARROW.get(recipe.backbone.name, []), *folds]


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"brain-age", "sex"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_counted_at_its_full_size(path: Path) -> None:
    recipe = Recipe.read(path)
    classes = ["task.classes=2"] if recipe.task.kind == "classification" else []
    counts = audit_recipe(Recipe.read(path, classes)).parameters
    assert 0 < counts.trainable <= counts.total


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(path: Path, cohort_folder: Path, tmp_path: Path) -> None:
    """Shortened, on simulated scans that are named as the recipe asks for them."""
    recipe = Recipe.read(path, shortened(path))
    derivative = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    if recipe.scans.desc:
        for scan in derivative.rglob("*_T1w.nii.gz"):
            scan.rename(scan.with_name(scan.name.replace("_T1w", f"_desc-{recipe.scans.desc}_T1w")))
    run = fit(recipe, read_cohort(derivative, recipe.scans), tmp_path / "run")
    metrics = json.loads(run.metrics_file.read_text())
    assert metrics["subjects"] == 32
    assert metrics["headline"] in metrics["metrics"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_on_real_scans(path: Path, ixi: Path, tmp_path: Path) -> None:
    """Shortened, on a few of the brains that its results were measured on."""
    recipe = Recipe.read(path, shortened(path))
    whole = read_cohort(ixi, recipe.scans)
    few = Cohort(whole.source, pd.DataFrame(whole.table.iloc[:16]))
    run = fit(recipe, few, tmp_path / "run")
    assert json.loads(run.metrics_file.read_text())["subjects"] == 16
