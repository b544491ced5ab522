import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from braintune.commands.main import app
from conftest import Command

RecipeFile = Callable[..., Path]
COMMANDS = [command.name for command in app.registered_commands]
PREPARE = ("--set", "spacing=6", "--set", "shape=[32,36,32]")


def test_help_answers_at_once() -> None:
    """Under 0.4 s on an idle machine, where its parser with all its colours takes that long."""

    def seconds(*words: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        return time.perf_counter() - start

    pairs = [
        (seconds("-m", "braintune", "--help"), seconds("-c", "import typer.main, typer.rich_utils"))
        for _ in range(5)
    ]
    assert min(ours / parser for ours, parser in pairs) < 1.3


def test_the_command_line_does_not_import_torch_before_it_works() -> None:
    program = (
        "import sys; import braintune.commands.main; heavy = {'torch', 'pandas', 'matplotlib',"
        " 'scipy', 'nibabel', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_summary_and_an_example(name: str, braintune: Command) -> None:
    outcome = braintune(name, "--help")
    assert outcome.status == 0
    assert f"Example: braintune {name}" in outcome.out
    assert "--json" in outcome.out


def test_the_version_is_told(braintune: Command) -> None:
    from braintune import __version__

    assert braintune("--version").out == f"{__version__}\n"


def test_a_scan_goes_from_simulation_to_prediction(
    braintune: Command, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    """The main job by its commands; each gives one JSON document and nothing else."""
    cohort, run = tmp_path / "cohort", tmp_path / "run"

    def document(*words: object) -> dict[str, object]:
        outcome = braintune(*words, "--json")
        assert outcome.status == 0, outcome.err
        return dict(json.loads(outcome.out))

    made = document("simulate", cohort, "--subjects", 24, "--spacing", 6, "--sites", 2)
    assert made["scans"] == 24
    checked = document("check", cohort, "--target", "dx")
    assert checked["ok"]
    prepared = document("prepare", cohort, tmp_path / "store", *PREPARE)
    assert (prepared["scans"], prepared["made"]) == (24, 24)
    assert document("prepare", cohort, tmp_path / "store", *PREPARE)["made"] == 0
    fitted = document("fit", recipe_file(), "--cohort", tmp_path / "store", "--out", run)
    assert fitted["subjects"] == 24
    assert Path(str(fitted["report"])).is_file()
    assert document("report", run) == {"report": str(run / "report.html")}
    predicted = document("predict", run, cohort, "--out", tmp_path / "predictions")
    assert len(list(predicted["predictions"])) == 24  # type: ignore[call-overload]


def test_check_exits_with_2_until_what_is_wrong_is_mended_or_accepted(
    cohort_folder: Path, braintune: Command, tmp_path: Path
) -> None:
    cohort = shutil.copytree(cohort_folder, tmp_path / "cohort")
    scans = sorted(cohort.rglob("*.nii.gz"))
    scans[3].write_text("no image")
    shutil.copy(scans[5], scans[6])
    outcome = braintune("check", cohort)
    assert outcome.status == 2
    for word in ("what", "where", "remedy", "unreadable", "sub-004", "equal to the voxel"):
        assert word in outcome.out
    accepted = braintune("check", cohort, "--accept", "unreadable", "--accept", "equal")
    assert accepted.status == 0
    document = json.loads(braintune("check", cohort, "--json").out)
    assert not document["ok"]
    assert len(document["problems"]) == 2


def test_recipes_are_audited_without_data(braintune: Command, recipe_file: RecipeFile) -> None:
    recipe = recipe_file(task={"kind": "classification", "target": "dx", "classes": 2})
    document = json.loads(braintune("audit", recipe, "--json").out)
    assert document["total"] == document["trainable"] == sum(document["parts"].values())
    lora = braintune("audit", recipe, "--set", "adapter.name=lora", "--json")
    document = json.loads(lora.out)
    assert document["trainable"] == document["parts"]["adapter"] + document["parts"]["head"]
    assert document["frozen"] == document["parts"]["backbone"]
    assert "total" in braintune("audit", recipe).out


def test_registries_are_listed(braintune: Command) -> None:
    models = json.loads(braintune("models", "list", "--json").out)
    assert {"name", "family", "parameters", "weights"} <= set(models[0])
    assert {m["name"] for m in models} >= {"resnet10", "resnet18", "resnet50", "sfcn", "vit"}
    shown = json.loads(braintune("models", "show", "sfcn", "--json").out)
    assert shown["name"] == "sfcn"
    assert "channels" in braintune("models", "show", "sfcn").out
    adapters = json.loads(braintune("adapters", "--json").out)
    assert {a["name"] for a in adapters} >= {"full", "probe", "lora"}
    assert "Conv1d" in braintune("adapters").out
    assert "resnet50" in braintune("models", "list").out


def test_excluded_subjects_are_in_the_ledger(
    cohort_folder: Path, braintune: Command, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("fit", recipe_file(train={"epochs": 1}), "--cohort", cohort_folder, "--out", run)
    assert braintune(*words, "--exclude", "sub-003").status == 0
    ledger = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    excluded = [line for line in ledger if line["event"] == "excluded"]
    assert [(e["id"], e["reason"]) for e in excluded] == [("sub-003_T1w", "excluded by --exclude")]
    assert "sub-003_T1w" in (run / "report.html").read_text()
    assert braintune(*words, "--exclude", "sub-999").status == 2


def test_logs_go_to_standard_error(cohort_folder: Path, tmp_path: Path) -> None:
    words = ("prepare", cohort_folder, tmp_path / "store", *PREPARE)
    done = subprocess.run(
        [sys.executable, "-m", "braintune", *words, "--json"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert json.loads(done.stdout)["scans"] == 32
    assert "Preparing" in done.stderr
