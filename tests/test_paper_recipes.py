"""Recipes of papers parse, count and split a cohort of the paper's layout; some run, shortened."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.fitting.chain_recipe import ChainRecipe
from braintune.fitting.fit import fit
from braintune.fitting.network import audit_recipe, make_network
from braintune.fitting.plan import plan_fit
from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
from braintune.fitting.starting import settle
from braintune.models.weights.record import find_record
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from braintune.studies.choices import choices_of
from braintune.studies.compare import plan
from braintune.studies.evaluate import evaluate
from braintune.studies.recipe import StudyRecipe
from braintune.tasks.task import make_task
from conftest import Command
from fitting.blob_phantom import write_blob_cohort

FOLDER = Path(__file__).parents[1] / "recipes" / "papers"
PRETRAINING = sorted(FOLDER.glob("efficient-vit/pretrain-*.yaml"))
RECIPES = sorted(set(FOLDER.glob("efficient-vit/*.yaml")) - set(PRETRAINING))
STUDIES = [
    *FOLDER.glob("*/*study.yaml"),
    *FOLDER.glob("*/table-*.yaml"),
]
# Base recipes of the studies, and what makes the weights that these start from.
BASES = [
    FOLDER / "adhd-lora" / "lora.yaml",
    FOLDER / "slice-models" / "age.yaml",
    FOLDER / "slice-models" / "alzheimers.yaml",
    FOLDER / "video-and-synthetic" / "alzheimers.yaml",
    FOLDER / "video-and-synthetic" / "parkinsons.yaml",
]
SYNTHETIC = sorted(FOLDER.glob("video-and-synthetic/pretrain-*.yaml"))
CHAINS = sorted(FOLDER.glob("hyps/*-diagnosis.yaml"))
SEGMENTING = sorted(set(FOLDER.glob("hyps/*.yaml")) - set(CHAINS))
# What makes any of them short: one epoch, coarse scans, a network of two small blocks.
SHORT = ["train.epochs=1", "train.batch_size=4", "prepare.spacing=6", "prepare.shape=[32,32,32]"]
SMALL = ["patch=8", "width=16", "depth=2", "heads=2", "hidden=16"]
every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
# Trainable parameters that the papers, or their authors' code, give.
PUBLISHED = {
    ("adhd-lora/study", "LoRA 2"): 1_639_088,
    ("slice-models/table-2", "mean"): 998_625,
    ("slice-models/table-2", "attention"): 1_001_889,
    ("slice-models/table-2", "mean, positions"): 998_625 + 17_472,
    ("slice-models/table-2", "LSTM"): 1_070_403,
}
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


def named(path: Path) -> str:
    """A file by its folder and stem."""
    return f"{path.parent.name}/{path.stem}"


@pytest.fixture(scope="module")
def like_all(like_adni: Cohort) -> Cohort:
    """Simulated people whom every base recipe takes: of the classes ADHD, PD or AD."""
    groups = {name: like_adni.table["dx"].replace("AD", name) for name in ("ADHD", "PD")}
    return Cohort(like_adni.source, like_adni.table.assign(**groups))


def test_every_file_is_tested() -> None:
    tested = {*RECIPES, *PRETRAINING, *SEGMENTING, *CHAINS, *STUDIES, *BASES, *SYNTHETIC}
    assert tested == set(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", BASES, ids=named)
def test_a_base_recipe_splits_a_cohort_of_its_layout(path: Path, like_all: Cohort) -> None:
    recipe = Recipe.read(path)
    patients = recipe.task.options.get("labels", ["CN", "AD"])[1]
    column = {"AD": "dx"}.get(patients, patients)
    cohort = Cohort(like_all.source, like_all.table.assign(dx=like_all.table[column]))
    folds = plan_fit(recipe, cohort).folds
    wanted = {"cross-validation": 5, "hold-out": 1, "leave-one-site-out": 2}
    assert len(folds) == wanted[recipe.protocol.kind]
    assert audit_recipe(recipe).parameters.trainable > 0


# The study of Parkinson's disease has the networks of the one of Alzheimer's disease.
@pytest.mark.parametrize(
    "path", [path for path in STUDIES if path.stem != "parkinsons-study"], ids=named
)
def test_every_choice_of_a_study_is_a_right_network(path: Path) -> None:
    """All are outlined at full size, and count what is published where that is known."""
    choices = choices_of(StudyRecipe.read(path))
    counts = {}
    for choice in choices:
        weights = choice.values["backbone"].get("weights", "none")
        if weights != "none" and "/" not in weights:
            find_record(choice.values["backbone"]["name"], weights)
        counts[choice.name] = audit_recipe(choice.recipe(None, {})).parameters.trainable
    for (study, name), count in PUBLISHED.items():
        if study == named(path):
            assert counts[name] == count
    expected = {"slice-models/study": 54, "slice-models/table-1": 13, "slice-models/table-2": 9}
    assert len(choices) == expected.get(named(path), len(choices))
    assert any(choice.values["backbone"].get("weights", "none") == "none" for choice in choices)


@pytest.mark.parametrize(
    "path", [path for path in STUDIES if path.parent.name == "slice-models"], ids=named
)
def test_a_study_is_planned(path: Path, like_adni: Cohort, tmp_path: Path) -> None:
    """Without weights from elsewhere, which are not there, on scans of the paper's layout."""
    values = yaml.safe_load(path.read_text())
    points = [point for point in values.get("axes", {}).values() if isinstance(point, dict)]
    for named_changes in [values.get("methods", {}), *points]:
        for changes in named_changes.values():
            changes.get("backbone", {}).pop("weights", None)
    changes = ["prepare.spacing=6", "prepare.shape=[64,64,64]"]
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump({**values, "base": str(path.parent / values["base"])}))
    table = tmp_path / "cohort.tsv"
    like_adni.table.drop(columns=["scan_id", "session_id"]).to_csv(table, sep="\t", index=False)
    planned = plan(StudyRecipe.read(study, changes), table)
    tried = 3 if planned.study.tune else 1
    assert planned.n_fits == len(planned.choices) * (tried + 2)
    (context,) = planned.contexts
    tested = like_adni.table["split"].eq("test").sum()
    assert len(context.plan.folds[0].test) == tested


