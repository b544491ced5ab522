"""Which label map is whose: in the Decathlon layout, in BIDS and in tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from braintune.cohort.decathlon import read_decathlon
from braintune.cohort.label_maps import LABEL_PATH, with_label_maps
from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.recipe import ScansRecipe


def decathlon(folder: Path, training: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"training": training}))
    return folder


def entry(name: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_images_and_labels_of_the_decathlon_layout(tmp_path: Path) -> None:
    folder = decathlon(tmp_path / "task", [entry("a_01"), entry("a_02")])
    (folder / "split.tsv").write_text("file\tsplit\na_02.nii.gz\tval\na_01.nii.gz\ttrain\n")
    cohort = read_cohort(folder)
    assert cohort.scan_ids == ["a_01", "a_02"]
    assert cohort.table["split"].tolist() == ["train", "val"]
    assert cohort.table[LABEL_PATH].tolist() == [
        str(folder / f"labelsTr/{name}.nii.gz") for name in cohort.scan_ids
    ]


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ([{"image": "/etc/passwd", "label": "x"}], "outside of its folder"),
        ([{"image": "../x", "label": "x"}], "outside of its folder"),
        ([{"image": "link/x", "label": "x"}], "outside of its folder"),
        ([{"image": "x"}], "entry 1 of 'training' needs"),
        ([{"image": 3, "label": "x"}], "is no path"),
        ([], "lists no scans"),
        ({"a": 1}, "lists no scans"),
        ([entry("a"), entry("a")], "lists a more than once"),
    ],
)
def test_a_hostile_or_broken_description_is_refused(
    tmp_path: Path, training: Any, message: str
) -> None:
    folder = decathlon(tmp_path / "task", training)
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match=message):
        read_decathlon(folder)


def test_a_file_that_is_no_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(InputError, match="lists no scans"):
        read_cohort(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="is not a JSON file"):
        read_cohort(tmp_path)


def bids(folder: Path) -> Path:
    for sub in ("01", "02"):
        touch(folder / f"sub-{sub}/anat/sub-{sub}_desc-brain_T1w.nii.gz")
        touch(folder / f"sub-{sub}/anat/sub-{sub}_desc-tissue_dseg.nii.gz")
        touch(folder / f"sub-{sub}/anat/sub-{sub}_desc-hippocampus_dseg.nii.gz")
    (folder / "sub-02/anat/sub-02_desc-hippocampus_dseg.nii.gz").unlink()
    touch(folder / "sub-02/anat/sub-02_space-MNI_desc-hippocampus_dseg.nii.gz")
    return folder


def test_in_bids_the_label_map_lies_beside_its_image(tmp_path: Path) -> None:
    cohort = read_cohort(bids(tmp_path), ScansRecipe(desc="brain"))
    with pytest.raises(InputError, match="has several label maps"):
        with_label_maps(cohort, "dseg", None, LABEL_PATH, exclude_missing=False)
    with pytest.raises(InputError, match=r"1 of 2 scans have no label map(.|\n)*sub-02"):
        with_label_maps(cohort, "dseg", "hippocampus", LABEL_PATH, exclude_missing=False)
    kept = with_label_maps(cohort, "dseg", "hippocampus", LABEL_PATH, exclude_missing=True)
    assert [Path(path).name for path in kept.table[LABEL_PATH]] == [
        "sub-01_desc-hippocampus_dseg.nii.gz"
    ]
    assert [item.id for item in kept.exclusions] == ["sub-02_desc-brain_T1w"]
    assert "desc-hippocampus_dseg" in kept.exclusions[0].reason


def test_a_table_names_label_maps_beside_itself(tmp_path: Path) -> None:
    touch(tmp_path / "images/a.nii.gz")
    touch(tmp_path / "masks/a.nii.gz")
    (tmp_path / "table.csv").write_text(
        "participant_id,path,mask\na,images/a.nii.gz,masks/a.nii.gz\nb,images/a.nii.gz,\n"
    )
    cohort = read_cohort(tmp_path / "table.csv")
    kept = with_label_maps(cohort, "dseg", None, "mask", exclude_missing=True)
    assert kept.table[LABEL_PATH].tolist() == [str(tmp_path / "masks/a.nii.gz")]
    assert len(kept.exclusions) == 1
