import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.files import write_json
from braintune.fitting.model import load_member, open_model
from braintune.fitting.predict import predict
from braintune.imaging.nifti import read_volume
from braintune.imaging.preparation import prepare_scan
from braintune.recipe import ScansRecipe
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate

Write = Callable[..., Path]


@pytest.fixture
def scans(cohort_folder: Path) -> list[Path]:
    return sorted(cohort_folder.rglob("*.nii.gz"))


def test_predictions_are_the_mean_and_spread_of_the_folds(
    finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    """Against the networks called by hand, one scan at a time."""
    import torch

    table = predict(finished_run, scans[:5], tmp_path / "out").table
    model = open_model(finished_run)
    for scan, (_, row) in zip(scans[:5], table.iterrows(), strict=True):
        image = torch.from_numpy(prepare_scan(scan, model.recipe.prepare).image).float()[None]
        p = []
        for member in model.members:
            with torch.no_grad():
                p.append(load_member(model, member)(image).softmax(dim=1)[0, 1].item())
        assert float(row["p_AD"]) == pytest.approx(np.mean(p), abs=0.01)
        assert float(row["p_AD_sd"]) == pytest.approx(np.std(p, ddof=1), abs=0.01)
        assert row["predicted_dx"] == ("AD" if float(row["p_AD"]) >= 0.5 else "CN")


def test_a_folds_own_test_rows_are_predicted_as_in_the_run(
    finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    """A model of one fold gives that fold's out-of-fold predictions again."""
    model = shutil.copytree(finished_run / "model", tmp_path / "model")
    document = json.loads((model / "model.json").read_text())
    document["members"] = document["members"][:1]
    write_json(model / "model.json", document)
    table = predict(model, scans, tmp_path / "out").table.set_index("scan_id")
    run = read_table(finished_run / "predictions.tsv")
    first = run[run["fold"] == run["fold"].iloc[0]]
    again = table.loc[first["scan_id"], "p_AD"].astype(float).to_numpy()
    assert np.allclose(first["p_AD"].astype(float), again, atol=2e-3)
    assert table["p_AD_sd"].isna().all()


def test_a_bids_derivative_is_written(
    finished_age_run: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    predict(finished_age_run, [cohort_folder], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        ".bidsignore",
        "dataset_description.json",
        "desc-age_predictions.json",
        "desc-age_predictions.tsv",
    ]
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    table = read_table(tmp_path / "out" / "desc-age_predictions.tsv")
    assert list(table["participant_id"]) == sorted(p.name for p in cohort_folder.glob("sub-*"))
    assert table["predicted_age"].astype(float).between(0, 120).all()
    sidecar = json.loads((tmp_path / "out" / "desc-age_predictions.json").read_text())
    assert set(table.columns) - {"participant_id", "session_id"} <= set(sidecar)


def test_files_folders_and_datasets_may_be_mixed(
    finished_run: Path, scans: list[Path], cohort_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "from-the-scanner"
    folder.mkdir()
    shutil.copy(scans[0], folder / "patient one.nii.gz")
    table = predict(finished_run, [folder, scans[1]], tmp_path / "out").table
    assert len(table) == 2
    assert table["scan_id"].is_unique
    everything = predict(finished_run, [cohort_folder], tmp_path / "all").table
    assert len(everything) == 32
    assert float(everything["p_AD"].iloc[0]) == pytest.approx(float(table["p_AD"].iloc[0]))


def test_scans_unlike_those_of_the_fit_carry_a_warning(
    finished_run: Path, scans: list[Path], write_scan: Write, tmp_path: Path
) -> None:
    volume = read_volume(scans[0])
    data, affine = volume.data, np.asarray(volume.affine)
    noise = np.random.default_rng(0).uniform(1, 100, data.shape).astype(np.float32)
    upside_down = np.ascontiguousarray(data[:, :, ::-1])
    small = affine @ np.diag([0.6, 0.6, 0.6, 1])
    sources = {
        "same": write_scan("same.nii.gz", data, affine),
        "noise": write_scan("noise.nii.gz", noise, affine),
        "turned": write_scan("turned.nii.gz", upside_down, affine),
        "small": write_scan("small.nii.gz", data, small),
    }
    table = predict(finished_run, list(sources.values()), tmp_path / "out").table
    warnings = dict(zip(sources, table["warning"].fillna(""), strict=True))
    assert warnings["same"] == "the run was fitted with this scan: no evidence of how good it is"
    assert "looks unlike the training scans" in warnings["noise"]
    assert "looks unlike the training scans" in warnings["turned"]
    assert "mL is outside the training range" in warnings["small"]


def test_new_people_from_the_same_scanners_carry_none(finished_run: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "more", SimulationRecipe(subjects=56, sites=2, spacing=6))
    new = sorted((tmp_path / "more").rglob("*.nii.gz"))[32:]
    table = predict(finished_run, new, tmp_path / "out").table
    assert len(table) == 24
    assert table["warning"].notna().sum() <= 1


def test_scans_that_cannot_be_used_are_listed_and_the_others_predicted(
    finished_run: Path, scans: list[Path], write_scan: Write, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_text("no image")
    prediction = predict(finished_run, [broken, scans[0]], tmp_path / "out")
    assert prediction.failed == 1
    assert "broken.nii.gz" in prediction.table["problem"].iloc[0]
    assert prediction.table["p_AD"].notna().tolist() == [False, True]
    with pytest.raises(InputError, match="No scan could be used"):
        predict(finished_run, [broken], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_table_and_filters_choose_scans(
    finished_run: Path, sessions_folder: Path, scans: list[Path], tmp_path: Path
) -> None:
    table = tmp_path / "new.csv"
    table.write_text(f"participant_id,path\nx,{scans[0]}\n")
    assert list(predict(finished_run, [table], tmp_path / "a").table["participant_id"]) == ["x"]
    second = ScansRecipe(session="2")
    chosen = predict(finished_run, [sessions_folder], tmp_path / "b", scans=second).table
    assert set(chosen["session_id"]) == {"ses-2"}


def test_occupied_folders_and_missing_scans_are_refused(
    finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        predict(finished_run, [scans[0]], tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        predict(finished_run, [tmp_path / "none.nii.gz"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no .nii"):
        predict(finished_run, [tmp_path / "empty"], tmp_path / "out")


@pytest.mark.parametrize("harm", ["flipped", "missing", "elsewhere", "unfinished"])
def test_a_model_that_is_not_what_the_run_wrote_is_refused(
    harm: str, finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    model = shutil.copytree(finished_run / "model", tmp_path / "model")
    weights = model / "fold-2.safetensors"
    if harm == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    elif harm == "missing":
        weights.unlink()
    elif harm == "elsewhere":
        document = (model / "model.json").read_text()
        (model / "model.json").write_text(document.replace("fold-2", "../fold-2"))
    else:
        (model / "model.json").unlink()
    with pytest.raises(InputError, match=r"not the file|outside of itself|no finished model"):
        predict(model, [scans[0]], tmp_path / "out")


def test_the_orientation_of_a_file_does_not_matter(
    finished_run: Path, scans: list[Path], write_scan: Write, tmp_path: Path
) -> None:
    image = nib.load(scans[0])
    turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    path = write_scan("turned.nii.gz", np.asarray(turned.dataobj), turned.affine)
    table = predict(finished_run, [scans[0], path], tmp_path / "out").table
    first, second = table["p_AD"].astype(float)
    assert first == pytest.approx(second, abs=5e-3)


def test_one_file_under_two_ids_is_predicted_for_both(
    finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    table = tmp_path / "table.tsv"
    table.write_text(f"participant_id\tpath\na\t{scans[0]}\nb\t{scans[0]}\n")
    result = predict(finished_run, [table], tmp_path / "out").table
    assert result["p_AD"].nunique() == 1
    assert result["p_AD"].notna().all()


def test_files_of_one_name_are_told_apart_by_their_folders(
    finished_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    for number, site in enumerate(("east", "west")):
        (tmp_path / site).mkdir()
        shutil.copy(scans[number], tmp_path / site / "T1.nii.gz")
    files = [tmp_path / site / "T1.nii.gz" for site in ("east", "west")]
    result = predict(finished_run, files, tmp_path / "out").table
    assert list(result["scan_id"]) == ["east_T1", "west_T1"]
    assert result["p_AD"].nunique() == 2
