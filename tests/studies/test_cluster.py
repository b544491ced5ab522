"""Fits on other processes: a Dask cluster whose scheduler and worker are killed; batch jobs."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from braintune.errors import BraintuneError, InputError
from braintune.studies.cluster import batch_cluster
from braintune.studies.compare import Conditions, compare
from braintune.studies.places import check_place, make_workers
from braintune.studies.recipe import ClusterRecipe, StudyRecipe
from studies.small_study import study_values, table

pytest.importorskip("distributed")
STUDY = StudyRecipe.parse(study_values())


def started(*arguments: str) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", *arguments], **quiet)


@contextmanager
def dask(folder: Path) -> Iterator[tuple[str, subprocess.Popen, list[subprocess.Popen]]]:
    """A scheduler and two workers, each a process of its own."""
    import json

    file = folder / "scheduler.json"
    scheduler = started(
        "distributed.cli.dask_scheduler",
        *["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
    )
    options = ["--scheduler-file", str(file), "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    processes = [scheduler]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = [
            started("distributed.cli.dask_worker", *options, "--local-directory", str(folder / n))
            for n in ("one", "two")
        ]
        processes += workers
        yield json.loads(file.read_text())["address"], scheduler, workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def killer(process: subprocess.Popen, out: Path, results: int) -> threading.Thread:
    """Kill a process once a study has some results."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 200
        while len(list(out.glob("fits/*/*/result.json"))) < results and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.slow
def test_scheduler_and_worker_may_die(
    finished_study: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    """First the scheduler, then, as the study goes on, a worker: the table is the same."""
    out, conditions = tmp_path / "study", Conditions(workers=1, accelerator="cpu")
    for number, kills_scheduler in enumerate((True, False)):
        place = tmp_path / str(number)
        place.mkdir()
        with dask(place) as (address, scheduler, workers):
            done = len(list(out.glob("fits/*/*/result.json")))
            victim = scheduler if kills_scheduler else workers[0]
            thread = killer(victim, out, done + 2)
            workers_of = make_workers(address, conditions)
            if kills_scheduler:
                with pytest.raises(BraintuneError, match="scheduler is gone"):
                    compare(STUDY, cohort_folder, out, workers_of, conditions)
                assert not (out / "study.json").exists()
            else:
                document = compare(STUDY, cohort_folder, out, workers_of, conditions)
                assert document["complete"]
            thread.join()
    assert len(list(out.glob("fits/*/*/result.json"))) == 12
    pd.testing.assert_frame_equal(table(out), table(finished_study), atol=1e-3)


def test_an_address_where_nobody_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("slrum", "localhost:8786"):
        with pytest.raises(InputError, match="tcp://HOST:PORT or one of slurm, pbs, sge"):
            check_place(place, "auto", Path("out"), dry_run=False)
    with pytest.raises(InputError, match="Name the study's folder"):
        check_place(None, "auto", None, dry_run=False)


@pytest.mark.parametrize(
    ("system", "lines"),
    [
        (
            "slurm",
            [
                "#SBATCH -p gpu",
                "#SBATCH -A lab",
                "#SBATCH --cpus-per-task=4",
                "#SBATCH -t 02:00:00",
            ],
        ),
        ("pbs", ["#PBS -q gpu", "#PBS -A lab", "select=1:ncpus=4", "#PBS -l walltime=02:00:00"]),
        ("sge", ["#$ -q gpu", "#$ -P lab", "#$ -l h_rt=02:00:00"]),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_jobs_ask_for_what_the_study_says(system: str, lines: list[str], tmp_path: Path) -> None:
    recipe = ClusterRecipe(
        queue="gpu",
        account="lab",
        cores=4,
        memory="16GB",
        walltime="02:00:00",
        directives=["--gres=gpu:1"],
        prologue=["module load cuda"],
        folder=str(tmp_path / "scratch"),
    )
    with batch_cluster(system, recipe) as cluster:
        script = cluster.job_script()
    for line in [*lines, "--gres=gpu:1", "module load cuda"]:
        assert line in script
    command = script.splitlines()[-1] if script.splitlines()[-1] else script.splitlines()[-2]
    # One fit at a time: of two numbers of threads, the last one counts.
    assert command.rindex("--nthreads 1") > command.find("--nthreads 4")
    assert "--memory-limit 14.90GiB" in command
    assert sys.executable in command


@pytest.mark.slow
def test_a_study_runs_as_slurm_jobs(
    finished_study: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    """Where SLURM is up; ``.ci/slurm`` starts it on one machine."""
    if shutil.which("sinfo") is None:
        pytest.skip("SLURM is not installed: apt-get install slurm-wlm munge, then .ci/slurm")
    up = subprocess.run(["sinfo", "-h", "-o", "%a"], capture_output=True, text=True)
    if "up" not in up.stdout:
        pytest.skip("no partition of SLURM is up: .ci/slurm starts one on this machine")
    cluster = {"memory": "2GB", "walltime": "00:10:00", "jobs": 2, "folder": str(tmp_path / "tmp")}
    study = StudyRecipe.parse(study_values(cluster=cluster))
    conditions = Conditions(accelerator="cpu")
    out = tmp_path / "study"
    document = compare(study, cohort_folder, out, make_workers("slurm", conditions), conditions)
    assert document["complete"]
    assert list((tmp_path / "tmp" / "logs").glob("*"))
    pd.testing.assert_frame_equal(table(out), table(finished_study), atol=1e-3)
