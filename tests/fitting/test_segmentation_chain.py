"""From scans to a diagnosis: what was planted comes out, and a stop costs nothing."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from sklearn.metrics import roc_auc_score

from braintune.cohort.read import read_cohort
from braintune.evaluation import intervals
from braintune.fitting.fit import fit
from braintune.fitting.segmentation.segmenter import Segmented, Segmenter
from braintune.recipe import Recipe
from conftest import Command
from fitting.blob_phantom import AFFINE, blob_values, drawn_blobs, write_blob_cohort

SUBJECTS, PLANTED = 40, 1.6


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


@pytest.fixture(scope="module")
def segmenting_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that finds both blobs."""
    blobs = write_blob_cohort(tmp_path_factory.mktemp("blobs"))
    out = tmp_path_factory.mktemp("runs") / "blobs"
    fit(Recipe.parse(blob_values()), read_cohort(blobs), out)
    return out


def planted_auc(effect: float) -> float:
    """The ROC-AUC of one normal variable that differs by so many standard deviations."""
    return float(stats.norm.cdf(effect / np.sqrt(2)))


def drawn_sizes(sick: np.ndarray, effect: float) -> np.ndarray:
    """Sizes of people of whom the sick have smaller ones, in a draw that shows what was planted."""
    for seed in range(1000):
        luck = np.random.default_rng(seed).standard_normal(len(sick))
        sizes = 1 + 0.1 * (luck - effect * sick)
        if abs(roc_auc_score(sick, -sizes) - planted_auc(effect)) < 0.01:
            return sizes
    raise AssertionError


def write_people(root: Path, effect: float) -> Path:
    """A BIDS cohort whose sick have a smaller front blob, by so many standard deviations."""
    sick = np.arange(SUBJECTS) % 2 == 1
    sizes = drawn_sizes(sick, effect)
    names = [f"sub-{number:02d}" for number in range(SUBJECTS)]
    for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
        path = root / name / "anat" / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(drawn_blobs(100 + number, size)[0], AFFINE), path)
    table = pd.DataFrame({"participant_id": names, "dx": np.where(sick, "AD", "CN"), "age": 70})
    table.to_csv(root / "participants.tsv", sep="\t", index=False)
    (root / "dataset_description.json").write_text('{"Name": "blobs", "BIDSVersion": "1.10.0"}')
    return root


def write_recipe(path: Path, run: Path, **diagnosis: object) -> Path:
    quick = {"inner_folds": 2, "importance_repeats": 1}
    values = {
        "segment": {"run": str(run), "scans": {"suffix": "T1w"}},
        "diagnose": {"target": "dx", "labels": ["CN", "AD"], **quick, **diagnosis},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("effect", [PLANTED, 0.0])
def test_a_chain_finds_what_was_planted(
    effect: float, segmenting_run: Path, tmp_path: Path, braintune: Command
) -> None:
    cohort = write_people(tmp_path / "bids", effect)
    recipe, out = write_recipe(tmp_path / "chain.yaml", segmenting_run), tmp_path / "out"
    outcome = braintune("chain", recipe, "--cohort", cohort, "--out", out, "--json")
    assert outcome.status == 0, outcome.err
    auc = json.loads(outcome.out)["diagnosis"]["metrics"]["auc"]
    assert auc["low"] < planted_auc(effect) < auc["high"]
    importance = json.loads((out / "diagnosis" / "importance.json").read_text())
    assert {entry["column"] for entry in importance} == {"front_mm3", "back_mm3"}
    for page in ("volumes/volumes.html", "diagnosis/report.html"):
        assert (out / page).is_file()
    other = braintune("chain", recipe, "--cohort", cohort, "--out", out, "--set", "diagnose.seed=1")
    assert (other.status, "another recipe" in other.err) == (2, True)


def test_a_stopped_chain_goes_on_where_it_was(
    segmenting_run: Path, tmp_path: Path, braintune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_people(tmp_path / "bids", PLANTED)
    recipe, out = write_recipe(tmp_path / "chain.yaml", segmenting_run), tmp_path / "out"
    words = ("chain", recipe, "--cohort", cohort, "--out", out)
    segmented: list[str] = []
    original = Segmenter.__call__

    def counted(self: Segmenter, path: Path) -> Segmented:
        if len(segmented) == 7:
            segmented.append("stop")
            raise KeyboardInterrupt
        segmented.append(path.name)
        return original(self, path)

    monkeypatch.setattr(Segmenter, "__call__", counted)
    assert braintune(*words).status != 0
    assert len(segmented) == 8
    assert braintune(*words).status == 0
    assert len(segmented) == SUBJECTS + 1
    assert len(set(segmented)) == SUBJECTS + 1
    assert len(list((out / "segmentations").rglob("*_dseg.nii.gz"))) == SUBJECTS
    assert not list((out / "segmentations").glob(".segmenting*"))
    before = (out / "diagnosis" / "metrics.json").read_bytes()
    assert braintune(*words).status == 0
    assert len(segmented) == SUBJECTS + 1
    assert (out / "diagnosis" / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("diagnose.target=nothing", "nothing"),
        ("diagnose.covariates=[education]", "education"),
        ("volumes.partial_volume=true", "segment.probabilities"),
        ("volumes.normalise=proportion", "intracranial"),
        ("segment.run=nowhere", "nowhere"),
        ("segmnt.run=nowhere", "segment"),
    ],
)
def test_what_a_chain_lacks_is_said_before_the_long_work(
    changes: str, message: str, segmenting_run: Path, tmp_path: Path, braintune: Command
) -> None:
    cohort = write_people(tmp_path / "bids", 0)
    recipe, out = write_recipe(tmp_path / "chain.yaml", segmenting_run), tmp_path / "out"
    outcome = braintune("chain", recipe, "--cohort", cohort, "--out", out, "--set", changes)
    assert outcome.status == 2
    assert message in outcome.err
    assert not out.exists()
