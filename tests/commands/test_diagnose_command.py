import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from braintune import parallel
from braintune.cohort.tables import read_table
from braintune.evaluation import intervals
from conftest import Command
from volumetry.diagnosis_tables import planted_maps, planted_table, save_table


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


def test_from_label_maps_to_the_planted_auc_and_new_people(
    braintune: Command, tmp_path: Path
) -> None:
    """A left hippocampus that is smaller in AD by 1.5 standard deviations: ROC-AUC 0.86."""
    random = np.random.default_rng(4)
    sick = np.arange(80) % 2 == 1
    slices = np.clip(np.round(15 - 4.5 * sick + random.normal(0, 3, 80)), 1, 24).astype(int)
    maps = planted_maps(tmp_path / "seg", slices.tolist())
    people = tmp_path / "people.tsv"
    rows = [f"sub-{i:03d}\t{'AD' if s else 'CN'}\t{70 + i % 9}" for i, s in enumerate(sick)]
    people.write_text("participant_id\tdx\tage\n" + "\n".join(rows) + "\n")
    volumes, run = tmp_path / "volumes", tmp_path / "run"
    assert braintune("volumes", maps, "--out", volumes).status == 0
    words = ("diagnose", volumes, "--cohort", people, "--target", "dx", "--covariates", "age")
    quick = ("--set", "inner_folds=2", "--set", "importance_repeats=1")
    outcome = braintune(*words, *quick, "--out", run, "--json")
    assert outcome.status == 0, outcome.err
    auc = json.loads(outcome.out)["metrics"]["auc"]
    assert auc["low"] < stats.norm.cdf(1.5 / np.sqrt(2)) < auc["high"]
    for name in ("recipe.yaml", "splits.tsv", "predictions.tsv", "environment.json"):
        assert (run / name).is_file()
    page = (run / "report.html").read_text()
    assert "the same model on metadata only" in page
    assert "hippocampus_left_mm3" in page
    before = page
    assert braintune("report", run).status == 0
    assert (run / "report.html").read_text() == before
    new = planted_table(0, subjects=4).drop(columns=["dx"])
    new["hippocampus_left_mm3"] = [60.0 * 8, 60.0 * 4, 1e6, np.nan]
    new["participant_id"] = [f"new-{i}" for i in range(4)]
    table = save_table(new, tmp_path / "new.tsv")
    assert braintune("predict", run, table, "--out", tmp_path / "told").status == 2
    told = read_table(tmp_path / "told" / "desc-dx_predictions.tsv")
    assert told["predicted_dx"].iloc[:2].tolist() == ["CN", "AD"]
    assert "outside of the run's range" in told["warning"].iloc[2]
    assert told["problem"].iloc[3] == "has no volume"
    lacking = save_table(new.drop(columns=["age"]), tmp_path / "lacking.tsv")
    outcome = braintune("predict", run, lacking, "--out", tmp_path / "never")
    assert outcome.status == 2
    assert "no column 'age'" in outcome.err
    assert not (tmp_path / "never").exists()


def test_wrong_input_writes_nothing(braintune: Command, tmp_path: Path) -> None:
    table = save_table(planted_table(1, subjects=40), tmp_path / "table.tsv")
    out = tmp_path / "run"
    for words, message in [
        (("--target", "diagnosis"), "no column 'diagnosis'"),
        (("--target", "dx", "--labels", "CN,MCI"), "No scan has the dx 'MCI'"),
        (("--target", "dx", "--model", "magic"), "model"),
        (("--target", "dx", "--covariates", "agee"), "Did you mean 'age'"),
        (("--target", "dx", "--set", "inner_fold=3"), "inner_folds"),
        (("--target", "dx", "--folds", 30), "Only 20 subjects"),
    ]:
        outcome = braintune("diagnose", table, *words, "--out", out)
        assert outcome.status == 2, words
        assert message in outcome.err
        assert not out.exists()
