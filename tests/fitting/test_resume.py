"""A fit that is killed for real ends with the same numbers as one that is not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from braintune.cohort.tables import read_table
from braintune.files import read_lines
from conftest import tiny_values

_PATIENCE = 120


@dataclass(frozen=True)
class Session:
    """A fit as a process of its own, that writes a checkpoint after every step."""

    folder: Path
    cohort: Path

    def _start(self, name: str, *options: str) -> subprocess.Popen[str]:
        recipe = self.folder / f"{name}.yaml"
        train = {"epochs": 6, "ema": 0.9, "augment": "heavy", "balance": "sampler", "batch_size": 4}
        recipe.write_text(yaml.safe_dump(tiny_values(train={**train, "precision": "fp32"})))
        words = ["fit", recipe, "--cohort", self.cohort, "--out", self.folder / name]
        words += ["--store", self.folder / "store", "--checkpoint-every", "0", *options]
        return subprocess.Popen(
            [sys.executable, "-m", "braintune", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def finish(self, name: str, *options: str) -> Path:
        with self._started(name, *options) as process:
            _, err = process.communicate(timeout=2 * _PATIENCE)
        assert process.returncode == 0, err
        return self.folder / name

    def interrupt(self, name: str, fold: int, changes: int, how: signal.Signals) -> str:
        """Stop a fit once its checkpoint of a fold has changed some times."""
        checkpoint = self.folder / name / "folds" / str(fold) / "checkpoint.pt"
        with self._started(name) as process:
            _await_changes(checkpoint, changes, process)
            process.send_signal(how)
            _, err = process.communicate(timeout=_PATIENCE)
        assert process.returncode != 0, "the fit ended before it was stopped"
        return err

    @contextmanager
    def _started(self, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A running fit, which does not outlive the test."""
        with self._start(name, *options) as process:
            try:
                yield process
            finally:
                process.kill()


def _await_changes(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait for a file to change, some times."""
    last, until = 0, time.monotonic() + _PATIENCE
    while count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, f"{path} did not change"
        try:
            now = path.stat().st_mtime_ns
        except FileNotFoundError:
            now = last
        if now != last:
            last, count = now, count - 1
        time.sleep(0.002)


@pytest.fixture(scope="module")
def session(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(tmp_path_factory.mktemp("resume"), cohort_folder)


@pytest.fixture(scope="module")
def whole(session: Session) -> Path:
    """The uninterrupted fit."""
    return session.finish("whole")


RESULTS = ("predictions.tsv", "splits.tsv")
WEIGHTS = ("model/fold-1.safetensors", "model/fold-2.safetensors")


def losses(run: Path) -> list[tuple[float, float]]:
    lines = [*read_lines(run / "folds/1/history.jsonl"), *read_lines(run / "folds/2/history.jsonl")]
    return [(line["loss"], line["validation_loss"]) for line in lines]


def test_kill_9_changes_nothing(session: Session, whole: Path) -> None:
    """Killed in the middle of the first fold, then in the second, then left alone."""
    session.interrupt("killed", fold=1, changes=9, how=signal.SIGKILL)
    assert not (session.folder / "killed" / "metrics.json").exists()
    session.interrupt("killed", fold=2, changes=5, how=signal.SIGKILL)
    killed = session.finish("killed")
    for name in (*RESULTS, *WEIGHTS):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    numbers = [json.loads((run / "metrics.json").read_text()) for run in (killed, whole)]
    assert numbers[0]["metrics"] == numbers[1]["metrics"]
    assert losses(killed) == losses(whole)
    assert len(losses(whole)) == 12
    events = [line["event"] for line in read_lines(killed / "ledger.jsonl")]
    assert events.count("resumed") == 2
    assert events.count("test opened") == 2
    assert not [path for path in killed.rglob("*") if path.name.endswith((".pt", ".tmp"))]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_says_how_to_go_on(
    session: Session, whole: Path, how: signal.Signals
) -> None:
    err = session.interrupt(how.name, fold=1, changes=3, how=how)
    assert "same command" in err
    assert "Traceback" not in err
    resumed = session.finish(how.name)
    for name in RESULTS:
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name


def test_two_processes_fit_what_one_does(session: Session, whole: Path) -> None:
    """Each takes half of every batch, so the gradients are the same up to rounding."""
    shared = session.finish("shared", "--devices", "2", "--accelerator", "cpu")
    one, two = (read_table(run / "predictions.tsv") for run in (whole, shared))
    assert one["scan_id"].equals(two["scan_id"])
    assert np.allclose(one["p_AD"].astype(float), two["p_AD"].astype(float), atol=1e-3)
    assert (shared / "report.html").is_file()


@pytest.mark.slow
def test_two_processes_climb_and_mix_as_one_does(session: Session) -> None:
    """Sharpness-aware steps need the gradient of both, mixtures the scans of both."""
    changes = {"epochs": 1, "sam": 0.5, "mixup": 0.5, "cutmix": 0.5, "augment": "light"}
    words = [word for key, value in changes.items() for word in ("--set", f"train.{key}={value}")]
    one = session.finish("alone", *words)
    two = session.finish("together", *words, "--devices", "2", "--accelerator", "cpu")
    tables = [read_table(run / "predictions.tsv")["p_AD"].astype(float) for run in (one, two)]
    assert np.allclose(*tables, atol=1e-3)
    histories = [losses(run) for run in (one, two)]
    assert np.allclose(*histories, rtol=1e-3)
