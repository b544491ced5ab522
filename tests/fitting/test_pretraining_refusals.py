"""What pre-training refuses: test subjects by id and by image, and recipes that can't be right."""

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.fitting.fit import fit
from braintune.fitting.overlap import COLUMNS, overlap, refuse_seen
from braintune.fitting.pretraining.plan import plan_pretraining
from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
from braintune.imaging.identity import image_hash
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from conftest import tiny_values
from fitting.pretraining_phantom import SFCN, UNET, VIT, made, tiny, values, write_balls

ALONE = PretrainExecution(accelerator="cpu", workers=1)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("maps") / "balls")


@pytest.fixture
def renamed(cohort_folder: Path, tmp_path: Path) -> Path:
    """Three scans of the cohort as other people of another cohort, packed anew."""
    out = tmp_path / "other"
    for number, scan in enumerate(sorted(cohort_folder.rglob("*_T1w.nii.gz"))[:3]):
        image = nib.load(scan)
        path = out / f"sub-x{number}" / "anat" / f"sub-x{number}_T1w.nii"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), path)
    return out


def test_an_image_is_known_by_its_voxels(cohort_folder: Path, renamed: Path) -> None:
    originals = sorted(cohort_folder.rglob("*_T1w.nii.gz"))[:3]
    copies = sorted(renamed.rglob("*_T1w.nii"))
    assert [image_hash(path) for path in originals] == [image_hash(path) for path in copies]
    assert len({image_hash(path) for path in originals}) == 3
    assert image_hash(renamed / "none.nii") == ""


def test_what_is_unknown_is_never_equal() -> None:
    rows = pd.DataFrame([["a", "", "x", "", ""]], columns=list(COLUMNS))
    assert not overlap(rows, rows)


# ---- while pre-training


def test_excluded_subjects_are_refused_by_id(cohort_folder: Path, tmp_path: Path) -> None:
    real = {"cohort": str(cohort_folder)}
    excluded = {"test": {**real, "where": {"site": "site2"}}}
    recipe = tiny({"all": real}, exclude=excluded)
    with pytest.raises(InputError, match=r"subjects? by id \(sub-.*\) and .* by image .* in all"):
        pretrain(recipe, tmp_path / "out", ALONE)
    assert not (tmp_path / "out").exists()
    plan_pretraining(tiny({"some": {**real, "where": {"site": ["site1"]}}}, exclude=excluded))


def test_excluded_subjects_are_refused_by_image(
    cohort_folder: Path, renamed: Path, tmp_path: Path
) -> None:
    recipe = tiny(
        {"all": {"cohort": str(cohort_folder)}}, exclude={"test": {"cohort": str(renamed)}}
    )
    with pytest.raises(InputError, match=r"see 3 scans by image \(sub-x0_T1w, sub-x1_T1w"):
        pretrain(recipe, tmp_path / "out", ALONE)
    assert not (tmp_path / "out").exists()


def test_people_behind_label_maps_are_refused_by_id(
    balls: Path, renamed: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(renamed, tmp_path / "test"))
    for scan in list(other.rglob("*.nii")):
        name = str(scan).replace("x1", "ball1")
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scan.rename(name)
    excluded = {"test": {"cohort": str(other)}}
    with pytest.raises(InputError, match=r"1 subject by id \(sub-ball1\).*exclude.*by: image"):
        plan_pretraining(tiny(made(balls), exclude=excluded))
    excluded["test"]["by"] = "image"
    plan_pretraining(tiny(made(balls), exclude=excluded))


# ---- while fitting


