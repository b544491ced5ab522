"""The sanity gate: what was planted is found, and nothing is found where nothing was planted."""

import json
from pathlib import Path

import pytest

from braintune.demo import run_demo


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("effect", "found"), [(1.0, True), (0.0, False)])
def test_the_demo_finds_the_planted_effect_and_no_other(
    effect: float, found: bool, tmp_path: Path
) -> None:
    run = run_demo(tmp_path, effect=effect, seed=0)
    auc = json.loads(run.metrics_file.read_text())["metrics"]["auc"]
    assert (auc["low"] > 0.5) == found, auc
    if not found:
        assert auc["low"] < 0.5 < auc["high"]
