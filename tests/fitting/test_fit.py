import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.files import read_lines
from braintune.fitting.fit import Execution, fit
from braintune.recipe import Recipe
from braintune.run import RunFolder
from braintune.tasks.task import TASKS
from conftest import tiny_recipe


def test_a_run_leaves_all_its_files(finished_run: Path) -> None:
    names = {str(p.relative_to(finished_run)) for p in finished_run.rglob("*") if p.is_file()}
    assert names >= {
        "recipe.yaml",
        "run.json",
        "environment.json",
        "ledger.jsonl",
        "cohort.tsv",
        "splits.tsv",
        "predictions.tsv",
        "metrics.json",
        "report.html",
        "model/model.json",
        "model/fold-1.safetensors",
        "folds/1/predictions.tsv",
        "folds/2/history.jsonl",
        "cases/cases.json",
        "cases/1.png",
    }
    assert not [name for name in names if name.endswith((".tmp", "checkpoint.pt"))]


def test_every_scan_is_predicted_once_by_the_fold_that_tested_it(finished_run: Path) -> None:
    predictions = read_table(finished_run / "predictions.tsv")
    splits = read_table(finished_run / "splits.tsv")
    tested = splits[splits["part"] == "test"]
    assert len(predictions) == 32
    merged = predictions.merge(tested, on="scan_id", suffixes=("", "_split"))
    assert (merged["fold"] == merged["name"]).all()
    p = predictions[["p_CN", "p_AD"]].astype(float)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5)
    assert ((p["p_AD"] >= 0.5) == (predictions["predicted"] == "AD")).all()


def test_every_metric_has_an_interval_and_baselines_beside_it(finished_run: Path) -> None:
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["headline"] == "auc"
    for entry in metrics["metrics"].values():
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert len(entry["folds"]) == 2
    assert set(metrics["baselines"]) == {"constant", "age_sex", "brain_volume", "site"}
    for baseline in metrics["baselines"].values():
        assert set(baseline["metrics"]) == set(metrics["metrics"])
        assert {"value", "low", "high", "p", "p_holm"} <= set(baseline["network_minus_baseline"])


def test_brain_age_is_reported_raw_and_adjusted(finished_age_run: Path) -> None:
    metrics = json.loads((finished_age_run / "metrics.json").read_text())
    assert set(metrics["adjusted"]) == set(metrics["metrics"])
    table = read_table(finished_age_run / "predictions.tsv")
    for number in (1, 2):
        fold = json.loads((finished_age_run / f"folds/{number}/fold.json").read_text())
        validation = read_table(finished_age_run / f"folds/{number}/predictions.tsv")
        validation = validation[validation["part"] == "validation"]
        truth = validation["age"].astype(float)
        gap = validation["predicted_age"].astype(float) - truth
        slope, intercept = np.polyfit(truth, gap, 1)
        bias = fold["member"]["bias"]
        # The line was fitted on this fold's validation rows and on nothing else.
        assert bias["slope"] == pytest.approx(slope, rel=1e-4)
        assert bias["intercept"] == pytest.approx(intercept, rel=1e-4)
        rows = table[table["fold"] == str(number)].astype({"age": float, "predicted_age": float})
        adjusted = rows["predicted_age"] - (slope * rows["age"] + intercept)
        assert np.allclose(rows["adjusted_age"].astype(float), adjusted, atol=1e-3)


def test_the_ledger_counts_every_opening_of_test_rows(finished_run: Path) -> None:
    events = [line["event"] for line in read_lines(finished_run / "ledger.jsonl")]
    assert events[0] == "began"
    assert events.count("test opened") == 2
    assert events[-1] == "scored"