def test_both_diseases_are_told_by_the_same_choices() -> None:
    folder = FOLDER / "video-and-synthetic"
    names = [
        [(c.name, c.values["backbone"]) for c in choices_of(StudyRecipe.read(folder / file))]
        for file in ("study.yaml", "parkinsons-study.yaml")
    ]
    assert names[0] == names[1]


def test_weights_that_are_not_there_are_named(cohort_folder: Path, braintune: Command) -> None:
    path = FOLDER / "adhd-lora" / "study.yaml"
    changes = [
        "--set",
        "task.labels=[CN, AD]",
        "--set",
        "scans.suffix=T1w",
        "--set",
        "scans.desc=null",
    ]
    outcome = braintune("compare", path, "--cohort", cohort_folder, "--dry-run", *changes)
    assert outcome.status == 2
    assert "braintune models fetch fmcib.deeplesion" in outcome.err


@pytest.mark.parametrize("path", SYNTHETIC, ids=named)
def test_weights_of_synthetic_scans_fit_what_starts_from_them(path: Path) -> None:
    recipe = PretrainRecipe.read(path)
    base = Recipe.read(path.parent / "alzheimers.yaml")
    assert recipe.prepare == base.prepare
    made = f"weights/{path.stem.removeprefix('pretrain-')}"
    starts = [
        choice.values["backbone"]
        for choice in choices_of(StudyRecipe.read(path.parent / "study.yaml"))
        if choice.values["backbone"].get("weights") == made
    ]
    assert [start["name"] for start in starts] == [recipe.backbone.name]
