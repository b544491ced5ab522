"""A finished run on a cohort that it has never seen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.fitting.external import evaluate
from braintune.run import RunFolder
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from conftest import Command


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Other simulated people, with ids of their own."""
    folder = tmp_path_factory.mktemp("external")
    simulate(folder / "bids", SimulationRecipe(subjects=24, sites=2, spacing=6, seed=5))
    table = read_cohort(folder / "bids").table.drop(columns=["scan_id", "session_id"])
    table["participant_id"] = "other-" + table["participant_id"]
    table.to_csv(folder / "table.tsv", sep="\t", index=False, na_rep="n/a")
    return read_cohort(folder / "table.tsv")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy, for evaluating writes into the ledger."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_scores_are_those_of_the_predictions_that_it_writes(
    run: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    document = evaluate(run, elsewhere, tmp_path / "out")
    assert document == json.loads((tmp_path / "out" / "metrics.json").read_text())
    table = read_table(tmp_path / "out" / "predictions.tsv")
    assert table["participant_id"].tolist() == elsewhere.table["participant_id"].tolist()
    auc = roc_auc_score(table["dx"] == "AD", table["p_AD"].astype(float))
    entry = document["metrics"]["auc"]
    assert entry["value"] == pytest.approx(auc)
    assert entry["low"] < entry["value"] < entry["high"]
    assert (document["scans"], document["subjects"], document["folds"]) == (24, 24, 1)
    for by in ("site", "sex"):
        counts = elsewhere.table[by].value_counts().to_dict()
        groups = document["subgroups"][by]
        assert {name: entry["subjects"] for name, entry in groups.items()} == counts
        assert {n for n, e in groups.items() if e["value"] is not None} <= {
            name for name, count in counts.items() if count >= 10
        }
    chances = table["p_AD"].astype(float)
    bias = document["calibration"]["bias"]["external"]
    assert bias["value"] == pytest.approx(chances.mean() - (table["dx"] == "AD").mean())
    assert bias["low"] < bias["value"] < bias["high"]


def test_baselines_see_the_table_of_the_run_alone(
    finished_age_run: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_age_run, tmp_path / "run"))
    document = evaluate(run, elsewhere, tmp_path / "out")
    known = read_table(RunFolder(run).cohort_file)["age"].astype(float)
    ages = elsewhere.table["age"].astype(float)
    expected = mean_absolute_error(ages, np.full(len(ages), known.mean()))
    found = document["baselines"]["constant"]["metrics"]["mae"]["value"]
    assert found == pytest.approx(expected)


def test_each_opening_is_in_the_ledger(run: Path, elsewhere: Cohort, tmp_path: Path) -> None:
    for name in ("once", "twice"):
        evaluate(run, elsewhere, tmp_path / name)
    events = [json.loads(line) for line in RunFolder(run).ledger_file.read_text().splitlines()]
    opened = [event for event in events if event["event"] == "external cohort opened"]
    assert [event["scans"] for event in opened] == [24, 24]


def test_subjects_and_scans_of_the_run_are_refused(
    run: Path, cohort_folder: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    own = read_cohort(cohort_folder)
    with pytest.raises(InputError, match="32 subjects of .* have ids of subjects whom the run"):
        evaluate(run, own, tmp_path / "out")
    disguised = own.table.assign(participant_id="new-" + own.table["participant_id"])
    with pytest.raises(InputError, match="equal to the voxel"):
        evaluate(run, Cohort(own.source, disguised.iloc[:3]), tmp_path / "out")
    unknown = elsewhere.table.assign(dx="PD")
    with pytest.raises(InputError, match="There are: PD"):
        evaluate(run, Cohort(elsewhere.source, unknown), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scans_that_cannot_count_are_left_out_with_the_reason(
    run: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    table = elsewhere.table.copy()
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    table.loc[3, "path"] = str(tmp_path / "broken.nii.gz")
    table.loc[5, "dx"] = pd.NA
    document = evaluate(run, Cohort(elsewhere.source, table), tmp_path / "out")
    assert document["scans"] == 22
    ids = table["scan_id"]
    assert {left["id"] for left in document["excluded"]} == {ids[3], ids[5]}


def test_the_command(run: Path, elsewhere: Cohort, tmp_path: Path, braintune: Command) -> None:
    outcome = braintune("evaluate", run, "--cohort", elsewhere.source, "--out", tmp_path / "out")
    assert outcome.status == 0
    assert "24 scans of 24 subjects whom the run has never seen" in outcome.out
    again = braintune("evaluate", run, "--cohort", elsewhere.source, "--out", tmp_path / "out")
    assert again.status == 2
    assert "is not empty" in again.err
