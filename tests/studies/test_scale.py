"""Learning curves of scores whose law is known, and of a small study."""

import json
from pathlib import Path

import numpy as np
import pytest

from braintune.errors import InputError
from braintune.studies.contexts import read_cohorts
from braintune.studies.curves import curve_document, foretold, make_curve, parse_wishes
from braintune.studies.recipe import StudyRecipe
from braintune.studies.scale import with_fractions
from braintune.tasks.classification_metrics import BINARY
from braintune.tasks.regression_metrics import REGRESSION
from conftest import Command
from studies.scoring import entry, folds_of, probabilities
from studies.small_study import study_values

SIZES = [10.0, 20.0, 40.0, 80.0, 160.0]


def planted(seeds: int = 3, subjects: int = 400, seed: int = 0):
    """Absolute errors whose mean is 30 n^-0.5 + 2, with the same hard subjects at each size."""
    random = np.random.default_rng(seed)
    folds = folds_of(subjects, 5)
    truth = random.uniform(20, 80, subjects)
    hard = random.exponential(1, subjects)
    sign = random.choice([-1, 1], subjects)
    entries = []
    for size in SIZES:
        mean = 30 * size**-0.5 + 2
        errors = mean * (0.7 * hard + 0.3 * random.exponential(1, (seeds, subjects)))
        entries.append(entry("net", truth, truth + sign * errors, folds))
    return make_curve("net", REGRESSION["mae"], entries, SIZES)


def test_a_planted_curve_is_found() -> None:
    curve = planted()
    document = curve_document(curve, {"mae": 4.0})
    law = document["law"]
    assert law["slope"]["low"] <= 0.5 <= law["slope"]["high"]
    assert law["floor"]["low"] <= 2 <= law["floor"]["high"]
    # (30 / (4 - 2)) ** 2 = 225 subjects.
    wish = document["wish"]
    assert wish["low"] <= 225 <= (wish["high"] or np.inf)
    assert "takes about" in document["sentences"][1]
    values = [point["value"] for point in document["points"]]
    assert values == sorted(values, reverse=True)
    assert all(p["low"] <= p["value"] <= p["high"] for p in document["points"])
    assert all(len(p["seeds"]) == 3 for p in document["points"])


def test_scores_that_rise_are_fitted_by_what_they_lack() -> None:
    random = np.random.default_rng(1)
    folds = folds_of(300, 5)
    truth = (np.arange(300) // 5 % 2).astype(float)
    entries = [
        entry("net", truth, probabilities(random.normal(truth * np.log(n), 1, (2, 300))), folds)
        for n in SIZES
    ]
    curve = make_curve("net", BINARY["auc"], entries, SIZES)
    document = curve_document(curve, {"auc": 0.9})
    assert document["law"]["scale"]["value"] > 0
    assert max(document["line"]["value"]) <= 1
    assert document["wish"]["subjects"] < 80


def test_a_score_below_the_floor_is_never_reached() -> None:
    wish = foretold(planted(), 0.5)
    assert wish["subjects"] is None
    assert wish["high"] is None
    assert wish["never"] > 0.9
    assert foretold(planted(), 2.2)["far"]


def test_wishes_are_read() -> None:
    assert parse_wishes(["mae=5", "auc=0.9"], ["mae", "auc"]) == {"mae": 5.0, "auc": 0.9}
    for text, message in (
        ("mae", "must look like mae=5"),
        ("mae=x", "must look"),
        ("r=1", "no target"),
    ):
        with pytest.raises(InputError, match=message):
            parse_wishes([text], ["mae"])


def test_shares_that_are_too_small_are_left_out(cohort_folder: Path, capsys) -> None:
    """5 % of 16 subjects are one; all shares that are left have enough to learn from."""
    study = StudyRecipe.parse(study_values())
    cohorts = read_cohorts(study, cohort_folder)
    assert with_fractions(study, cohorts).fractions == [0.7, 1.0]
    assert "5 % of the training subjects are too few" in capsys.readouterr().err
    named = study.model_copy(update={"fractions": [0.5, 1.0]})
    assert with_fractions(named, cohorts) == named


@pytest.mark.slow
def test_a_study_of_sizes_runs(
    cohort_folder: Path, study_file, braintune: Command, tmp_path: Path
) -> None:
    path = study_file(methods={"full": {}}, tune=None, fractions=[0.5, 0.75, 1.0])
    out = tmp_path / "out"
    shared = ["scale", path, "--cohort", cohort_folder, "--out", out, "--workers", 1]
    planned = json.loads(braintune(*shared, "--dry-run", "--json").out)
    assert [context["fraction"] for context in planned["contexts"]] == [0.5, 0.75, 1.0]
    assert planned["fits"] == 12
    assert not out.exists()
    outcome = braintune(*shared, "--wish", "mae=3", "--json")
    assert outcome.status == 0
    document = json.loads(outcome.out)
    (group,) = document["groups"]
    (curve,) = group["curves"]
    assert [point["subjects"] for point in curve["points"]] == [8, 12, 16]
    assert curve["wish"]["score"] == 3
    page = (out / "scale.html").read_text()
    assert curve["sentences"][0] in page.replace("&#39;", "'")
    assert page.count("<svg") == 1
    text = braintune(*shared).out
    assert curve["sentences"][0] in text
    assert braintune(*shared, "--wish", "auc=0.9").status == 2
