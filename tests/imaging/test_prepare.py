import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.imaging.nifti import ScanError
from braintune.imaging.preparation import fingerprint, prepare_scan
from braintune.imaging.prepare import equal_scans, fill_store, prepare
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe

RECIPE = PrepareRecipe(spacing=6.0, shape=(32, 36, 32))


@pytest.fixture
def cohort_copy(cohort_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))


def first_scan(folder: Path) -> Path:
    return sorted(folder.rglob("*.nii.gz"))[0]


def test_every_scan_is_prepared_once(cohort_copy: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_copy)
    first = prepare(cohort, tmp_path / "store", RECIPE, workers=2)
    assert (first.made, len(first.cohort)) == (32, 32)
    assert prepare(cohort, tmp_path / "store", RECIPE).made == 0
    image = first.store.read(cohort.scan_ids[0]).astype(np.float32)
    assert image.shape == (1, 32, 36, 32)
    assert abs(image[image != 0].mean()) < 0.01
    assert first.cohort.table["brain_ml"].astype(float).between(1000, 3000).all()
    reference = prepare_scan(first_scan(cohort_copy), RECIPE).image
    assert np.array_equal(first.store.read(cohort.scan_ids[0]), reference)


def test_a_replaced_scan_is_prepared_again(cohort_copy: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_copy)
    prepare(cohort, tmp_path / "store", RECIPE)
    shutil.copy(sorted(cohort_copy.rglob("*.nii.gz"))[5], first_scan(cohort_copy))
    again = prepare(cohort, tmp_path / "store", RECIPE)
    assert again.made == 1
    assert equal_scans(again.cohort) == [[cohort.scan_ids[0], cohort.scan_ids[5]]]


def test_what_headers_tell_is_told_before_anything_is_written(
    cohort_copy: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_copy)
    scans = sorted(cohort_copy.rglob("*.nii.gz"))
    scans[0].write_text("no image")
    scans[1].unlink()
    with pytest.raises(InputError, match=r"2 scans could not be prepared:\n.*\n.*does not exist"):
        prepare(cohort, tmp_path / "store", RECIPE)
    assert not (tmp_path / "store").exists()


def test_a_truncated_scan_is_told_and_the_others_are_kept(
    cohort_copy: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_copy)
    path = first_scan(cohort_copy)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))
    with pytest.raises(InputError, match=r"1 scan could not be prepared(.|\n)*31 others") as caught:
        prepare(cohort, tmp_path / "store", RECIPE)
    assert "--exclude-broken" in str(caught.value)
    assert not (tmp_path / "store" / "cohort.tsv").exists()
    went_on = prepare(cohort, tmp_path / "store", RECIPE, exclude_broken=True)
    assert went_on.made == 0
    assert len(went_on.cohort) == 31
    assert [e.id for e in went_on.cohort.exclusions] == [cohort.scan_ids[0]]
    assert "cut short" in went_on.cohort.exclusions[0].reason


def test_a_store_stands_for_its_cohort(cohort_folder: Path, tmp_path: Path) -> None:
    made = prepare(read_cohort(cohort_folder), tmp_path / "store", RECIPE)
    cohort = read_cohort(tmp_path / "store")
    assert cohort.scan_ids == made.cohort.scan_ids
    again = prepare(cohort, tmp_path / "store", RECIPE)
    assert again.cohort.table["voxels"].tolist() == made.cohort.table["voxels"].tolist()
    with pytest.raises(InputError, match="spacing 6.0 instead of 4.0"):
        prepare(cohort, tmp_path / "store", PrepareRecipe(spacing=4.0, shape=(32, 36, 32)))
    next((tmp_path / "store" / "scans").rglob("*.safetensors")).unlink()
    with pytest.raises(InputError, match="lacks"):
        prepare(cohort, tmp_path / "store", RECIPE)


def test_processes_make_the_same_store(cohort_folder: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_folder)
    one = prepare(cohort, tmp_path / "one", RECIPE, workers=1)
    two = prepare(cohort, tmp_path / "two", RECIPE, workers=2)
    assert one.cohort.table["voxels"].tolist() == two.cohort.table["voxels"].tolist()
    with pytest.raises(InputError, match="--workers must be at least 1"):
        prepare(cohort, tmp_path / "none", RECIPE, workers=0)


