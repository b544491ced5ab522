import base64
import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braintune import parallel
from braintune.cohort.tables import read_table
from conftest import Command
from volumetry.diagnosis_tables import planted_maps


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)


def spoil(maps: Path, number: int, data: np.ndarray) -> None:
    name = f"sub-{number:03d}"
    nib.save(nib.Nifti1Image(data, np.eye(4)), maps / name / "anat" / f"{name}_dseg.nii.gz")


def test_a_cohort_becomes_a_table_and_a_page(braintune: Command, tmp_path: Path) -> None:
    maps = planted_maps(tmp_path / "seg", [6] * 11 + [14])
    people = tmp_path / "people.tsv"
    rows = [f"sub-{i:03d}\t{60 + i}\t{'FM'[i % 2]}" for i in range(12)]
    people.write_text("participant_id\tage\tsex\n" + "\n".join(rows) + "\n")
    out = tmp_path / "volumes"
    words = ("volumes", maps, "--cohort", people, "--icv", "labels:all", "--out", out)
    outcome = braintune(*words, "--normalise", "proportion", "--json")
    assert outcome.status == 0, outcome.err
    document = json.loads(outcome.out)
    table = read_table(out / "phenotype" / "volumes.tsv")
    assert len(document["volumes"]) == len(table) == 12
    assert table.columns[0] == "participant_id"
    # Six slices of 16 voxels of 2 mm³.
    assert table["hippocampus_left_mm3"].astype(float).tolist() == [192] * 11 + [448]
    assert float(table["hippocampus_left_proportion"].iloc[0]) == pytest.approx(0.5)
    assert "hippocampus_left: sides differ" in table["flags"].iloc[11]
    assert table["flags"].iloc[:11].isna().all()
    sidecar = json.loads((out / "phenotype" / "volumes.json").read_text())
    assert sidecar["hippocampus_left_mm3"]["Units"] == "mm3"
    assert sidecar["MeasurementToolMetadata"]["Normalisation"] == "proportion"
    page = (out / "volumes.html").read_text()
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    allowed = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{allowed}" in page or f"script-src 'sha256-{allowed}" in page
    assert "sub-011_dseg" in page
    assert page.count("data:image/png") == 1
    assert braintune(*words).status == 2


def test_what_fails_is_told_and_the_others_go_on(braintune: Command, tmp_path: Path) -> None:
    maps = planted_maps(tmp_path / "seg", [6] * 5)
    spoil(maps, 1, np.full((4, 4, 4), 1.5, np.float32))
    spoil(maps, 2, np.full((4, 4, 4), 7, np.uint8))
    spoil(maps, 3, np.zeros((4, 4, 4), np.uint8))
    out = tmp_path / "volumes"
    outcome = braintune("volumes", maps, "--out", out)
    assert outcome.status == 2
    failed = read_table(out / "failed.tsv").set_index("scan_id")["problem"]
    assert "whole numbers" in failed["sub-001_dseg"]
    assert "labels 7, which dseg.tsv does not declare" in failed["sub-002_dseg"]
    assert "nothing but background" in failed["sub-003_dseg"]
    assert len(read_table(out / "phenotype" / "volumes.tsv")) == 2


def test_wrong_input_writes_nothing(braintune: Command, tmp_path: Path) -> None:
    maps = planted_maps(tmp_path / "seg", [6, 6])
    people = tmp_path / "people.tsv"
    people.write_text("participant_id\tage\nA1\t60\n")
    copy = maps / "sub-000" / "anat" / "sub-000_desc-other_dseg.nii.gz"
    out = tmp_path / "volumes"
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((maps, "--cohort", people), "Write the ids alike"),
        ((maps, "--normalise", "residual"), "needs the intracranial volume"),
        ((maps, "--normalise", "shrink"), "Unknown normalisation"),
        ((maps, "--icv", "eTIV"), "column:NAME"),
        ((maps, "--icv", "labels:99"), "No map has the labels"),
        ((maps, "--filter", "desc=hippocampus"), "None of 2 label maps"),
        ((tmp_path / "nowhere",), "do not exist"),
        ((maps, "--partial-volume"), "no probability map"),
    ]
    for words, message in wrong:
        outcome = braintune("volumes", *words, "--out", out)
        assert outcome.status == 2
        assert message in outcome.err
        assert not out.exists()
    copy.write_bytes((maps / "sub-000" / "anat" / "sub-000_dseg.nii.gz").read_bytes())
    outcome = braintune("volumes", maps, "--out", out)
    assert "Two label maps are of one scan" in outcome.err
    assert braintune("volumes", maps, "--filter", "desc=other", "--out", out).status == 0
