"""One fold of a fit of label maps: train, segment the test scans once, write how good they are."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.label_maps import LABEL_PATH
from braintune.cohort.tables import write_table_text
from braintune.console import Progress
from braintune.evaluation.label_metrics import score_labels
from braintune.files import write_json, write_text
from braintune.fitting.machinery import Machinery
from braintune.fitting.model import member_document, save_member
from braintune.fitting.segmentation.lesson import (
    LabelledScans,
    SegmentationData,
    SegmentationLesson,
)
from braintune.fitting.segmentation.naming import derivative_names
from braintune.fitting.segmentation.plan import SegmentationPlan
from braintune.fitting.segmentation.segmenter import Segmented, Segmenter
from braintune.fitting.training import Trainer
from braintune.imaging.label_maps import read_label_map
from braintune.imaging.loader import ScanLoader
from braintune.imaging.nifti import spacing_of, write_volume
from braintune.imaging.store import PreparedStore
from braintune.run import RunFolder


def fit_segmentation_fold(
    run: RunFolder,
    plan: SegmentationPlan,
    store: PreparedStore,
    number: int,
    machinery: Machinery,
    bar: Progress,
) -> None:
    """Train a fold's network, or finish what an earlier session began, and test it.

    Test scans are segmented from their own files and scored in their own voxels.
    """
    fold, fabric = plan.folds[number], machinery.fabric
    scans = LabelledScans(store)
    loader = ScanLoader(scans, plan.cohort.scan_ids, pin=fabric.device.type == "cuda")
    data = SegmentationData(loader, fold, number)
    lesson = SegmentationLesson(plan.recipe, plan.task, data, machinery)
    trainer = Trainer(plan.recipe, lesson, data, machinery)
    bar.skip(trainer.resume())
    trainer.run(bar)
    if not fabric.is_global_zero:
        return
    run.note("test opened", fold=fold.name, scans=len(fold.test))
    network = trainer.network.eval()

    def predict(images: Any) -> Any:
        with fabric.autocast():
            return network(images)

    segmenter = Segmenter.of(plan.recipe, plan.task, [predict], machinery.precision, fabric.device)
    folder = run.fold_folder(number)
    table = _test(run, plan, number, segmenter)
    write_text(folder / "predictions.tsv", write_table_text(table))
    saved = save_member(run.model_folder, number, network)
    write_json(
        folder / "fold.json",
        {
            "fold": fold.name,
            "best_epoch": trainer.best_epoch,
            "seconds": sum(entry["seconds"] for entry in trainer.history),
            "member": member_document(saved, plan.task, float("nan"), None),
        },
    )
    machinery.checkpoint.unlink(missing_ok=True)
    run.note("fold finished", fold=fold.name)


def label_map_path(run: RunFolder, plan: SegmentationPlan, scan_id: str) -> Path:
    """Where a run keeps the label map of a test scan."""
    name = derivative_names(plan.cohort.table, plan.task.desc)[scan_id]
    return run.segmentations_folder / name.with_name(f"{name.name}_dseg.nii.gz")


def _test(
    run: RunFolder, plan: SegmentationPlan, number: int, segmenter: Segmenter
) -> pd.DataFrame:
    """Segment the test scans; one row a scan and label."""
    rows: list[dict[str, Any]] = []
    for row in plan.folds[number].test:
        facts = plan.cohort.table.iloc[int(row)]
        found = segmenter(Path(facts["path"]))
        path = label_map_path(run, plan, facts["scan_id"])
        write_volume(path, plan.task.table.written(found.labels), found.native.affine)
        rows += [
            {
                "scan_id": facts["scan_id"],
                "participant_id": facts["participant_id"],
                "session_id": facts["session_id"],
                "fold": plan.folds[number].name,
                **scores,
            }
            for scores in _scores(plan, found, Path(facts[LABEL_PATH]))
        ]
    return pd.DataFrame(rows)


def _scores(plan: SegmentationPlan, found: Segmented, label_map: Path) -> list[dict[str, Any]]:
    """How good each label of one scan is, in the scan's own voxels."""
    table = plan.task.table
    reference = read_label_map(label_map, found.native, table)
    x, y, z = (float(size) for size in spacing_of(found.native.affine))
    scores = score_labels(found.labels, reference, (x, y, z), len(table))
    return [
        {"label": name, **{key: _text(value) for key, value in asdict(of_label).items()}}
        for name, of_label in zip(table.names, scores, strict=True)
    ]


def _text(value: float) -> str | None:
    """A number for a table, where NaN is a missing value."""
    return None if np.isnan(value) else f"{value:.9g}"
