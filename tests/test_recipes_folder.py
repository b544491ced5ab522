"""Every recipe that comes with braintune parses, builds and runs."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.fitting.chain_recipe import ChainRecipe
from braintune.fitting.fit import fit
from braintune.fitting.network import audit_recipe, make_network
from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
from braintune.fitting.starting import settle
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from braintune.tasks.task import make_task
from conftest import SHARED_DATA
from synthesis.labelmap_phantom import write_phantoms

ROOT = Path(__file__).parents[1]
ALL = sorted((ROOT / "recipes").glob("*.yaml"))
PRETRAINING = [path for path in ALL if path.stem.startswith("pretrain-")]
CHAINS = [path for path in ALL if path.stem.endswith("-diagnosis")]
OTHERS = [path for path in ALL if path not in PRETRAINING and path not in CHAINS]
MAPS = [path for path in OTHERS if Recipe.read(path).task.kind == "segmentation"]
RECIPES = [path for path in OTHERS if path not in MAPS]
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
    assert {path.stem.removeprefix("pretrain-") for path in PRETRAINING} >= {
        "contrastive",
        "masked",
        "supervised",
    }


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.stem)
def test_a_recipe_of_a_chain_names_a_run_that_another_recipe_makes(path: Path) -> None:
    recipe = ChainRecipe.read(path)
    assert (ROOT / "recipes" / f"{Path(recipe.segment.run).name}.yaml") in MAPS
    assert len(recipe.diagnose.labels or []) >= 2


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


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_a_recipe_of_pretraining_runs(path: Path, tmp_path: Path) -> None:
    """Shortened, on scans made from label maps whose structures are those that are learnt."""
    maps = write_phantoms(tmp_path / "maps", spacing=6.0)
    short = ["train.epochs=1", "train.batch_size=4", "scans_per_epoch=8"]
    grid = ["prepare.spacing=8", "prepare.shape=[24,24,24]"]
    recipe = PretrainRecipe.read(path, [*short, *grid, f"sources.made.maps={maps}"])
    assert PretrainRecipe.read(path).prepare.spacing == 4.0
    out = tmp_path / "weights"
    pretrain(recipe, out, PretrainExecution(accelerator="cpu", workers=1))
    start = {"name": recipe.backbone.name, "weights": str(out)}
    task = {"kind": "regression", "target": "age"}
    fit_recipe = Recipe.parse({"task": task, "backbone": start, "prepare": {"like": "weights"}})
    settled = settle(fit_recipe)
    assert settled.prepare.shape == (24, 24, 24)
    make_network(settled, make_task(settled.task))


def drawn_crops(folder: Path, labels: list[int]) -> Path:
    """Four crops of noise with a box of each label, in the Decathlon layout."""
    random = np.random.default_rng(0)
    training = []
    for number in range(4):
        drawn = np.zeros((30 + number, 44, 30), dtype=np.uint8)
        for place, value in enumerate(labels):
            drawn[8:20, 6 + 8 * place : 13 + 8 * place, 8:20] = value
        image = (random.random(drawn.shape) + drawn).astype(np.float32)
        entry = {}
        for part, data in (("image", image), ("label", drawn)):
            entry[part] = f"{part}s/crop_{number}.nii.gz"
            (folder / f"{part}s").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), folder / entry[part])
        training.append(entry)
    (folder / "dataset.json").write_text(json.dumps({"training": training}))
    return folder


def real_crops(folder: Path) -> Path:
    """Four real crops of the hippocampus with their label maps."""
    source = SHARED_DATA / "hippocampus"
    if not source.is_dir():
        pytest.skip("the real crops of the hippocampus are not beside the project")
    few = json.loads((source / "dataset.json").read_text())["training"][:4]
    for entry in few:
        for path in entry.values():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / path, folder / path)
    (folder / "dataset.json").write_text(json.dumps({"training": few}))
    return folder


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_a_recipe_of_label_maps_is_counted_at_its_full_size(path: Path) -> None:
    counts = audit_recipe(Recipe.read(path)).parameters
    assert 0 < counts.trainable <= counts.total


@pytest.mark.parametrize("kind", ["drawn", "real"])
@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_a_recipe_of_label_maps_runs(path: Path, kind: str, tmp_path: Path) -> None:
    """Shortened, on few scans."""
    short = ["train.epochs=1", "protocol.folds=2", "backbone.init_filters=8"]
    recipe = Recipe.read(path, short)
    labels = recipe.task.options["labels"]
    folder = tmp_path / "crops"
    cohort = drawn_crops(folder, list(labels)) if kind == "drawn" else real_crops(folder)
    run = fit(recipe, read_cohort(cohort), tmp_path / "run")
    metrics = json.loads(run.metrics_file.read_text())
    assert metrics["subjects"] == 4
    assert set(metrics["labels"]) == set(labels.values())
    assert len(list(run.segmentations_folder.rglob("*_dseg.nii.gz"))) == 4
