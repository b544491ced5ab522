"""Fixtures that many tests share: simulated cohorts, tiny recipes, one finished run."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import settings

from braintune.commands.main import main
from braintune.recipe import Recipe

# How long an example takes depends on what else the machine does.
settings.register_profile("braintune", deadline=None)
settings.load_profile("braintune")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One thread a test process, and a cache of its own."""
    import torch

    torch.set_num_threads(1)
    os.environ["BRAINTUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["COLUMNS"] = "160"


@pytest.fixture(scope="session")
def ixi() -> Path:
    """124 real brains, where they are."""
    folder = SHARED_DATA / "ixi"
    if not folder.is_dir():
        pytest.skip("the real scans of IXI are not beside the project")
    return folder


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated BIDS cohort: 32 subjects at 6 mm from two sites."""
    from braintune.synthesis.population import SimulationRecipe
    from braintune.synthesis.simulate import simulate

    out = tmp_path_factory.mktemp("simulated") / "cohort"
    simulate(out, SimulationRecipe(subjects=32, sites=2, spacing=6))
    return out


@pytest.fixture(scope="session")
def sessions_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated BIDS cohort: 20 subjects with two sessions each."""
    from braintune.synthesis.population import SimulationRecipe
    from braintune.synthesis.simulate import simulate

    out = tmp_path_factory.mktemp("simulated") / "sessions"
    simulate(out, SimulationRecipe(subjects=20, sessions=2, sites=2, spacing=6, seed=1))
    return out


def tiny_values(**changes: Any) -> dict[str, Any]:
    """A recipe that fits in a second; sections are replaced key by key."""
    values: dict[str, Any] = {
        "task": {"kind": "classification", "target": "dx"},
        "prepare": {"spacing": 6.0, "shape": [32, 36, 32]},
        "backbone": {"name": "sfcn", "channels": [4, 8], "norm": "instance"},
        "train": {"epochs": 2, "batch_size": 4, "lr": 1e-3, "augment": "light"},
        "protocol": {"kind": "cross-validation", "folds": 2},
    }
    for section, change in changes.items():
        is_section = isinstance(change, dict) and "kind" not in change and "name" not in change
        values[section] = {**values.get(section, {}), **change} if is_section else change
    return values


def tiny_recipe(**changes: Any) -> Recipe:
    """`tiny_values` as a recipe."""
    return Recipe.parse(tiny_values(**changes))


def finish(recipe: Recipe, cohort: Path, out: Path) -> Path:
    """Fit a recipe and write the report."""
    from braintune.cohort.read import read_cohort
    from braintune.fitting.fit import fit
    from braintune.reporting.report import write_report

    fit(recipe, read_cohort(cohort), out)
    write_report(out)
    return out


@pytest.fixture(scope="session")
def finished_run(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe on the simulated cohort, with its report."""
    return finish(tiny_recipe(), cohort_folder, tmp_path_factory.mktemp("runs") / "dx")


@pytest.fixture(scope="session")
def finished_age_run(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished regression of age."""
    recipe = tiny_recipe(
        task={"kind": "regression", "target": "age"}, train={"ema": 0.9, "validation": 0.4}
    )
    return finish(recipe, cohort_folder, tmp_path_factory.mktemp("runs") / "age")


@pytest.fixture(scope="session")
def finished_study(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study that nothing disturbed."""
    from braintune.studies.recipe import StudyRecipe
    from studies.small_study import run, study_values

    out = tmp_path_factory.mktemp("studies") / "calm"
    run(StudyRecipe.parse(study_values()), cohort_folder, out)
    return out


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the small study, changed key by key."""
    from studies.small_study import study_values

    def write(**changes: Any) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study_values(**changes)))
        return path

    return write


@pytest.fixture
def write_scan(tmp_path: Path) -> Callable[..., Path]:
    """Write a small NIfTI file with any array, affine and header."""

    def write(
        name: str,
        data: np.ndarray | None = None,
        affine: np.ndarray | None = None,
        change: Callable[[Any], None] | None = None,
    ) -> Path:
        if data is None:
            data = np.random.default_rng(0).integers(1, 100, (12, 14, 10)).astype(np.int16)
        image = nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1]) if affine is None else affine)
        if change is not None:
            change(image)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        return path

    return write


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def braintune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``braintune`` with some arguments."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["braintune", *map(str, arguments)])
        status: Any = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        captured = capsys.readouterr()
        return Outcome(int(status), captured.out, captured.err)

    return run


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny recipe, changed section by section."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(tiny_values(**changes)))
        return path

    return write
