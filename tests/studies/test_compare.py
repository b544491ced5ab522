"""A study from its file to its table, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.studies import work
from braintune.studies.recipe import StudyRecipe
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from conftest import Command
from studies.small_study import run, study_values, table


def results(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in out.glob("fits/*/*/result.json")]


def test_every_choice_has_the_same_splits_and_the_same_budget(finished_study: Path) -> None:
    found = results(finished_study)
    document = json.loads((finished_study / "study.json").read_text())
    assert len(found) == document["fits"] == 12
    (context,) = document["contexts"]
    assert {result["splits"] for result in found} == {context["splits"]}
    tried = {(r["choice"], r["fold"], r["seed"], r["settings"]["train.lr"]) for r in found}
    for choice in ("full", "probe"):
        for fold in (1, 2):
            of_cell = [t for t in tried if t[:2] == (choice, fold)]
            assert {t[3] for t in of_cell if t[2] == 0} == {1e-3, 1e-2}
            # The second seed is fitted with what was best on validation rows, and with that alone.
            losses = {
                r["settings"]["train.lr"]: r["validation_loss"]
                for r in found
                if (r["choice"], r["fold"], r["seed"]) == (choice, fold, 0)
            }
            assert [t[3] for t in of_cell if t[2] == 1] == [min(losses, key=losses.__getitem__)]


def test_trivial_baselines_and_scratch_are_always_there(finished_study: Path) -> None:
    document = json.loads((finished_study / "study.json").read_text())
    (context,) = document["contexts"]
    names = [entry["name"] for entry in context["entries"]]
    assert {"full", "probe", "the mean", "sex only", "brain volume only", "site only"} == set(names)
    # Random weights under full training are from scratch, by whatever name.
    assert document["baseline"] == "full"
    assert context["entries"][names.index("full")]["against_baseline"] is None
    assert context["sentences"]
    assert (finished_study / "leaderboard.tsv").exists()


def test_costs_stand_beside_scores(finished_study: Path) -> None:
    (context,) = json.loads((finished_study / "study.json").read_text())["contexts"]
    costs = {entry["name"]: entry for entry in context["entries"] if not entry["trivial"]}
    assert costs["probe"]["trainable"] == 9 < costs["full"]["trainable"]
    assert all(entry["seconds"] > 0 and entry["peak_mb"] > 50 for entry in costs.values())


def test_the_second_time_nothing_is_fitted(
    finished_study: Path, cohort_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(finished_study)
    monkeypatch.setattr(work, "_fit", None)
    run(StudyRecipe.parse(study_values()), cohort_folder, finished_study)
    pd.testing.assert_frame_equal(table(finished_study), before)


def test_other_splits_are_refused(finished_study: Path, cohort_folder: Path) -> None:
    values = study_values()
    values["base"]["seed"] = 5
    before = (finished_study / "study.json").read_bytes()
    with pytest.raises(InputError, match="other splits of cohort_age_1"):
        run(StudyRecipe.parse(values), cohort_folder, finished_study)
    assert (finished_study / "study.json").read_bytes() == before


def test_a_study_that_was_killed_ends_with_the_same_table(
    finished_study: Path, cohort_folder: Path, study_file, tmp_path: Path
) -> None:
    """``kill -9`` in the middle; the next session does the rest."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "braintune", "compare", str(study_file())]
    command += ["--cohort", str(cohort_folder), "--out", str(out)]
    process = subprocess.Popen([*command, "--workers", "1", "--accelerator", "cpu"])
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob("fits/*/*/result.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 3 <= len(results(out)) < 12
    assert not (out / "study.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("fits/*/*/result.json")}
    run(StudyRecipe.parse(study_values()), cohort_folder, out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    pd.testing.assert_frame_equal(table(out), table(finished_study), atol=1e-3)


def test_a_killed_process_costs_one_fit_again(
    finished_study: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hurt"

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while not results(out) and time.monotonic() < deadline:
            time.sleep(0.05)
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True
        )
        workers = [line.split()[0] for line in listed.stdout.splitlines() if "spawn_main" in line]
        os.kill(int(workers[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    document = run(StudyRecipe.parse(study_values()), cohort_folder, out, workers=2)
    killer.join()
    assert document["killed"] == 1
    assert document["complete"]
    pd.testing.assert_frame_equal(table(out), table(finished_study), atol=1e-3)


def test_a_failed_fit_is_told_and_the_others_are_kept(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate that no network survives, in a study without a search."""
    methods = {"probe": {"adapter.name": "probe"}, "wild": {"train": {"lr": 1e30, "clip": None}}}
    study = StudyRecipe.parse(study_values(methods=methods, tune=None, seeds=[0]))
    out = tmp_path / "failed"
    document = run(study, cohort_folder, out)
    (context,) = document["contexts"]
    (left,) = context["incomplete"]
    assert (left["name"], left["done"], left["wanted"]) == ("wild", 0, 2)
    assert "no number" in left["reason"]
    assert {"probe", "scratch"} <= {entry["name"] for entry in context["entries"]}
    assert not document["complete"]
    # What failed stays failed, until one asks to try again.
    monkeypatch.setattr(work, "_fit", None)
    assert (
        run(study, cohort_folder, out)["contexts"][0]["incomplete"][0]["reason"] == left["reason"]
    )
    again = run(study, cohort_folder, out, retry=True)
    assert "not callable" in again["contexts"][0]["incomplete"][0]["reason"]


def test_the_command_says_what_the_files_say(
    finished_study: Path, cohort_folder: Path, study_file, braintune: Command
) -> None:
    path = study_file()
    shared = [path, "--cohort", cohort_folder, "--out", finished_study, "--workers", 1]
    outcome = braintune("compare", *shared, "--json")
    assert outcome.status == 0
    document = json.loads(outcome.out)
    assert (
        document["contexts"] == json.loads((finished_study / "study.json").read_text())["contexts"]
    )
    text = braintune("compare", *shared).out
    assert document["contexts"][0]["sentences"][0] in text
    page = (finished_study / "study.html").read_text()
    assert "brain volume only" in page
    assert page.count("<svg") == 4
    (finished_study / "study.html").unlink()
    assert braintune("report", finished_study).status == 0
    assert (finished_study / "study.html").read_text() == page


def test_optuna_asks_for_the_same_trials_after_a_break(cohort_folder: Path, tmp_path: Path) -> None:
    tune = {
        "keys": {"train.lr": {"low": 1e-4, "high": 1e-1}},
        "by": "optuna",
        "trials": 3,
        "halving": 2,
    }
    base = study_values()["base"]
    base["train"]["epochs"] = 2
    study = StudyRecipe.parse(study_values(tune=tune, base=base, seeds=[0], methods={}))
    run(study, cohort_folder, tmp_path / "whole")
    whole = {r["id"]: r for r in results(tmp_path / "whole")}
    assert len(whole) == 6
    assert len({r["settings"]["train.lr"] for r in whole.values() if r["fold"] == 1}) == 3
    assert any(r["complete"] for r in whole.values())
    # Take the last trial of each fold away, and the table: the same ones are asked for again.
    for path in sorted((tmp_path / "whole").glob("fits/*/*/result.json"), key=os.path.getmtime)[3:]:
        path.unlink()
    run(study, cohort_folder, tmp_path / "whole")
    again = {r["id"]: r for r in results(tmp_path / "whole")}
    assert {i: r["curve"] for i, r in again.items()} == {i: r["curve"] for i, r in whole.items()}


def renamed(cohort: Cohort, folder: Path, prefix: str) -> Path:
    """A cohort as a table whose subjects have other ids."""
    table = cohort.table.assign(participant_id=prefix + cohort.table["participant_id"])
    path = folder / f"{prefix}.tsv"
    table.drop(columns=["scan_id", "session_id"]).to_csv(path, sep="\t", index=False)
    return path


def test_external_cohorts_are_predicted_by_every_network(
    cohort_folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    simulate(elsewhere, SimulationRecipe(subjects=12, sites=2, spacing=6, seed=77))
    place = renamed(read_cohort(elsewhere), tmp_path, "other-")
    methods = {"probe": {"adapter.name": "probe"}}
    values = study_values(methods=methods, tune=None, external={"there": str(place)})
    out = tmp_path / "study"
    document = run(StudyRecipe.parse(values), cohort_folder, out)
    inside, outside = document["contexts"]
    assert (inside["external"], outside["external"]) == (None, "there")
    assert (outside["subjects"], outside["folds"], outside["networks"]) == (12, 1, 4)
    assert outside["test"] == "paired bootstrap over subjects"
    names = {entry["name"] for entry in outside["entries"]}
    assert {"probe", "scratch", "the mean", "sex only"} <= names
    # What a choice says of the others is the mean error of its four networks, in the table's order.
    (probe,) = [entry for entry in outside["entries"] if entry["name"] == "probe"]
    ages = pd.read_csv(place, sep="\t")["age"].to_numpy()
    errors = []
    for result in results(out):
        if result["choice"] == "probe":
            test = json.loads(
                (out / "fits" / result["id"][:2] / result["id"] / "test.json").read_text()
            )
            predicted = np.array(test["external"]["there"])[:, 0]
            errors.append(np.abs(predicted - ages).mean())
    assert probe["value"] == pytest.approx(np.mean(errors))


def test_who_is_learnt_from_is_not_external(cohort_folder: Path, tmp_path: Path) -> None:
    """By id at once; under another id, once the voxels are known; nothing is fitted."""
    out = tmp_path / "study"
    study = StudyRecipe.parse(study_values(external={"there": str(cohort_folder)}))
    with pytest.raises(InputError, match="32 subjects of the external cohort 'there' have ids"):
        run(study, cohort_folder, out)
    hidden = renamed(read_cohort(cohort_folder), tmp_path, "new-")
    study = StudyRecipe.parse(study_values(external={"there": str(hidden)}))
    with pytest.raises(InputError, match="equal to the voxel.*which is learnt from"):
        run(study, cohort_folder, out)
    assert not out.exists()
