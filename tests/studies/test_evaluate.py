"""A finished run on a cohort that it has never seen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from braintune import parallel
from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.evaluation import intervals
from braintune.fitting.model import open_model
from braintune.reporting.evaluation_report import write_evaluation_report
from braintune.run import RunFolder
from braintune.studies.evaluate import Questions, evaluate
from braintune.studies.robustness import robustness
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from braintune.tasks.task import Scored
from conftest import Command


@pytest.fixture(autouse=True)
def _few_resamples_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 100)
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)


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


def test_groups_are_those_of_the_table(run: Path, elsewhere: Cohort, tmp_path: Path) -> None:
    """Each group's score is that of its own rows; small ones are named and not scored."""
    document = evaluate(run, elsewhere, tmp_path / "out", questions=Questions(age_bands=[30, 70]))
    table = read_table(tmp_path / "out" / "predictions.tsv")
    people = elsewhere.table.assign(p=table["p_AD"].astype(float))
    ages = people["age"].astype(float)
    people["age band"] = np.select(
        [ages < 30, ages < 70], ["under 30", "30 to under 70"], "70 and over"
    )
    for name in ("site", "sex", "age band"):
        found = document["subgroups"][name]
        counts = people[name].value_counts()
        assert set(found["groups"]) | set(found["too_small"]) == set(counts.index)
        for group, entry in found["groups"].items():
            rows = people[people[name] == group]
            expected = roc_auc_score(rows["dx"] == "AD", rows["p"])
            assert entry["metrics"]["auc"]["value"] == pytest.approx(expected)
            assert entry["subjects"] == counts[group] >= 10
    assert document["subgroups"]["age band"]["too_small"]["under 30"]["subjects"] < 10


def test_home_stands_beside_it(run: Path, elsewhere: Cohort, tmp_path: Path) -> None:
    """Calibration and decisions of the run's own test rows, from its predictions."""
    document = evaluate(
        run, elsewhere, tmp_path / "out", questions=Questions(["sensitivity=0.8", "0.5"])
    )
    own = read_table(RunFolder(run).predictions_file)
    positive = (own["dx"] == "AD").to_numpy()
    gap = own["p_AD"].astype(float).mean() - positive.mean()
    calibration = document["calibration"]["metrics"]
    assert calibration["in_the_large"]["home"]["value"] == pytest.approx(gap)
    metrics = json.loads(RunFolder(run).metrics_file.read_text())["metrics"]
    assert calibration["brier"]["home"]["value"] == pytest.approx(metrics["brier"]["value"])
    drift = document["metrics"]["auc"]["value"] - metrics["auc"]["value"]
    assert document["drift"]["value"] == pytest.approx(drift)
    asked, half = document["operating_points"]
    assert half["threshold"] == 0.5
    assert half["home"]["sensitivity"]["value"] == pytest.approx(metrics["sensitivity"]["value"])
    thresholds = []
    for number in range(2):
        rows = read_table(RunFolder(run).fold_folder(number) / "predictions.tsv")
        rows = rows[(rows["part"] == "validation") & (rows["dx"] == "AD")]
        found = (rows["p_AD"].astype(float) >= asked["folds"][number]).mean()
        assert found >= 0.8
        thresholds.append(asked["folds"][number])
    assert asked["threshold"] == pytest.approx(np.mean(thresholds))
    table = read_table(tmp_path / "out" / "predictions.tsv")
    told = table["p_AD"].astype(float) >= asked["threshold"]
    assert asked["here"]["ppv"]["value"] == pytest.approx((table["dx"] == "AD")[told].mean())


def test_the_site_alone_is_an_upper_bound(
    finished_age_run: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    """Where the site tells the age, a model of the site does; within sites it knows nothing."""
    run = Path(shutil.copytree(finished_age_run, tmp_path / "run"))
    table = elsewhere.table.assign(
        site=np.where(elsewhere.table["age"].astype(float) < 50, "young", "old")
    )
    document = evaluate(run, Cohort(elsewhere.source, table), tmp_path / "out")
    ages = table["age"].astype(float)
    bound = document["baselines"]["site_bound"]["metrics"]["r2"]["value"]
    between = 1 - ages.groupby(table["site"]).var(ddof=0).mul(
        table["site"].value_counts()
    ).sum() / (len(ages) * ages.var(ddof=0))
    assert bound == pytest.approx(between, abs=0.05)
    assert set(document["within_sites"]) == {"r"}
    assert document["operating_points"] == []


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        (Questions(["sensitivity=2"]), "Unknown operating point 'sensitivity=2'"),
        (Questions(["best"]), "Give youden"),
        (Questions(age_bands=[60, 40]), "Age bands must rise"),
    ],
)
def test_what_can_not_be_asked(
    run: Path, elsewhere: Cohort, tmp_path: Path, questions: Questions, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(run, elsewhere, tmp_path / "out", questions=questions)
    assert not (tmp_path / "out").exists()


def test_a_number_has_no_operating_point(
    finished_age_run: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="age has no classes"):
        evaluate(finished_age_run, elsewhere, tmp_path / "out", questions=Questions(["youden"]))


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
    page = (tmp_path / "out" / "evaluation.html").read_text()
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for section in ("groups", "calibration", "points", "who"):
        assert f'<h2 id="{section}">' in page
    assert f"{written['metrics']['auc']['value']:.3f}" in page
    outcome = braintune("report", tmp_path / "out", "--json")
    assert json.loads(outcome.out) == {"report": str(tmp_path / "out" / "evaluation.html")}
    assert (tmp_path / "out" / "evaluation.html").read_text() == page


def test_what_comes_from_files_is_escaped(run: Path, elsewhere: Cohort, tmp_path: Path) -> None:
    named = elsewhere.table.assign(site="<script>alert(1)</script>")
    evaluate(run, Cohort(elsewhere.source, named), tmp_path / "out")
    page = write_evaluation_report(tmp_path / "out").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_worse_scans_score_worse_and_the_same_twice(
    finished_age_run: Path, elsewhere: Cohort, tmp_path: Path
) -> None:
    """A small share of the work of a whole sweep, scored by hand."""
    model = open_model(finished_age_run)
    few = Cohort(elsewhere.source, elsewhere.table.iloc[:6].reset_index(drop=True))
    truth = few.table["age"].astype(float).to_numpy()
    scored = Scored(truth, truth[:, None], truth, np.zeros(6, int), np.arange(6))
    first, second = (robustness(model, few, scored) for _ in range(2))
    assert first == second
    assert set(first["kinds"]) >= {"noise", "blur", "rotation", "missing_slices"}
    for kind in first["kinds"].values():
        amounts = [level["amount"] for level in kind["levels"]]
        assert len(amounts) == 5
        assert amounts == sorted(set(amounts))
        for level in kind["levels"]:
            # Against predictions that are the truth itself, all of the error is the change.
            assert level["change"]["value"] == pytest.approx(level["value"])
