"""Bad input ends with status 2, says what and how to mend it, and leaves nothing half-written."""

import gzip
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from braintune.files import write_text
from conftest import Command

RecipeFile = Callable[..., Path]


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def cohort(cohort_folder: Path, tmp_path: Path) -> Path:
    """A copy of the simulated cohort, to be spoilt."""
    return Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))


def set_column(cohort: Path, column: str, values: Callable[[int], str]) -> None:
    """Replace or add a column of ``participants.tsv``."""
    path = cohort / "participants.tsv"
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    if column not in header:
        header.append(column)
        rows = [[*row, ""] for row in rows]
    place = header.index(column)
    for number, row in enumerate(rows):
        row[place] = values(number)
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n")


def one_class(cohort: Path) -> None:
    set_column(cohort, "dx", lambda _: "CN")


def two_parts(cohort: Path) -> None:
    """The same subject twice in a table, once a part."""
    scans = sorted(cohort.rglob("*.nii.gz"))
    lines = ["participant_id\tsession_id\tpath\tdx\tpart"]
    for number, scan in enumerate(scans):
        subject = scans[0].name[:7] if number < 2 else scan.name[:7]
        part = "test" if number % 4 == 0 else "train"
        dx = "AD" if number % 3 == 0 or number < 2 else "CN"
        lines.append(f"{subject}\tses-{number}\t{scan}\t{dx}\t{part}")
    (cohort / "table.tsv").write_text("\n".join(lines) + "\n")


def text_as_scan(cohort: Path) -> None:
    sorted(cohort.rglob("*.nii.gz"))[4].write_text("participant_id\tage\n")


def truncated(cohort: Path) -> None:
    scan = sorted(cohort.rglob("*.nii.gz"))[4]
    scan.write_bytes(scan.read_bytes()[:-700])


def nothing(cohort: Path) -> None:
    """Leave the cohort as it is."""


CASES: dict[str, tuple[Callable[[Path], None], dict[str, Any], str, str]] = {
    # What is done to the cohort, what to the recipe, which file is the cohort, what must be said.
    "missing-column": (
        nothing,
        {"task": {"kind": "classification", "target": "diagnosis"}},
        "cohort",
        "no column 'diagnosis'",
    ),
    "unknown-target": (
        nothing,
        {"task": {"kind": "classification", "target": "dxx"}},
        "cohort",
        "Did you mean 'dx'?",
    ),
    "missing-path-column": (
        lambda cohort: write_text(cohort / "table.tsv", "participant_id\tdx\nsub-1\tAD\n"),
        {},
        "cohort/table.tsv",
        "no column 'path'",
    ),
    "missing-stratum": (
        nothing,
        {"protocol": {"kind": "cross-validation", "folds": 2, "stratify": ["sexx"]}},
        "cohort",
        "Did you mean 'sex'?",
    ),
    "unknown-label": (
        nothing,
        {"task": {"kind": "classification", "target": "dx", "labels": ["CN", "MCI"]}},
        "cohort",
        "MCI",
    ),
    "one-class": (one_class, {}, "cohort", "one class only"),
    "too-few-subjects": (
        nothing,
        {"protocol": {"kind": "cross-validation", "folds": 40}},
        "cohort",
        "40 folds",
    ),
    "subject-in-two-parts": (
        two_parts,
        {"protocol": {"kind": "hold-out", "column": "part"}},
        "cohort/table.tsv",
        "sub-001",
    ),
    "text-as-scan": (text_as_scan, {}, "cohort", "sub-005_T1w"),
    "truncated-scan": (truncated, {}, "cohort", "truncated"),
    "misspelt-key": (nothing, {"train": {"epoch": 3}}, "cohort", "Did you mean 'epochs'?"),
    "misspelt-option": (
        nothing,
        {"backbone": {"name": "sfcn", "chanels": [4]}},
        "cohort",
        "Did you mean 'channels'?",
    ),
    "misspelt-section": (nothing, {"tain": {"epochs": 3}}, "cohort", "Did you mean 'train'?"),
    "no-cohort": (nothing, {}, "elsewhere", "elsewhere"),
}


