from pathlib import Path

import pytest

from braintune.cohort.read import parse_filters, read_cohort
from braintune.errors import InputError
from braintune.recipe import ScansRecipe


def table(tmp_path: Path, text: str, name: str = "cohort.tsv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_table_and_ids_stay_text(tmp_path: Path) -> None:
    path = table(tmp_path, "participant_id\tpath\tage\n001\timages/a.nii\t40\n002\t/b.nii\tn/a\n")
    cohort = read_cohort(path)
    assert cohort.scan_ids == ["001", "002"]
    assert cohort.table["path"].tolist() == [str(tmp_path / "images/a.nii"), "/b.nii"]
    assert cohort.table["age"].isna().tolist() == [False, True]


def test_csv_other_path_column_and_sessions(tmp_path: Path) -> None:
    path = table(
        tmp_path, "participant_id,session_id,file\na,1,x.nii\na,2,y.nii\nb,1,\n", "cohort.csv"
    )
    cohort = read_cohort(path, ScansRecipe(path="file"))
    assert cohort.scan_ids == ["a_1", "a_2"]
    assert cohort.n_subjects == 1
    assert [(e.id, e.reason) for e in cohort.exclusions] == [("b_1", "no image in column 'file'")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant\tpath\na\tx\n", "no column 'participant_id'. Did you mean 'participant'"),
        ("participant_id\tfile\na\tx\n", "no column 'path'"),
        ("participant_id\tpath\n\tx\n", "no participant_id in line 2"),
        ("participant_id\tpath\na\tx\na\ty\n", "lists a more than once. Add a 'session_id'"),
        ("participant_id\tpath\na\t\n", "holds no scans"),
        ("", "is not a table"),
        ('participant_id\tpath\n"a\tx\n', "is not a table|more than once|no scans|EOF"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_cohort(table(tmp_path, text))


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    cohort = read_cohort(table(tmp_path, "participant_id\tpath\tdiagnosis\na\tx\tAD\n"))
    with pytest.raises(InputError, match="no column 'diagnosys'. Did you mean 'diagnosis'"):
        cohort.column("diagnosys")


def test_excluding_takes_subjects_or_scans_and_notes_them(tmp_path: Path) -> None:
    text = "participant_id\tsession_id\tpath\na\t1\tx\na\t2\ty\nb\t1\tz\nc\t1\tw\n"
    cohort = read_cohort(table(tmp_path, text)).exclude(["a", "b_1"], "excluded by --exclude")
    assert cohort.scan_ids == ["c_1"]
    assert {e.id for e in cohort.exclusions} == {"a_1", "a_2", "b_1"}
    with pytest.raises(InputError, match="Cannot exclude d"):
        cohort.exclude(["d"], "")


def test_the_fingerprint_ignores_where_files_lie(tmp_path: Path) -> None:
    one = read_cohort(table(tmp_path, "participant_id\tpath\tage\na\tx\t1\n"))
    moved = read_cohort(table(tmp_path, "participant_id\tpath\tage\na\ty\t1\n", "b.tsv"))
    older = read_cohort(table(tmp_path, "participant_id\tpath\tage\na\tx\t2\n", "c.tsv"))
    assert one.fingerprint == moved.fingerprint != older.fingerprint


def test_other_files_are_no_cohorts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no cohort"):
        read_cohort(table(tmp_path, "x", "scan.nii.gz"))
    with pytest.raises(InputError, match="must look like desc=brain"):
        parse_filters(["desc"])
