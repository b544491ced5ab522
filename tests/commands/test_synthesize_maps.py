import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from conftest import Command
from synthesis.labelmap_phantom import NAMES, write_phantoms

SMALL = ["--set", "spacing=6", "--set", "shape=[28, 32, 28]", "--workers", "1"]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("maps"), spacing=6.0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_writes_a_cohort_with_all_that_is_known(
    braintune: Command, maps: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scans"
    done = braintune("synthesize", "maps", str(maps), str(out), "--count", "3", *SMALL, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["scans"] == 3
    cohort = read_cohort(out)
    assert len(cohort) == 3
    assert {"age", "sex", "disease", "hippocampus_mm3", "blob_mm3"} <= set(cohort.covariates)
    assert read_table(out / "dseg.tsv").set_index("index")["name"].to_dict() == {
        str(value): name for value, name in NAMES.items()
    }
    rows = read_table(out / "participants.tsv")
    assert rows["age"].astype(float).between(20, 85).all()
    for _, row in rows.iterrows():
        stem = out / str(row["participant_id"]) / "anat" / str(row["participant_id"])
        labels, image = (nib.load(f"{stem}_{suffix}.nii.gz") for suffix in ("dseg", "T1w"))
        np.testing.assert_array_equal(labels.affine, image.affine)
        counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=12) * 216.0
        assert float(row["blob_mm3"]) == counts[11]
        assert float(row["hippocampus_mm3"]) == counts[9] + counts[10]
        assert np.asarray(image.dataobj).max() > 500


def test_it_goes_on_where_it_was_stopped(braintune: Command, maps: Path, tmp_path: Path) -> None:
    def made(name: str, count: int, *more: str) -> Path:
        words = ["synthesize", "maps", str(maps), str(tmp_path / name), "--count", str(count)]
        done = braintune(*words, *SMALL, *more)
        assert done.status == 0, done.err
        return tmp_path / name

    whole = files_of(made("whole", 4))
    part = made("part", 2)
    # A scan that was begun: its row is missing, its image half there.
    (part / "sourcedata" / "scans" / "sub-000002.json").unlink()
    (part / "sub-000002" / "anat" / "sub-000002_T1w.nii.gz").write_bytes(b"half")
    untouched = (part / "sub-000001" / "anat" / "sub-000001_T1w.nii.gz").stat().st_mtime_ns
    assert files_of(made("part", 4)) == whole
    again = (part / "sub-000001" / "anat" / "sub-000001_T1w.nii.gz").stat().st_mtime_ns
    assert again == untouched


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "effects={lesion: {change: 0.3}}"], "no structure 'lesion'"),
        (["--set", "effects={hippocampus: {change: -0.9}}"], "greater than -0.8"),
        (["--set", "contrst=any"], "Did you mean 'contrast'"),
        (["--set", "scanner.noise=-1"], "scanner.noise"),
        (["--set", "people={age: years}"], "participants.tsv does not exist"),
        (["--count", "0"], "--count must be from 1"),
        (["--set", "shape=[2, 2, 2]"], "from 8 to"),
    ],
)
def test_bad_options_write_nothing(
    braintune: Command, maps: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    out = tmp_path / "scans"
    done = braintune("synthesize", "maps", str(maps), str(out), "--count", "2", *SMALL, *words)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert not out.exists()


def test_folders_of_something_else_are_left_alone(
    braintune: Command, maps: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    words = ["synthesize", "maps", str(maps)]
    done = braintune(*words, str(tmp_path), "--count", "1", *SMALL)
    assert (done.status, "is not empty" in done.err) == (2, True)
    out = tmp_path / "scans"
    assert braintune(*words, str(out), "--count", "1", *SMALL).status == 0
    done = braintune(*words, str(out), "--count", "1", *SMALL, "--seed", "1")
    assert (done.status, "other options" in done.err) == (2, True)