@pytest.mark.parametrize("case", CASES)
def test_fit_refuses(
    case: str, cohort: Path, braintune: Command, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    spoil, changes, source, message = CASES[case]
    spoil(cohort)
    recipe = recipe_file(**changes)
    before = files_below(tmp_path)
    outcome = braintune("fit", recipe, "--cohort", tmp_path / source, "--out", tmp_path / "run")
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("error:") == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert files_below(tmp_path) == before


def test_another_recipes_folder_is_refused(
    finished_run: Path, cohort_folder: Path, braintune: Command, recipe_file: RecipeFile
) -> None:
    before = files_below(finished_run)
    recipe = recipe_file(train={"lr": 0.5})
    outcome = braintune("fit", recipe, "--cohort", cohort_folder, "--out", finished_run)
    assert outcome.status == 2
    assert "train.lr" in outcome.err
    assert "Choose another" in outcome.err
    assert files_below(finished_run) == before


@pytest.mark.parametrize("out", ["file/run", "/proc/run"])
def test_unwritable_outputs_are_refused(
    out: str,
    cohort_folder: Path,
    finished_run: Path,
    braintune: Command,
    recipe_file: RecipeFile,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("a file where a folder should go")
    if out.startswith("/proc") and not sys.platform.startswith("linux"):
        pytest.skip("no folder that even the superuser may not write to")
    target = tmp_path / out
    scan = sorted(cohort_folder.rglob("*.nii.gz"))[0]
    for command in (
        ("fit", recipe_file(), "--cohort", cohort_folder, "--out", target),
        ("prepare", cohort_folder, target, "--set", "spacing=6", "--set", "shape=[32,36,32]"),
        ("simulate", target, "--subjects", 2, "--spacing", 6),
        ("predict", finished_run, scan, "--out", target),
    ):
        outcome = braintune(*command)
        assert outcome.status == 2, command
        assert "Choose a" in outcome.err, command
        assert str(target.parent) in outcome.err, command


@pytest.mark.parametrize(
    ("command", "limit"),
    [
        # The limit on a file's size stands for a disk that is full: before the first weights fit,
        # before a prepared scan fits, and before the second simulated scan fits.
        (("fit", "RECIPE", "--cohort", "COHORT", "--out", "OUT"), 2500),
        (("prepare", "COHORT", "OUT", "--set", "spacing=6", "--set", "shape=[32,36,32]"), 10_000),
        (("simulate", "OUT", "--subjects", "3", "--spacing", "6"), 10_000),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_full_disk_is_told_and_what_is_there_is_whole(
    command: tuple[str, ...],
    limit: int,
    cohort_folder: Path,
    recipe_file: RecipeFile,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    words = {"RECIPE": recipe_file(), "COHORT": cohort_folder, "OUT": out}
    program = [sys.executable, "-m", "braintune", *(str(words.get(w, w)) for w in command)]
    if command[0] == "fit":  # with the store there already, the run folder itself fills the disk
        prepare = ["prepare", str(cohort_folder), str(tmp_path / "store"), "--recipe"]
        subprocess.run([*program[:3], *prepare, str(words["RECIPE"])], check=True)
        program += ["--store", str(tmp_path / "store")]
    done = subprocess.run(
        program,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2, done.stderr
    assert "No room to write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name]
    if command[0] == "simulate":
        assert not out.exists()


def test_every_scan_that_cannot_be_used_is_named(
    cohort: Path, finished_run: Path, braintune: Command, tmp_path: Path
) -> None:
    text_as_scan(cohort)
    scan = sorted(cohort.rglob("*.nii.gz"))[7]
    scan.write_bytes(gzip.compress(np.zeros(5000, dtype=np.uint8).tobytes()))
    outcome = braintune(
        "prepare", cohort, tmp_path / "store", "--set", "spacing=6", "--set", "shape=[32,36,32]"
    )
    assert outcome.status == 2
    assert "2 scans could not be prepared" in outcome.err
    assert "sub-005_T1w" in outcome.err
    assert "sub-008_T1w" in outcome.err
    assert not (tmp_path / "store").exists()
    outcome = braintune("predict", finished_run, cohort, "--out", tmp_path / "predictions")
    assert outcome.status == 2
    assert "30 scans predicted" in outcome.out
    assert "sub-005_T1w" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "none.yaml", "--cohort", "c", "--out", "r"), "none.yaml does not exist"),
        (("report", "no-run"), "no-run is no run"),
        (("predict", "no-run", "scan.nii.gz", "--out", "p"), "no-run"),
        (("check", "no-cohort"), "no-cohort"),
        (("models", "show", "resnet19"), "Did you mean 'resnet1"),
        (("simulate", "out", "--subjects", "0"), "subjects"),
        (("audit", "none.yaml"), "none.yaml does not exist"),
        (("check", "no-cohort", "--filter", "dessc=brain"), "Did you mean 'desc'?"),
    ],
    ids=str,
)
def test_other_commands_refuse(
    arguments: tuple[str, ...],
    message: str,
    braintune: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = braintune(*arguments)
    assert outcome.status == 2
    assert message in outcome.err
    assert not list(tmp_path.iterdir())


def test_overrides_are_checked_like_the_recipe(
    cohort_folder: Path, braintune: Command, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    words = ("fit", recipe_file(), "--cohort", cohort_folder, "--out", tmp_path / "run", "--set")
    for override, message in {
        "train.epoch=3": "Did you mean 'epochs'?",
        "train.epochs=-1": "greater than 0",
        "train": "must look like section.key=value",
        "train.lr.x=1": "is a value, not a section",
        "accelerator=tpu": "accelerator",
    }.items():
        outcome = braintune(*words, override)
        assert (outcome.status, message in outcome.err) == (2, True), outcome.err
    assert not (tmp_path / "run").exists()
