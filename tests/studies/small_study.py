"""A small study, finished once for all tests that look at one."""

from pathlib import Path
from typing import Any

import pandas as pd

from braintune.studies.compare import Conditions, compare
from braintune.studies.places import make_workers
from braintune.studies.recipe import StudyRecipe
from conftest import tiny_values

# What a study says of scores; what fits cost differs from time to time.
SCORES = ["cohort", "target", "fraction", "metric", "name", "value", "low", "high", "rank"]
SCORES += ["minus_baseline", "p_holm_baseline", "minus_best", "p_holm_best"]


def study_values(**changes: Any) -> dict[str, Any]:
    """A study of twelve fits that take a second each."""
    task = {"kind": "regression", "target": "age"}
    return {
        "base": tiny_values(task=task, train={"epochs": 1, "augment": "none"}),
        "methods": {"full": {}, "probe": {"adapter.name": "probe"}},
        "tune": {"keys": {"train.lr": [1e-3, 1e-2]}},
        "seeds": [0, 1],
        **changes,
    }


def table(folder: Path) -> pd.DataFrame:
    """The leaderboard without what fits cost."""
    return pd.read_csv(folder / "leaderboard.tsv", sep="\t")[SCORES]


def run(
    study: StudyRecipe, cohort: Path, out: Path, workers: int = 1, **conditions: Any
) -> dict[str, Any]:
    """Run a study on this machine."""
    chosen = Conditions(workers=workers, accelerator="cpu", **conditions)
    return compare(study, cohort, out, make_workers(None, chosen), chosen)