@pytest.fixture(scope="module")
def weights(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has seen one site, under the name of the cohort's folder."""
    sources = {cohort_folder.name: {"cohort": str(cohort_folder), "where": {"site": "site1"}}}
    out = tmp_path_factory.mktemp("weights") / "seen"
    pretrain(tiny(sources, train={"epochs": 1, "batch_size": 2}), out, ALONE)
    return out


def recipe_on(weights: Path, **sections: Any) -> Recipe:
    recipe = tiny_values(
        task={"kind": "regression", "target": "age"},
        backbone={"name": "sfcn", "weights": str(weights)},
        train={"epochs": 1},
        **sections,
    )
    recipe["prepare"] = {"like": "weights"}
    return Recipe.parse(recipe)


def test_a_fit_that_tests_on_seen_subjects_is_refused(
    weights: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"have seen \d+ subjects by id"):
        fit(recipe_on(weights), read_cohort(cohort_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seen_subjects_may_train(weights: Path, cohort_folder: Path, tmp_path: Path) -> None:
    hold_out = {"kind": "hold-out", "column": "site", "test": ["site2"]}
    run = fit(recipe_on(weights, protocol=hold_out), read_cohort(cohort_folder), tmp_path / "run")
    assert run.is_complete


def test_seen_images_are_known_under_other_names(
    weights: Path, renamed: Path, cohort_folder: Path
) -> None:
    file = weights / "weights.safetensors"
    table = read_cohort(cohort_folder).table
    first = sorted(table["scan_id"])[:3]
    seen = table.set_index("scan_id").loc[first, "site"] == "site1"
    cohort = read_cohort(renamed)
    if seen.any():
        with pytest.raises(InputError, match="scans? by image"):
            refuse_seen(file, cohort, [0, 1, 2], 1)
    for row, was_seen in enumerate(seen):
        if not was_seen:
            refuse_seen(file, cohort, [row], 1)


def test_equal_ids_of_another_cohort_are_no_reason(weights: Path, renamed: Path) -> None:
    """The images tell that these are other people, though one has the id of somebody seen."""
    cohort = read_cohort(renamed)
    table = cohort.table.assign(participant_id=["sub-001", "sub-002", "sub-003"], path=["gone"] * 3)
    refuse_seen(weights / "weights.safetensors", Cohort(cohort.source, table), [0, 1, 2], 1)


def test_a_list_that_is_none_is_refused(weights: Path, renamed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(weights, tmp_path / "weights"))
    (folder / "seen.tsv").write_text("who\nme\n")
    with pytest.raises(InputError, match="lacks the columns cohort"):
        refuse_seen(folder / "weights.safetensors", read_cohort(renamed), [0], 1)


# ---- recipes


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"objective": {"kind": "segmentation"}}, "needs a backbone with a decoder"),
        ({"objective": {"kind": "masked", "patch": 5}}, "must divide"),
        ({"objective": {"kind": "masked"}, "backbone": {"name": "r3d18"}}, "Masked autoencoding"),
        ({"objective": {"kind": "supervised", "targets": {"iq": {}}}}, "made has no label 'iq'"),
        (
            {"objective": {"kind": "supervised", "targets": {"iq": {"partial": True}}}},
            "No source has the label 'iq'",
        ),
        ({"objective": {"kind": "contrastive", "label": "age"}}, "sigma belong together"),
        ({"train": {"batch_size": 1}}, "compares scans of a batch"),
        ({"train": {"augment": "none"}}, "makes them equal"),
        ({"scans_per_epoch": 3}, "fewer than the 4 of one step"),
        ({"prepare": {"intensity": "percentile", "shape": [16, 16, 16]}}, "not percentile"),
        ({"backbone": {**SFCN, "weights": "/nowhere/weights.safetensors"}}, "do not exist"),
        ({"exclude": {"test": {"cohort": "nowhere"}}}, "nowhere does not exist"),
        ({"prepare": {"shape": [15, 15, 15]}, "backbone": VIT}, "multiples"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_written(
    balls: Path, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pretrain(tiny(made(balls), **sections), tmp_path / "out", ALONE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"mixup": 0.5}}, "mixup belongs to fits"),
        ({"train": {"keep": "best"}}, "keep"),
        ({"sources": {}}, "sources"),
        ({"sources": {"a": {}}}, "set one of the two"),
        ({"sources": {"a": {"cohort": "x", "maps": "y"}}}, "set one of the two"),
        ({"sources": {"a": {"cohort": "x", "distinct": 3}}}, "distinct mean nothing"),
        ({"sources": {"a": {"cohort": "x", "wheer": {}}}}, "Did you mean 'where'"),
        ({"sources": {"../a": {"cohort": "x"}}}, "needs a name"),
        ({"scans_per_epoch": None}, "set scans_per_epoch"),
        ({"objectives": {}}, "Did you mean 'objective'"),
    ],
)
def test_recipes_that_can_not_be_right(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PretrainRecipe.parse({**values(made(Path("maps"))), **change})


def test_options_that_sources_share_with_the_preparation_are_refused(balls: Path) -> None:
    with pytest.raises(InputError, match="shape is given by the prepare section"):
        plan_pretraining(tiny(made(balls, generator={"shape": [8, 8, 8]})))
    with pytest.raises(InputError, match=r"generator.*contrst.*Did you mean 'contrast'"):
        plan_pretraining(tiny(made(balls, generator={"contrst": "any"})))


def test_scans_that_lack_a_label_are_named(
    cohort_folder: Path, balls: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    table.loc[3, "age"] = "n/a"
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    sources = {"real": {"cohort": str(folder)}, **made(balls)}
    objective = {"kind": "supervised", "targets": {"age": {}}}
    name = table.loc[3, "participant_id"]
    with pytest.raises(InputError, match=rf"1 scan of the source real lack.* {name}"):
        plan_pretraining(tiny(sources, objective=objective))
    objective = {"kind": "supervised", "targets": {"age": {"partial": True}}}
    plan = plan_pretraining(tiny(sources, objective=objective))
    assert 20 < plan.knowledge.tasks["age"].center < 85


def test_segmentation_learns_from_made_scans_alone(cohort_folder: Path, balls: Path) -> None:
    sources = {"real": {"cohort": str(cohort_folder)}, **made(balls)}
    recipe = tiny(sources, objective={"kind": "segmentation"}, backbone=UNET)
    with pytest.raises(InputError, match="label maps, which real lacks"):
        plan_pretraining(recipe)


def test_a_recipe_reads_back_as_it_was(balls: Path, tmp_path: Path) -> None:
    recipe = tiny(made(balls), exclude={"test": {"cohort": "x", "by": "image"}})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.dump())
    assert PretrainRecipe.read(path) == recipe
    changed = PretrainRecipe.read(path, ["objective.kind=masked", "sources.made.maps=there"])
    assert changed.objective.options == {}
    assert changed.sources["made"].maps == "there"
