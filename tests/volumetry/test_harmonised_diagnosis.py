"""Diagnoses whose sites are taken out inside the folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintune.errors import InputError
from braintune.evaluation import intervals
from braintune.fitting.diagnosis import diagnose
from braintune.fitting.diagnosis_plan import DiagnosisPlan, plan_diagnosis, read_rows
from braintune.fitting.diagnosis_predict import predict_rows
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.fitting.diagnosis_run import open_diagnosis, write_diagnosis
from braintune.reporting.diagnosis_report import methods_text
from volumetry.diagnosis_tables import planted_table, save_table


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 50)


def sites_table(**changes: object) -> pd.DataFrame:
    """An effect of 1.5 standard deviations, hidden by a site that shifts volumes by four."""
    table = planted_table(1.5, subjects=120, seed=5)
    site = np.random.default_rng(1).choice(["1", "2"], 120)
    shift = 1200 * (site == "2")
    for name in ("hippocampus_left_mm3", "putamen_left_mm3"):
        table[name] = table[name] + shift * (1 if name.startswith("hippo") else 0.3)
    return table.assign(**{"site": site, **changes})


def plan_of(table: pd.DataFrame, folder: Path, **recipe: object) -> DiagnosisPlan:
    rows = read_rows(save_table(table, folder / "table.tsv"))
    values = {"target": "dx", "labels": ["CN", "AD"], "inner_folds": 3, "importance_repeats": 1}
    values["volumes"] = ["hippocampus_left_mm3"]
    return plan_diagnosis(DiagnosisRecipe.parse({**values, **recipe}), rows)


KEEP = {"site": "site", "keep": ["age", "sex"]}


def test_an_effect_that_sites_hide_is_found(tmp_path: Path) -> None:
    auc = {}
    for name, harmonise in (("plain", None), ("harmonised", KEEP)):
        found = diagnose(plan_of(sites_table(), tmp_path, harmonise=harmonise))
        auc[name] = found.metrics["metrics"]["auc"]["value"]
    assert auc["harmonised"] > auc["plain"] + 0.1
    assert auc["harmonised"] > 0.8


def test_test_rows_and_their_targets_have_no_say(tmp_path: Path) -> None:
    """The model of a fold is the same whatever its test rows hold; predictions follow the rows."""
    plan = plan_of(sites_table(), tmp_path, harmonise=KEEP)
    fold = plan.folds[0]
    truth, frame = plan.truth.copy(), plan.frame.copy()
    truth[fold.test] = 1 - truth[fold.test]
    changed = replace(plan, truth=truth, frame=frame, folds=[fold])
    same = replace(plan, folds=[fold])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("braintune.fitting.diagnosis.summarise", lambda *_: {})
        patch.setattr("braintune.fitting.diagnosis.permutation_importance", lambda *_: [])
        results = [diagnose(p) for p in (same, changed)]
    predicted = [found.predicted[fold.test] for found in results]
    assert np.array_equal(predicted[0], predicted[1])
    combats = [found.models[0].steps[1].combat_ for found in results]
    assert np.array_equal(combats[0].shifts, combats[1].shifts)


@pytest.mark.parametrize(
    ("changes", "recipe", "words"),
    [
        ({}, {"harmonise": {"keep": ["dx"]}}, "may not see the target"),
        ({}, {"harmonise": {"site": "scanner"}}, "no column 'scanner'"),
        ({"site": "1"}, {"harmonise": KEEP}, "no sites to harmonise"),
        ({"site": ["1", None] * 60}, {"harmonise": KEEP}, "is missing for"),
        ({"site": ["1", "2"] * 60}, {"harmonise": KEEP}, "tells the target 'dx' without"),
        (
            {},
            {"harmonise": KEEP, "protocol": {"kind": "leave-one-site-out"}},
            "Fold 1 tests site 1, of which fewer than 5 rows train",
        ),
    ],
)
def test_what_can_not_be_harmonised(
    changes: dict[str, object], recipe: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        plan_of(sites_table(**changes), tmp_path, **recipe)


def test_rows_of_a_new_site_are_refused_unless_asked(tmp_path: Path) -> None:
    new = sites_table().iloc[:4].assign(site=["1", "2", "9", "9"])
    new["participant_id"] = "new-" + new["participant_id"]
    rows = read_rows(save_table(new, tmp_path / "new.tsv"))
    for unseen, problems in (("refuse", 2), ("average", 0)):
        plan = plan_of(sites_table(), tmp_path, harmonise={**KEEP, "unseen": unseen})
        run = write_diagnosis(diagnose(plan), tmp_path / unseen, 1.0)
        table = predict_rows(open_diagnosis(run.path), rows)
        assert table["problem"].notna().sum() == problems
        assert table["p_AD"].isna().sum() == problems
        assert ("ComBat" in methods_text(plan.recipe, {"interval": INTERVAL}, 1)) is True


INTERVAL = {"level": 0.95, "method": "percentile bootstrap", "resamples": 50}
