"""The sanity gate: what was planted is found, and nothing is found where nothing was planted."""

import json
from pathlib import Path

import pytest

from braintune import demo
from braintune.demo import DEMO_RECIPE, run_demo


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("effect", "found"), [(1.0, True), (0.0, False)])
def test_the_demo_finds_the_planted_effect_and_no_other(
    effect: float, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer people and folds than `make demo`, which takes minutes on one core."""
    monkeypatch.setattr(demo, "_SUBJECTS", 80)
    protocol = {**DEMO_RECIPE["protocol"], "folds": 3}
    monkeypatch.setattr(demo, "DEMO_RECIPE", {**DEMO_RECIPE, "protocol": protocol})
    run = run_demo(tmp_path, effect=effect, seed=0)
    auc = json.loads(run.metrics_file.read_text())["metrics"]["auc"]
    assert (auc["low"] > 0.5) == found, auc
    if not found:
        assert auc["low"] < 0.5 < auc["high"]
