"""Probes find what is linear in features, and keep subjects on one side."""

from pathlib import Path

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.fitting.pretraining.probe import Probe
from braintune.pretraining_recipe import ProbeRecipe


def probe_of(truth: np.ndarray, subjects: list[str], kind: str = "regression") -> Probe:
    table = pd.DataFrame({"scan_id": [f"s{i}" for i in range(len(truth))]})
    table = table.assign(participant_id=subjects, session_id=pd.NA, path="x")
    recipe = ProbeRecipe.model_validate({"cohort": "c", "target": "t", "kind": kind})
    return Probe(recipe, Cohort(Path("c"), table), truth)


def test_a_probe_finds_what_is_linear_in_the_features_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(50, 15, 80)
    probe = probe_of(truth, [f"sub-{i}" for i in range(80)])
    features = random.normal(size=(80, 10))
    blind = probe.scores(features, 0)
    assert blind["probe_mae"] > 0.9 * blind["probe_mae_of_mean"]
    sighted = probe.scores(np.c_[features, 3 * truth + 7], 0)
    assert sighted["probe_mae"] < 0.05 * sighted["probe_mae_of_mean"]
    assert sighted == probe.scores(np.c_[features, 3 * truth + 7], 0)
    sexes = (truth > 50).astype(float)
    probe = probe_of(sexes, [f"sub-{i}" for i in range(80)], "classification")
    assert probe.scores(np.c_[features, truth], 0)["probe_auc"] > 0.97
    assert abs(probe.scores(features, 0)["probe_auc"] - 0.5) < 0.25


def test_a_probe_never_has_a_subject_on_both_sides() -> None:
    """Features that tell subjects apart, but nothing else, are of no use."""
    random = np.random.default_rng(1)
    subjects = np.repeat(np.arange(40), 3)
    truth = random.normal(size=40)[subjects]
    features = random.normal(size=(40, 60))[subjects]
    scores = probe_of(truth, [f"sub-{i}" for i in subjects]).scores(features, 0)
    assert scores["probe_mae"] > 0.85 * scores["probe_mae_of_mean"]
