"""Fits of label maps from recipe to label maps of new scans, and what stops them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.evaluation.label_metrics import score_labels
from braintune.fitting.fit import fit
from braintune.fitting.segmentation.model import open_segmentation_model
from braintune.imaging.nifti import read_volume, spacing_of
from braintune.recipe import Recipe
from braintune.reporting.report import write_report
from conftest import Command
from fitting.blob_phantom import AFFINE, blob_values, write_blob_cohort, write_blobs


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labelled scans in the Decathlon layout, three of them for testing."""
    return write_blob_cohort(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def blob_run(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on them, with its page."""
    out = tmp_path_factory.mktemp("runs") / "blobs"
    fit(Recipe.parse(blob_values()), read_cohort(blobs), out)
    write_report(out)
    return out


def test_a_fit_learns_two_blobs_and_says_how_well(blob_run: Path, blobs: Path) -> None:
    metrics = json.loads((blob_run / "metrics.json").read_text())
    assert (metrics["headline"], metrics["scans"], metrics["folds"]) == ("dice", 3, 1)
    table = read_table(blob_run / "predictions.tsv")
    for name in ("front", "back"):
        entry = metrics["metrics"][metrics["labels"][name]["dice"]]
        dice = table.loc[table["label"] == name, "dice"].astype(float)
        assert entry["value"] == pytest.approx(dice.mean())
        assert dice.min() <= entry["low"] <= entry["value"] <= entry["high"] <= dice.max()
        assert entry["value"] > 0.8
    assert metrics["metrics"]["hd95"]["value"] < 6
    assert metrics["metrics"]["dice"]["value"] == pytest.approx(
        np.mean([metrics["metrics"][f"dice_{n}"]["value"] for n in ("front", "back")])
    )


def test_scores_are_of_the_label_maps_that_a_run_leaves(blob_run: Path, blobs: Path) -> None:
    table = read_table(blob_run / "predictions.tsv")
    found = sorted((blob_run / "segmentations").rglob("*_dseg.nii.gz"))
    assert [p.name for p in found] == [
        f"sub-blobs{n:03d}_desc-twoblobs_dseg.nii.gz" for n in (1, 5, 9)
    ]
    for path, scan_id in zip(found, ("blobs_001", "blobs_005", "blobs_009"), strict=True):
        ours, true = read_volume(path), read_volume(blobs / f"labelsTr/{scan_id}.nii.gz")
        assert np.allclose(ours.affine, true.affine)
        assert set(np.unique(ours.data)) <= {0, 3, 7}
        numbers = [
            np.where(v.data == 3, 1, np.where(v.data == 7, 2, 0)).astype(np.uint8)
            for v in (ours, true)
        ]
        x, y, z = spacing_of(true.affine).tolist()
        for name, scores in zip(
            ("front", "back"), score_labels(numbers[0], numbers[1], (x, y, z), 2), strict=True
        ):
            row = table[(table["scan_id"] == scan_id) & (table["label"] == name)].iloc[0]
            assert float(row["dice"]) == pytest.approx(scores.dice)
            assert float(row["hd95"]) == pytest.approx(scores.hd95)
            assert float(row["volume_mm3"]) == pytest.approx(scores.volume_mm3)


def test_the_page_shows_labels_contours_and_the_methods(blob_run: Path) -> None:
    page = (blob_run / "report.html").read_text()
    for text in ("mean Dice", "HD95 (mm), back", "Volume of front", "(white)"):
        assert text in page
    assert page.count("data:image/png;base64,") == 3
    assert "from patches, of which 50 %" in page
    assert "stratified by" not in page


def test_the_same_call_finds_a_finished_run(blob_run: Path, blobs: Path) -> None:
    """Read back from its file, the recipe with its labels is the same recipe."""
    before = (blob_run / "ledger.jsonl").read_text()
    assert fit(Recipe.parse(blob_values()), read_cohort(blobs), blob_run).is_complete
    assert (blob_run / "ledger.jsonl").read_text() == before


def test_segment_writes_a_derivative_in_native_space(
    blob_run: Path, tmp_path: Path, braintune: Command
) -> None:
    write_blobs(tmp_path / "new", 40)
    scan = tmp_path / "new/imagesTr/blobs_040.nii.gz"
    image = nib.load(scan)
    # Another order of axes, left-handed, and another place.
    turned = image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    nib.save(turned, tmp_path / "sub-7_ses-b_T1w.nii.gz")
    out = tmp_path / "out"
    outcome = braintune(
        "segment",
        blob_run,
        scan,
        tmp_path / "sub-7_ses-b_T1w.nii.gz",
        "--out",
        out,
        "--probabilities",
        "--json",
    )
    assert outcome.status == 0
    document = json.loads(outcome.out)
    assert (document["scans"], document["failed"], document["empty"]) == (2, 0, 0)
    plain = out / "sub-blobs040/anat/sub-blobs040_desc-twoblobs_dseg.nii.gz"
    other = out / "sub-7/ses-b/anat/sub-7_ses-b_desc-twoblobs_dseg.nii.gz"
    first, second = nib.load(plain), nib.load(other)
    assert np.array_equal(second.affine, turned.affine)
    back = second.as_reoriented(np.array([[1, -1], [2, 1], [0, 1]]))
    assert np.array_equal(np.asarray(back.dataobj), np.asarray(first.dataobj))
    labels = read_table(out / "desc-twoblobs_dseg.tsv")
    assert dict(zip(labels["index"], labels["name"], strict=True)) == {
        "0": "background",
        "3": "front",
        "7": "back",
    }
    chances = nib.load(str(plain).replace("_dseg", "_probseg")).get_fdata()
    sidecar = plain.with_name(plain.name.replace("_dseg.nii.gz", "_probseg.json"))
    assert json.loads(sidecar.read_text()) == {"LabelMap": ["front", "back"]}
    assert chances.shape == (*first.shape, 2)
    decided = np.where(chances.max(-1) > 0.5, np.array([3, 7])[chances.argmax(-1)], 0)
    sure = np.abs(chances.max(-1) - 0.5) > 0.02
    assert np.array_equal(decided[sure], np.asarray(first.dataobj)[sure])
    table = read_table(out / "desc-twoblobs_segmentations.tsv")
    volume = (np.asarray(first.dataobj) == 3).sum() * 12.0
    assert float(table.loc[0, "front_mm3"]) == pytest.approx(volume)
    assert len(list((out / "figures").glob("*.png"))) == 2


def test_nothing_found_is_warned_of_and_listed_and_broken_scans_do_not_stop_others(
    blob_run: Path, tmp_path: Path, braintune: Command
) -> None:
    random = np.random.default_rng(0)
    flat = (100 + random.random((20, 20, 12))).astype(np.float32)
    nib.save(nib.Nifti1Image(flat, AFFINE), tmp_path / "sub-flat_T1w.nii.gz")
    (tmp_path / "sub-bad_T1w.nii.gz").write_text("no scan")
    out = tmp_path / "out"
    outcome = braintune("segment", blob_run, tmp_path, "--out", out)
    assert outcome.status == 2
    assert "sub-bad_T1w: " in outcome.out
    table = read_table(out / "desc-twoblobs_segmentations.tsv").set_index("scan_id")
    assert (out / table.loc["sub-flat_T1w", "label_map"]).exists()
    if not float(table.loc["sub-flat_T1w", "front_mm3"]):
        assert "found" in table.loc["sub-flat_T1w", "warning"]
    again = braintune("segment", blob_run, tmp_path, "--out", out)
    assert again.status == 2
    assert "is not empty" in again.err


def test_a_scan_of_the_fit_is_warned_of(
    blob_run: Path, blobs: Path, tmp_path: Path, braintune: Command
) -> None:
    scan = blobs / "imagesTr/blobs_000.nii.gz"
    outcome = braintune("segment", blob_run, scan, "--out", tmp_path / "out")
    assert "was fitted with this scan" in outcome.out


def test_values_and_label_maps_are_not_mixed_up(
    blob_run: Path, finished_run: Path, tmp_path: Path, braintune: Command
) -> None:
    assert "braintune segment" in braintune("predict", blob_run, tmp_path, "--out", "x").err
    outcome = braintune("segment", finished_run, tmp_path, "--out", tmp_path / "out")
    assert outcome.status == 2
    assert "braintune predict" in outcome.err
    assert open_segmentation_model(blob_run / "model").task.n_outputs == 3


Spoil = Callable[[Path], None]


def another_grid(folder: Path) -> None:
    path = folder / "labelsTr/blobs_003.nii.gz"
    data = np.asarray(nib.load(path).dataobj)
    nib.save(nib.Nifti1Image(data[:-1], AFFINE), path)


def another_place(folder: Path) -> None:
    path = folder / "labelsTr/blobs_003.nii.gz"
    moved = AFFINE.copy()
    moved[0, 3] = 4
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), moved), path)


def undeclared(folder: Path) -> None:
    path = folder / "labelsTr/blobs_003.nii.gz"
    data = np.asarray(nib.load(path).dataobj).copy()
    data[0, 0, 0] = 9
    nib.save(nib.Nifti1Image(data, AFFINE), path)


def fractions(folder: Path) -> None:
    path = folder / "labelsTr/blobs_003.nii.gz"
    data = np.asarray(nib.load(path).dataobj) * np.float32(0.1)
    nib.save(nib.Nifti1Image(data, AFFINE), path)


def without_label(folder: Path) -> None:
    (folder / "labelsTr/blobs_003.nii.gz").unlink()


def outside(folder: Path) -> None:
    listed = json.loads((folder / "dataset.json").read_text())
    listed["training"][0]["label"] = "../labels.nii.gz"
    (folder / "dataset.json").write_text(json.dumps(listed))


def nothing(folder: Path) -> None:
    """Leave the scans as they are."""


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (another_grid, [], "voxels, its image 20 × 22 × 13"),
        (another_place, [], "2.0 voxels beside its image"),
        (undeclared, [], "the values 9, which 'task: labels' does not declare (it has 3, 7)"),
        (fractions, [], "no whole numbers, such as 0.3"),
        (without_label, [], "blobs_003: its label map"),
        (outside, [], "names '../labels.nii.gz', which is outside of its folder"),
        (nothing, ["task.patch=[32,16,16]"], "The patch [32, 16, 16] is larger than"),
        (
            nothing,
            ["prepare.shape=[16,16,16]", "prepare.spacing=1"],
            "labelled voxels outside of the (16, 16, 16)",
        ),
        (nothing, ["train.mixup=0.5"], "are for tasks of one value a scan"),
        (nothing, ["task.labels={1: front, 2: front}"], "every label needs a name of its own"),
        (nothing, ["task.mirrored=[[3, 5]]"], "mirrored names 5"),
        (
            nothing,
            ["backbone={name: sfcn}", "task.patch=[32,32,32]", "prepare.shape=[32,32,32]"],
            "sfcn gives no label maps",
        ),
        (nothing, ["task.labels={3: left, 7: right}", "train.augment=light"], "of one side"),
        (nothing, ["task.lables={3: left}"], "Did you mean 'labels'"),
    ],
)
def test_bad_input_is_refused_with_the_remedy_and_nothing_is_written(
    blobs: Path,
    tmp_path: Path,
    braintune: Command,
    spoil: Spoil,
    changes: list[str],
    message: str,
) -> None:
    folder = Path(shutil.copytree(blobs, tmp_path / "blobs"))
    spoil(folder)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(blob_values(train={"epochs": 2})))
    words = [word for change in changes for word in ("--set", change)]
    outcome = braintune(
        "fit", recipe, "--cohort", folder, "--out", tmp_path / "run", "--workers", 1, *words
    )
    assert outcome.status == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_what_is_broken_can_be_left_out_and_is_named(
    blobs: Path, tmp_path: Path, braintune: Command
) -> None:
    folder = Path(shutil.copytree(blobs, tmp_path / "blobs"))
    undeclared(folder)
    (folder / "labelsTr/blobs_004.nii.gz").unlink()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(blob_values(train={"epochs": 2})))
    outcome = braintune(
        *("fit", recipe, "--cohort", folder, "--out", tmp_path / "run", "--workers", 1),
        *("--exclude-broken", "--json"),
    )
    assert outcome.status == 0, outcome.err
    ledger = (tmp_path / "run/ledger.jsonl").read_text()
    assert "blobs_003" in ledger
    assert "undeclared" in ledger or "does not declare" in ledger
    assert "blobs_004" in ledger
    assert len(read_table(tmp_path / "run/cohort.tsv")) == 10


def test_undeclared_values_can_be_background(
    blobs: Path, tmp_path: Path, braintune: Command
) -> None:
    recipe = tmp_path / "recipe.yaml"
    task = {"labels": {7: "back"}, "others": "background", "deep_supervision": True}
    backbone = {"channels": [4, 6, 8]}
    recipe.write_text(
        yaml.safe_dump(blob_values(train={"epochs": 2}, task=task, backbone=backbone))
    )
    outcome = braintune("fit", recipe, "--cohort", blobs, "--out", tmp_path / "run", "--json")
    assert outcome.status == 0, outcome.err
    assert set(json.loads(outcome.out)["labels"]) == {"back"}
