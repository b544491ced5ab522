import json
from pathlib import Path
from typing import Any

import pytest

from braintune.cohort.tables import read_table
from conftest import Command

TINY = ("--preset", "tiny", "--workers", 1)


@pytest.fixture(scope="module")
def model(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from braintune.cohort.read import read_cohort
    from braintune.synthesis.diffusion.data import with_columns
    from braintune.synthesis.diffusion.recipe import DiffusionRecipe
    from braintune.synthesis.diffusion.train import Execution, train

    out = tmp_path_factory.mktemp("model") / "model"
    subjects = with_columns(read_cohort(cohort_folder), cohort_folder / "truth.tsv")
    train(subjects, out, DiffusionRecipe.read("tiny"), Execution(workers=1))
    return out


def test_from_a_cohort_to_samples_and_their_report(
    braintune: Command, cohort_folder: Path, tmp_path: Path
) -> None:
    """The job by its commands: the report finds the training scans and reads what was asked."""
    model, samples = tmp_path / "model", tmp_path / "samples"
    words: tuple[object, ...] = (cohort_folder, model, "--table", cohort_folder / "truth.tsv")
    trained = braintune("synthesize", "train", *words, *TINY, "--json")
    assert trained.status == 0, trained.err
    learnt = json.loads(trained.out)
    assert learnt["scans"] == 29
    assert [c["name"] for c in learnt["conditions"]] == ["sex", "age", "ventricles", "brain"]
    ask = ("--count", 6, "--age", 0.7, "--set", "steps=3", "--set", "guidance=2", "--json")
    made = braintune("synthesize", "sample", model, samples, *ask)
    assert json.loads(made.out) == {"out": str(samples), "scans": 6, "made": 6}
    assert set(read_table(samples / "participants.tsv")["age_unit"]) == {"0.70000"}
    table = cohort_folder / "truth.tsv"
    words = ("--against", cohort_folder, "--table", table, "--workers", 1)
    outcome = braintune("synthesize", "report", samples, *words, "--json")
    assert outcome.status == 0, outcome.err
    document: dict[str, Any] = json.loads(outcome.out)
    assert (document["samples"], document["real"]) == (6, 32)
    assert document["memorisation"]["reference"] == "held-out scans"
    assert document["conditions"]["brain"]["on_real_scans"]["r"] > 0.8
    assert document["conditions"]["age"]["asked_against_read"]["r"] is None
    page = Path(document["report"]).read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "never trained" in page
    said = braintune("synthesize", "report", samples, *words)
    assert "Suspected copies" in said.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--age", 70), r"must be in [0, 1], not 70"),
        (("--age", -0.1), "must be in [0, 1]"),
        (("--condition", "icv=0.3"), "no condition 'icv'"),
        (("--condition", "age=old"), "must be a number"),
        (("--set", "step=3"), "Did you mean 'steps'"),
        (("--count", 0), "greater than or equal to 1"),
    ],
)
def test_wrong_asks_end_with_2_and_write_nothing(
    words: tuple[object, ...], expected: str, model: Path, braintune: Command, tmp_path: Path
) -> None:
    outcome = braintune("synthesize", "sample", model, tmp_path / "samples", *words)
    assert outcome.status == 2
    assert expected in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--set", "prepare.shape=[17,16,16]"), "the nearest is [16, 16, 16]"),
        (("--preset", "large"), "Available: tiny, small, brain-ldm"),
        ((), "no column 'ventricles_ml' to condition on"),
        (("--set", "conditions={x: nothing}"), "no column 'nothing'"),
    ],
)
def test_wrong_trainings_end_with_2_and_write_nothing(
    words: tuple[object, ...],
    expected: str,
    braintune: Command,
    cohort_folder: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "model"
    outcome = braintune("synthesize", "train", cohort_folder, out, *TINY, *words)
    assert outcome.status == 2
    assert expected in outcome.err
    assert not out.exists()


@pytest.mark.parametrize("name", ["train", "sample", "report", "convert"])
def test_commands_explain_themselves(name: str, braintune: Command) -> None:
    outcome = braintune("synthesize", name, "--help")
    assert outcome.status == 0
    assert f"Example: braintune synthesize {name}" in outcome.out
    assert "--json" in outcome.out


def test_published_files_that_are_not_there_are_named(braintune: Command, tmp_path: Path) -> None:
    words = ("brain-ldm", tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "out")
    outcome = braintune("synthesize", "convert", *words)
    assert outcome.status == 2
    assert "is published at" in outcome.err
