"""Diffusion series into stores of several channels, and from there into a fit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.fitting.starting import settle
from braintune.imaging.nifti import ScanError
from braintune.imaging.preparation import fingerprint, prepare_scan
from braintune.imaging.prepare import prepare
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import PrepareRecipe, Recipe, ScansRecipe
from braintune.registry import parse
from braintune.synthesis.diffusion.recipe import DiffusionRecipe
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.task import make_any_task
from conftest import Outcome
from imaging.dwi.dwi_phantom import FIBRE_FA, FIBRE_MD, SPACING, phantom, write

Command = Callable[..., Outcome]
DWI = ScansRecipe(suffix="dwi")
NATIVE = PrepareRecipe.model_validate(
    {
        "spacing": SPACING,
        "shape": [24, 26, 22],
        "intensity": "none",
        "dwi": {"maps": ["fa", "md", "ad", "rd"], "registration": "none"},
    }
)
SMALL = {
    "spacing": 5.0,
    "shape": [16, 16, 16],
    "intensity": "none",
    "dwi": {"maps": ["fa", "md"], "registration": "none"},
}


@pytest.fixture(scope="session")
def dwi_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen series; water moves faster in the brains of patients, to be seen in MD alone."""
    root = tmp_path_factory.mktemp("dwi") / "cohort"
    rows = ["participant_id\tdx\tage"]
    for number in range(16):
        planted = phantom(((1000.0, 7),), unweighted=1, noise=2, seed=number)
        if number % 2:
            faster = planted.data * np.exp(-planted.bvals * 0.4e-3).astype(np.float32)
            planted = replace(planted, data=faster)
        name = f"sub-{number:02d}"
        orientation = ["RAS", "LPS", "LAS", "PIR"][number % 4]
        path = root / name / "dwi" / f"{name}_dwi.nii.gz"
        write(planted, path, orientation=orientation)
        rows.append(f"{name}\t{'PD' if number % 2 else 'CN'}\t{60 + number}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "rings", "BIDSVersion": "1.10.0"}')
    return root


@pytest.fixture
def cohort_copy(dwi_cohort: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dwi_cohort, tmp_path / "cohort"))


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PIR", "SLA"])
def test_maps_are_channels_in_the_recipes_order(tmp_path: Path, orientation: str) -> None:
    """At the series' own spacing voxels come through as they are, whatever their order."""
    planted = phantom()
    path = write(planted, tmp_path / "sub-1_dwi.nii.gz", orientation=orientation)
    scan = prepare_scan(path, NATIVE)
    assert scan.image.shape == (4, 24, 26, 22)
    fibre = planted.fibre & (scan.image[1] > 0)
    assert fibre.sum() > 500
    for channel, value in enumerate((FIBRE_FA, FIBRE_MD, 1.7, 0.3)):
        np.testing.assert_allclose(scan.image[channel][fibre].astype(float), value, rtol=0.01)
    turned = NATIVE.model_copy(
        update={"dwi": NATIVE.dwi.model_copy(update={"maps": ("rd", "fa")})}  # type: ignore[union-attr]
    )
    assert np.array_equal(prepare_scan(path, turned).image, scan.image[[3, 0]])


def test_the_edge_of_the_brain_is_not_mixed_with_air(tmp_path: Path) -> None:
    """On a coarser and shifted grid every voxel of even tissue keeps its diffusivity."""
    planted = phantom(((1000.0, 12),))
    even = 100 * planted.brain[..., None] * np.exp(-planted.bvals * 0.8e-3)
    path = write(replace(planted, data=even.astype(np.float32)), tmp_path / "sub-1_dwi.nii.gz")
    recipe = PrepareRecipe.model_validate({**SMALL, "spacing": 3.7, "shape": [20, 20, 20]})
    image = prepare_scan(path, recipe).image
    inside = image[1] != 0
    assert inside.sum() > 1000
    np.testing.assert_allclose(image[1][inside].astype(float), 0.8, rtol=0.005)


def test_each_channel_is_scaled_by_itself(tmp_path: Path) -> None:
    path = write(phantom(noise=2), tmp_path / "sub-1_dwi.nii.gz")
    image = prepare_scan(path, NATIVE.model_copy(update={"intensity": "zscore"})).image
    for channel in image.astype(float):
        assert channel[image[0] != 0].mean() == pytest.approx(0, abs=0.01)
        assert channel[image[0] != 0].std() == pytest.approx(1, abs=0.01)


def test_brains_outside_the_grid_are_refused(tmp_path: Path) -> None:
    path = write(phantom(((1000.0, 7),)), tmp_path / "sub-1_dwi.nii.gz")
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    far = np.pad(data, ((0, 60), (0, 0), (0, 0), (0, 0)))
    nib.save(nib.Nifti1Image(far, image.affine), path)
    small = PrepareRecipe.model_validate({**SMALL, "spacing": 2.5})
    with pytest.raises(ScanError, match="no brain within"):
        prepare_scan(path, small)
    centred = small.model_copy(update={"center": "brain", "shape": (26, 28, 24)})
    assert prepare_scan(path, centred).brain_ml > 60


def test_older_stores_keep_their_fingerprints() -> None:
    """A preparation without diffusion is what it was before there was any."""
    assert fingerprint(PrepareRecipe()) == "8c250c81da41059d"
    assert fingerprint(NATIVE) != fingerprint(NATIVE.model_copy(update={"dwi": None}))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"brain": "whole"}, "leave 'brain: whole' out"),
        ({"intensity": "white-peak"}, "is for T1w scans"),
        ({"heads": {}}, "either a raw head"),
    ],
)
def test_what_means_nothing_to_maps_is_refused(values: dict[str, object], reason: str) -> None:
    recipe = {"task": {"kind": "regression", "target": "age"}, "backbone": {"name": "sfcn"}}
    with pytest.raises(InputError, match=reason):
        Recipe.parse({**recipe, "prepare": {"dwi": {}, **values}})


