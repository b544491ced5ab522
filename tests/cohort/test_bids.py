import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.cohort.bids import parse_name
from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.recipe import ScansRecipe

LABELS = st.from_regex(re.compile(r"[A-Za-z0-9]+"), fullmatch=True)


def touch(root: Path, *names: str) -> None:
    for name in names:
        subject = name.split("_")[0]
        path = root / subject / "anat" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@given(st.lists(st.tuples(LABELS, LABELS), max_size=4), LABELS, LABELS)
def test_names_are_parsed_into_what_they_were_built_from(
    pairs: list[tuple[str, str]], subject: str, suffix: str
) -> None:
    entities = {key: value for key, value in pairs if key not in {"sub", "suffix"}}
    middle = "".join(f"_{key}-{value}" for key, value in entities.items())
    parsed = parse_name(f"sub-{subject}{middle}_{suffix}.nii.gz")
    assert parsed == {"sub": subject, **entities, "suffix": suffix}


@pytest.mark.parametrize("name", ["scan.nii.gz", "sub-01_T1w.json", "sub-_T1w.nii", "sub-01.nii"])
def test_other_names_are_no_bids_images(name: str) -> None:
    assert parse_name(name) is None


def test_filters_choose_scans(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_desc-brain_T1w", "sub-01_desc-raw_T1w", "sub-02_desc-brain_T1w")
    touch(tmp_path, "sub-01_T2w", "sub-01_ses-b_desc-brain_T1w")
    cohort = read_cohort(tmp_path, ScansRecipe(desc="brain"))
    assert cohort.scan_ids == [
        "sub-01_desc-brain_T1w",
        "sub-01_ses-b_desc-brain_T1w",
        "sub-02_desc-brain_T1w",
    ]
    one = read_cohort(tmp_path, ScansRecipe(desc="brain", session="ses-b"))
    assert one.table["session_id"].tolist() == ["ses-b"]


def test_phase_directions_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_dir-AP_dwi", "sub-01_dir-PA_dwi")
    assert len(read_cohort(tmp_path, ScansRecipe(suffix="dwi"))) == 2
    chosen = read_cohort(tmp_path, ScansRecipe(suffix="dwi", dir="AP"))
    assert chosen.scan_ids == ["sub-01_dir-AP_dwi"]


def test_several_versions_of_a_scan_must_be_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_desc-brain_T1w", "sub-01_desc-raw_T1w")
    with pytest.raises(InputError, match="several versions of the same scan: desc-brain, desc-raw"):
        read_cohort(tmp_path)


def test_nothing_found_says_what_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_desc-brain_T1w")
    with pytest.raises(InputError, match=r"matches suffix=T2w.*suffix=T1w desc=brain \(1\)"):
        read_cohort(tmp_path, ScansRecipe(suffix="T2w"))


def test_tables_are_joined_by_subject_and_session(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_ses-1_T1w")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\n01\t50\tF\nsub-02\tn/a\tM\nsub-03\t70\tM\n"
    )
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text("session_id\tage\n1\t50\nses-2\t52\n")
    cohort = read_cohort(tmp_path)
    assert cohort.table["age"].fillna("n/a").tolist() == ["50", "52", "n/a"]
    assert cohort.table["sex"].tolist() == ["F", "F", "M"]
    assert [(e.id, e.reason) for e in cohort.exclusions] == [
        ("sub-03", "in participants.tsv, but no scan matches suffix=T1w")
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("participant_id\tage\n01\t3\n01\t4\n", "several rows for sub-01"),
        ("subject\tage\n01\t3\n", "no column 'participant_id'"),
        ("participant_id\tage\tage\n01\t3\t4\n", "two columns named age"),
    ],
)
def test_wrong_participants_tables_are_refused(tmp_path: Path, table: str, message: str) -> None:
    touch(tmp_path, "sub-01_T1w")
    (tmp_path / "participants.tsv").write_text(table)
    with pytest.raises(InputError, match=message):
        read_cohort(tmp_path)


def test_a_folder_without_subjects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sub-"):
        read_cohort(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_cohort(tmp_path / "none")