def test_the_written_recipe_runs_again_as_it_is(
    finished_run: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    recipe = Recipe.read(finished_run / "recipe.yaml")
    fit(recipe, read_cohort(cohort_folder), tmp_path / "again")
    first = (finished_run / "predictions.tsv").read_bytes()
    assert (tmp_path / "again" / "predictions.tsv").read_bytes() == first


def test_a_finished_run_is_not_done_again(finished_run: Path, cohort_folder: Path) -> None:
    before = (finished_run / "metrics.json").stat().st_mtime_ns
    fit(tiny_recipe(), read_cohort(cohort_folder), finished_run)
    assert (finished_run / "metrics.json").stat().st_mtime_ns == before


def test_workers_do_not_change_results(
    finished_run: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    execution = Execution(workers=2, store=tmp_path / "store")
    fit(tiny_recipe(), read_cohort(cohort_folder), tmp_path / "run", execution)
    first = (finished_run / "predictions.tsv").read_bytes()
    assert (tmp_path / "run" / "predictions.tsv").read_bytes() == first


def test_nothing_of_the_test_rows_reaches_the_network(cohort_folder: Path, tmp_path: Path) -> None:
    """Other values of the target in the test rows change no weight and no prediction."""
    cohort = read_cohort(cohort_folder)
    split = ["test" if i < 8 else "train" for i in range(len(cohort))]
    runs = []
    for name, turn in (("a", False), ("b", True)):
        table = cohort.table.assign(split=split)
        if turn:
            tested = table["split"] == "test"
            old = table.loc[tested, "age"].astype(float)
            table.loc[tested, "age"] = (150 - old).round(1).astype("string")
        recipe = tiny_recipe(
            task={"kind": "regression", "target": "age"},
            protocol={"kind": "hold-out"},
            train={"balance": "weights"},
        )
        data = type(cohort)(cohort.source, table)
        run = fit(recipe, data, tmp_path / name, Execution(store=tmp_path / "store"))
        runs.append(run)
    first, second = (read_table(run.predictions_file) for run in runs)
    assert not first["age"].equals(second["age"])
    assert first["predicted_age"].equals(second["predicted_age"])
    weights = [(run.model_folder / "fold-1.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": {"kind": "leave-one-site-out"}},
        {"train": {"balance": "sampler", "accumulate": 2}},
        {"train": {"patience": 1, "epochs": 6}},
        {"train": {"ema": 0.9, "keep": "last", "flip_average": True, "augment": "heavy"}},
        {"adapter": {"name": "lora", "rank": 2}, "train": {"precision": "bf16"}},
        {"adapter": {"name": "lora", "rank": 2}, "train": {"precision": "fp32"}},
        {"adapter": {"name": "probe"}},
        {"task": {"kind": "classification", "target": "site", "head": {"kind": "mlp"}}},
        {"task": {"kind": "classification", "target": "dx", "threshold": "youden"}},
        {"task": {"kind": "regression", "target": "age", "loss": "huber"}},
        {"backbone": {"name": "resnet10", "width": 4}},
        {
            "backbone": {
                "name": "vit",
                "patch": 4,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "hidden": 16,
            }
        },
    ],
    ids=str,
)
def test_choices_work_together(
    changes: dict[str, object], cohort_folder: Path, tmp_path: Path
) -> None:
    run = fit(tiny_recipe(**changes), read_cohort(cohort_folder), tmp_path / "run")
    predictions = read_table(run.predictions_file)
    assert len(predictions) == 32
    model = json.loads((run.model_folder / "model.json").read_text())
    task = TASKS.get(run.recipe.task.kind).restore(model["members"][0]["task"])
    assert np.isfinite(predictions[task.columns()].astype(float)).all().all()
    assert run.is_complete


def test_frozen_weights_are_written_once_and_stay_as_they_were(
    cohort_folder: Path, tmp_path: Path
) -> None:
    from braintune.fitting.model import load_member, open_model

    recipe = tiny_recipe(adapter={"name": "lora", "rank": 1})
    run = fit(recipe, read_cohort(cohort_folder), tmp_path / "run")
    assert (run.model_folder / "frozen.safetensors").exists()
    model = open_model(run.path)
    first, second = (load_member(model, member).state_dict() for member in model.members)
    for key, value in first.items():
        same = bool((value == second[key]).all())
        assert same == (
            ".base." in key or "running" in key or "blocks.1.1" in key or ("blocks.0.2" in key)
        ), key


def test_several_sessions_stay_with_their_subject(sessions_folder: Path, tmp_path: Path) -> None:
    run = fit(tiny_recipe(), read_cohort(sessions_folder), tmp_path / "run")
    splits = read_table(run.splits_file)
    for _, fold in splits.groupby("fold"):
        assert fold.groupby("participant_id")["part"].agg(lambda part: len(set(part))).eq(1).all()
    metrics = json.loads(run.metrics_file.read_text())
    assert (metrics["scans"], metrics["subjects"]) == (40, 20)


def test_scans_without_a_target_are_left_out_and_named(cohort_folder: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_folder)
    table = cohort.table.copy()
    table.loc[0, "dx"] = pd.NA
    table.loc[1, "dx"] = "MCI"
    recipe = tiny_recipe(task={"kind": "classification", "target": "dx", "labels": ["CN", "AD"]})
    run = fit(recipe, type(cohort)(cohort.source, table), tmp_path / "run")
    reasons = [event["reason"] for event in run.events("excluded")]
    assert reasons == [
        "the target dx is missing",
        "the target dx is MCI, which is not among the recipe's labels",
    ]
    assert len(read_table(run.predictions_file)) == 30


def test_another_recipe_or_cohort_is_refused(
    finished_run: Path, cohort_folder: Path, sessions_folder: Path
) -> None:
    before = sorted(finished_run.rglob("*"))
    with pytest.raises(
        InputError, match=r"another recipe, which differs in train.epochs \(2 there"
    ):
        fit(tiny_recipe(train={"epochs": 3}), read_cohort(cohort_folder), finished_run)
    with pytest.raises(InputError, match="begun with other scans"):
        fit(tiny_recipe(), read_cohort(sessions_folder), finished_run)
    assert sorted(finished_run.rglob("*")) == before


def test_equal_scans_of_two_subjects_are_refused(cohort_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    scans = sorted(folder.rglob("*.nii.gz"))
    shutil.copy(scans[3], scans[7])
    cohort = read_cohort(folder)
    with pytest.raises(InputError, match="equal to the voxel: sub-004_T1w, sub-008_T1w"):
        fit(tiny_recipe(), cohort, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    kept = cohort.exclude(["sub-008"], "excluded by --exclude")
    run = fit(tiny_recipe(), kept, tmp_path / "run")
    assert run.events("excluded")[0]["id"] == "sub-008_T1w"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"kind": "classification", "target": "dxx"}}, "no column 'dxx'. Did you mean"),
        (
            {"task": {"kind": "regression", "target": "sex"}},
            "must hold numbers, but has '[FM]', '[FM]'",
        ),
        ({"backbone": {"name": "resnet"}}, "Unknown backbone 'resnet'"),
        ({"backbone": {"name": "vit"}}, "multiples of 16"),
        ({"adapter": {"name": "lora", "layers": "nothing"}}, "matches no layer"),
        ({"protocol": {"kind": "cross-validation", "folds": 17}}, "fewer than the 17 folds"),
        ({"backbone": {"name": "sfcn", "weights": "none.safetensors"}}, "do not exist"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_anything_is_written(
    changes: dict[str, object], message: str, cohort_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        fit(tiny_recipe(**changes), read_cohort(cohort_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_must_be_free(cohort_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and is no run"):
        fit(tiny_recipe(), read_cohort(cohort_folder), tmp_path / "thesis")
    with pytest.raises(InputError, match="is no run"):
        RunFolder.open(tmp_path / "thesis")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        fit(tiny_recipe(), read_cohort(cohort_folder), tmp_path / "file")


def test_pretrained_weights_are_the_start(cohort_folder: Path, tmp_path: Path) -> None:
    """A probe over given weights leaves exactly those weights in the model."""
    import torch

    from braintune.fitting.model import load_member, open_model
    from braintune.models.backbone import InputShape, build_backbone
    from braintune.models.weights.tensors import write_tensors

    torch.manual_seed(99)
    options = {"channels": [4, 8], "norm": "instance"}
    backbone = build_backbone("sfcn", InputShape(1, (32, 36, 32)), options)
    write_tensors(tmp_path / "w.safetensors", backbone.state_dict())
    recipe = tiny_recipe(
        backbone={"name": "sfcn", "weights": str(tmp_path / "w.safetensors"), **options},
        adapter={"name": "probe"},
    )
    run = fit(recipe, read_cohort(cohort_folder), tmp_path / "run")
    (tmp_path / "w.safetensors").unlink()
    model = open_model(run.path)
    state = load_member(model, model.members[1]).backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
