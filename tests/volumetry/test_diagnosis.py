"""Nested cross-validation of tables: planted effects, chance, and nothing learnt from test rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braintune.errors import BraintuneError, InputError
from braintune.evaluation import intervals
from braintune.fitting.diagnosis import Diagnosis, diagnose
from braintune.fitting.diagnosis_plan import DiagnosisPlan, plan_diagnosis, read_rows
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.fitting.diagnosis_run import open_diagnosis, write_diagnosis
from braintune.volumetry.classifiers import CLASSIFIERS, HeadSizeRule, make_steps
from braintune.volumetry.searching import Learner, fit_candidate, search
from volumetry.diagnosis_tables import planted_table, save_table


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


def plan_of(table: pd.DataFrame, folder: Path, **recipe: object) -> DiagnosisPlan:
    rows = read_rows(save_table(table, folder / "table.tsv"))
    values = {"target": "dx", "labels": ["CN", "AD"], "inner_folds": 3, "importance_repeats": 2}
    return plan_diagnosis(DiagnosisRecipe.parse({**values, **recipe}), rows)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    """A planted effect of 1.2 standard deviations, ROC-AUC 0.80."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 100)
        table = planted_table(1.2)
        plan = plan_of(table, tmp_path_factory.mktemp("planted"), covariates=["age", "sex"])
        return diagnose(plan)


def test_a_planted_auc_lies_in_its_interval(found: Diagnosis) -> None:
    truth = stats.norm.cdf(1.2 / np.sqrt(2))
    auc = found.metrics["metrics"]["auc"]
    assert truth == pytest.approx(0.80, abs=0.01)
    assert auc["low"] < truth < auc["high"]
    assert auc["low"] > 0.5
    assert found.importance[0]["column"] == "hippocampus_left_mm3"
    assert found.importance[0]["log_loss_rise"]["low"] > 0


def test_what_imaging_adds_is_seen(found: Diagnosis) -> None:
    baselines = found.metrics["baselines"]
    assert {"constant", "age_sex", "volumes", "metadata"} <= set(baselines)
    gain = baselines["metadata"]["network_minus_baseline"]
    assert gain["low"] > 0
    assert gain["p_holm"] >= gain["p"]
    added = baselines["volumes"]["network_minus_baseline"]
    assert added["low"] < 0.02
    assert baselines["metadata"]["metrics"]["auc"]["value"] < 0.65


def test_no_effect_is_chance(tmp_path: Path) -> None:
    auc = diagnose(plan_of(planted_table(0, seed=3), tmp_path)).metrics["metrics"]["auc"]
    assert auc["low"] < 0.5 < auc["high"]


def test_test_rows_have_no_say(found: Diagnosis) -> None:
    """Other targets and volumes of a fold's test rows leave its model as it was."""
    plan = found.plan
    fold = plan.folds[0]
    truth, frame = plan.truth.copy(), plan.frame.copy()
    truth[fold.test] = 1 - truth[fold.test]
    volume = frame["hippocampus_left_mm3"].to_numpy().copy()
    volume[fold.test] *= 100
    frame["hippocampus_left_mm3"] = volume
    changed = replace(plan, truth=truth, frame=frame, folds=[fold])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("braintune.fitting.diagnosis.summarise", lambda *_: {})
        patch.setattr("braintune.fitting.diagnosis.permutation_importance", lambda *_: [])
        model = diagnose(changed).models[0]
    rows = plan.frame.iloc[fold.train]
    columns = ["hippocampus_left_mm3", "putamen_left_mm3", "age", "sex"]
    before = found.models[0].probabilities(rows[columns])
    assert np.array_equal(before, model.probabilities(rows[columns]))


def test_a_run_fits_its_models_again(found: Diagnosis, tmp_path: Path) -> None:
    run = write_diagnosis(found, tmp_path / "run", 1.0)
    model = open_diagnosis(run.path)
    rows = found.plan.frame[list(found.plan.frame.columns)]
    for before, after in zip(found.models, model.models, strict=True):
        columns = ["hippocampus_left_mm3", "putamen_left_mm3", "age", "sex"]
        assert np.array_equal(
            before.probabilities(rows[columns]), after.probabilities(rows[columns])
        )
    text = run.predictions_file.read_text()
    run.predictions_file.write_text(text.replace("\t0.", "\t0.0"))
    with pytest.raises(BraintuneError, match="differ from the run's"):
        open_diagnosis(run.path)
    run.predictions_file.write_text(text)
    run.cohort_file.write_text(run.cohort_file.read_text().replace("\t3", "\t4", 1))
    with pytest.raises(InputError, match="is not what the run wrote"):
        open_diagnosis(run.path)