def test_work_on_one_channel_refuses_series() -> None:
    """Label maps, pre-training and the generator of scans know images of one channel alone."""
    backbone = {"name": "unet", "channels": [2, 3, 4]}
    task = {"kind": "segmentation", "target": "tract", "labels": {1: "fornix"}}
    recipe = Recipe.parse({"task": task, "prepare": SMALL, "backbone": backbone})
    labelled = make_any_task(recipe.task)
    assert isinstance(labelled, Segmentation)
    with pytest.raises(InputError, match="not to diffusion series"):
        labelled.check(recipe)
    with pytest.raises(InputError, match="pre-training takes scans of one channel"):
        PretrainRecipe.parse(
            {
                "objective": {"kind": "masked"},
                "backbone": {"name": "nit"},
                "sources": {"mine": {"cohort": "cohort"}},
                "prepare": SMALL,
            }
        )
    generated = {"prepare": {**SMALL, "shape": [40, 48, 40], "intensity": "percentile"}}
    with pytest.raises(InputError, match="makes scans of one channel"):
        parse(DiffusionRecipe, generated, "")


def test_the_weights_preparation_is_taken_but_for_the_mask() -> None:
    """AnatCL's own mask is the whole image, which means nothing to a series."""
    recipe = Recipe.parse(
        {
            "task": {"kind": "regression", "target": "age"},
            "prepare": {"like": "weights", "dwi": {"maps": ["md"]}},
            "backbone": {"name": "anatcl", "weights": "global-fold0"},
        }
    )
    settled = settle(recipe).prepare
    assert (settled.brain, settled.dwi) == ("nonzero", recipe.prepare.dwi)
    assert settled.shape == (121, 128, 121)


def test_the_command_prepares_series_and_goes_on(
    braintune: Command, cohort_copy: Path, tmp_path: Path
) -> None:
    arguments = [cohort_copy, tmp_path / "store", "--filter", "suffix=dwi", "--workers", "1"]
    settings = ["dwi.maps=[fa,md]", "dwi.registration=none", "spacing=5", "shape=[16,16,16]"]
    for setting in (*settings, "intensity=none"):
        arguments += ["--set", setting]
    outcome = braintune("prepare", *arguments, "--json")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["made"] == 16
    recipe = PrepareRecipe.model_validate(SMALL)
    made = prepare(read_cohort(cohort_copy, DWI), tmp_path / "store", recipe, workers=1)
    assert made.made == 0
    assert made.store.shape == (2, 16, 16, 16)
    first = read_cohort(cohort_copy, DWI).table["path"].iloc[0]
    reference = prepare_scan(Path(first), recipe).image
    assert np.array_equal(made.store.read("sub-00_dwi"), reference)
    bvec = Path(first).with_name("sub-00_dwi.bvec")
    np.savetxt(bvec, -np.loadtxt(bvec))  # a file beside the series counts as the series itself
    assert prepare(read_cohort(cohort_copy, DWI), tmp_path / "store", recipe, workers=1).made == 1


def test_missing_gradients_are_told_before_anything_is_written(
    braintune: Command, cohort_copy: Path, tmp_path: Path
) -> None:
    (cohort_copy / "sub-03/dwi/sub-03_dwi.bvec").unlink()
    bval = cohort_copy / "sub-05/dwi/sub-05_dwi.bval"
    bval.write_text(bval.read_text().replace("0 ", "", 1))
    arguments = [cohort_copy, tmp_path / "store", "--filter", "suffix=dwi"]
    outcome = braintune("prepare", *arguments, "--set", "dwi.maps=[fa,md]")
    assert outcome.status == 2
    assert "2 scans could not be prepared" in outcome.err
    assert "no gradient directions: sub-03_dwi.bvec does not lie beside it" in outcome.err
    assert "is of 7 volumes, but" in outcome.err
    assert not (tmp_path / "store").exists()


def test_one_forgotten_setting_is_named(
    braintune: Command, dwi_cohort: Path, tmp_path: Path
) -> None:
    outcome = braintune("prepare", dwi_cohort, tmp_path / "store", "--filter", "suffix=dwi")
    assert outcome.status == 2
    assert "prepare: {dwi: {maps: [fa, md]}}" in outcome.err


def test_a_fit_learns_from_the_second_channel_and_predicts(
    braintune: Command, dwi_cohort: Path, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = recipe_file(
        scans={"suffix": "dwi"},
        prepare=SMALL,
        train={"epochs": 16, "lr": 1e-2, "augment": "none"},
    )
    run, out = tmp_path / "run", tmp_path / "predictions"
    outcome = braintune("fit", recipe, "--cohort", dwi_cohort, "--out", run, "--workers", "1")
    assert outcome.status == 0, outcome.err
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["metrics"]["auc"]["value"] > 0.9
    outcome = braintune("predict", run, dwi_cohort, "--out", out, "--workers", "1")
    assert outcome.status == 0, outcome.err
    table = read_table(out / "desc-dx_predictions.tsv").set_index("scan_id")
    chance = table["p_PD"].astype(float).to_numpy()
    assert chance[1::2].min() > chance[::2].max()