def test_unfit_scans_are_refused(write_scan: Callable[..., Path]) -> None:
    data = np.ones((12, 14, 10), dtype=np.float32)
    holes = data * np.random.default_rng(0).uniform(1, 2, data.shape).astype(np.float32)
    holes[3, 3, 3] = np.nan
    far = np.diag([0.01, 0.01, 0.01, 1.0])
    varied = np.random.default_rng(0).uniform(1, 2, data.shape).astype(np.float32)
    cases = [
        ("constant", data, None, "constant"),
        ("holes", holes, None, "NaN"),
        ("tiny", varied, far, "outside the grid"),
    ]
    for name, array, affine, problem in cases:
        with pytest.raises(ScanError) as caught:
            prepare_scan(write_scan(f"{name}.nii.gz", array, affine), RECIPE)
        assert caught.value.problem == problem


def test_centring_on_the_brain_follows_it(write_scan: Callable[..., Path]) -> None:
    data = np.zeros((60, 60, 60), dtype=np.float32)
    data[35:55, 30:50, 2:22] = np.random.default_rng(0).uniform(1, 2, (20, 20, 20))
    path = write_scan("off.nii.gz", data)
    recipe = PrepareRecipe(spacing=2.0, shape=(24, 24, 24), center="brain")
    image = prepare_scan(path, recipe).image[0]
    assert (image != 0).sum() == pytest.approx(8000, rel=0.01)
    assert (image[:2] == 0).all()
    assert (image[-2:] == 0).all()


def test_the_fingerprint_names_the_preparation() -> None:
    assert fingerprint(RECIPE) == fingerprint(PrepareRecipe(spacing=6, shape=(32, 36, 32)))
    assert fingerprint(RECIPE) != fingerprint(RECIPE.model_copy(update={"intensity": "minmax"}))


def test_real_scans_are_cropped_not_interpolated(ixi: Path, tmp_path: Path) -> None:
    """IXI is at 2 mm already: its voxels must come through untouched."""
    import nibabel as nib

    path = sorted(ixi.glob("sub-*/anat/*_desc-brain_T1w.nii.gz"))[0]
    recipe = PrepareRecipe(spacing=2.0, shape=(80, 96, 80), intensity="none")
    image = prepare_scan(path, recipe).image[0]
    assert np.array_equal(image, np.asarray(nib.load(path).dataobj))
    store = PreparedStore.create(tmp_path, recipe)
    store.write("a", prepare_scan(path, recipe), "")
    assert np.array_equal(store.read("a")[0], image)


def test_a_store_is_a_cohort_wherever_it_is_read_from(
    cohort_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(read_cohort("cohort"), Path("store"), RECIPE, workers=1)
    monkeypatch.chdir("/")
    again = read_cohort(tmp_path / "store")
    assert len(again) == 32
    assert all(Path(path).is_file() for path in again.table["path"])


def test_filling_a_store_leaves_its_table_alone(cohort_copy: Path, tmp_path: Path) -> None:
    """A fit of the scans that have one target does not forget the others."""
    cohort = read_cohort(cohort_copy)
    prepare(cohort, tmp_path / "store", RECIPE, workers=1)
    before = (tmp_path / "store" / "cohort.tsv").read_text()
    some = cohort.exclude(["sub-001"], "no target")
    assert len(fill_store(some, tmp_path / "store", RECIPE).cohort) == 31
    assert (tmp_path / "store" / "cohort.tsv").read_text() == before


def test_a_scan_that_has_gone_is_left_out_when_asked_to(cohort_copy: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_copy)
    prepare(cohort, tmp_path / "store", RECIPE, workers=1)
    first_scan(cohort_copy).unlink()
    kept = prepare(cohort, tmp_path / "store", RECIPE, workers=1, exclude_broken=True).cohort
    assert [item.id for item in kept.exclusions] == ["sub-001_T1w"]


def test_intensities_that_a_store_cannot_hold_are_refused(
    write_scan: Callable[..., Path],
) -> None:
    data = np.random.default_rng(0).uniform(1, 1e6, (32, 36, 32)).astype(np.float32)
    path = write_scan("large.nii.gz", data, np.diag([6.0, 6, 6, 1]))
    with pytest.raises(ScanError, match=r"a store holds numbers up to 65504.*zscore"):
        prepare_scan(path, PrepareRecipe(spacing=6.0, shape=(32, 36, 32), intensity="none"))
    assert np.isfinite(prepare_scan(path, RECIPE).image).all()