def test_steps_are_those_of_scikit_learn() -> None:
    """Median, scale and penalised regression by hand, on numbers with gaps."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(60, 2)), columns=["a", "b"])
    frame.loc[::7, "a"] = np.nan
    truth = (random.random(60) < 0.5).astype(np.int64)
    kind = CLASSIFIERS["logistic"]
    learner = Learner(kind, lambda: make_steps(["a", "b"], [], HeadSizeRule()), 0)
    hand = np.arange(60) % 3
    fitted = fit_candidate(learner, frame, truth, hand, {"C": 0.1})
    reference = make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=0.1)
    ).fit(frame, truth)
    assert fitted.probabilities(frame) == pytest.approx(reference.predict_proba(frame), abs=1e-6)


def test_head_size_is_fitted_on_training_rows_of_the_reference() -> None:
    icv = np.array([1.0, 1.2, 1.4, 1.6, 1.3]) * 1e6
    frame = pd.DataFrame({"v_mm3": 0.002 * icv, "icv": icv})
    frame.loc[4, "v_mm3"] += 700
    rule = HeadSizeRule("residual", ("v_mm3",), "icv", reference=0)
    steps = make_steps(["v_mm3"], [], rule)
    head = steps[0].fit(frame, np.array([0, 0, 0, 0, 1]))
    left = head.transform(frame)["v_mm3"].to_numpy()
    assert left == pytest.approx([2600, 2600, 2600, 2600, 3300])
    assert head.residual_.rows == 4


@pytest.mark.parametrize("name", ["svm", "forest", "boosting"])
def test_classifiers_learn_three_classes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = CLASSIFIERS[name]
    kind = replace(kind, candidates=kind.candidates[-1:])
    random = np.random.default_rng(1)
    truth = np.arange(90) % 3
    frame = pd.DataFrame({"a": truth * 3 + random.normal(size=90), "b": ["x", "y", "n/a"] * 30})
    frame["b"] = frame["b"].astype(object)
    learner = Learner(kind, lambda: make_steps(["a"], ["b"], HeadSizeRule()), 0)
    fitted = search(learner, frame.iloc[:60], truth[:60], np.arange(60) // 3 % 3)
    told = fitted.probabilities(frame.iloc[60:].assign(b="never seen"))
    assert told.sum(axis=1) == pytest.approx(np.ones(30))
    assert (fitted.probabilities(frame.iloc[60:]).argmax(axis=1) == truth[60:]).mean() > 0.85


@pytest.mark.parametrize(
    ("change", "recipe", "words"),
    [
        ({}, {"target": "diagnosis"}, "no column 'diagnosis'"),
        ({"dx": "CN"}, {"labels": None}, "one class only"),
        ({"dx": ["CN"] * 117 + ["AD"] * 3}, {}, "Only 3 subjects"),
        ({"scanner": "A"}, {"covariates": ["scanner"]}, "'scanner' is constant"),
        ({"code": [f"x{i}" for i in range(120)]}, {"covariates": ["code"]}, "is an identifier"),
        ({"group": np.tile([7, 8], 60)}, {"covariates": ["group"]}, "equals the target"),
        ({}, {"covariates": ["dx"]}, "is the target"),
        ({}, {"volumes": ["hipocampus_left_mm3"]}, "Did you mean 'hippocampus_left_mm3'"),
        ({"a_residual_mm3": np.arange(120.0)}, {"volumes": ["a_*"]}, "fitted on training rows"),
        ({}, {"normalise": "residual"}, "needs the column of the intracranial volume"),
        ({}, {"normalise": "proportion", "icv": "eTIV"}, "no column 'eTIV'"),
    ],
)
def test_tables_that_cannot_be_learnt_from(
    change: dict[str, object], recipe: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        plan_of(planted_table(1).assign(**change), tmp_path, **recipe)


def test_ids_must_match_a_volume(tmp_path: Path) -> None:
    table = save_table(planted_table(1).drop(columns=["dx"]), tmp_path / "volumes.tsv")
    people = tmp_path / "people.tsv"
    people.write_text("participant_id\tdx\n001\tCN\n002\tAD\n")
    with pytest.raises(InputError, match=r"has a volume: it has 001, 002; the volumes are of sub-"):
        read_rows(table, people)
    people.write_text("participant_id\tdx\nsub-001\tCN\nsub-999\tAD\n")
    rows = read_rows(table, people)
    assert [(e.id, e.reason) for e in rows.exclusions] == [
        ("sub-999", "in people.tsv, but without volumes")
    ]


def test_rows_without_volume_or_class_are_told(tmp_path: Path) -> None:
    table = planted_table(1)
    table.loc[0, ["hippocampus_left_mm3", "putamen_left_mm3"]] = np.nan
    table.loc[1, "dx"] = "MCI"
    plan = plan_of(table, tmp_path)
    reasons = {e.id: e.reason for e in plan.cohort.exclusions}
    assert reasons["sub-000"] == "has no volume"
    assert reasons["sub-001"] == "the target dx is MCI, which is not among the labels"
