"""The end of a run of label maps: scores of all folds, pictures of the worst, the model."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.label_maps import LABEL_PATH
from braintune.cohort.tables import read_table, write_table_text
from braintune.evaluation.label_metrics import LabelScores
from braintune.evaluation.label_summary import summarise_labels
from braintune.files import read_json, write_bytes, write_json, write_text
from braintune.fitting.model import save_model
from braintune.fitting.segmentation.fold import label_map_path
from braintune.fitting.segmentation.plan import SegmentationPlan
from braintune.imaging.grid import resample_labels
from braintune.imaging.label_maps import read_label_map
from braintune.imaging.label_pictures import color_png, contour_slices
from braintune.imaging.labelled import prepare_whole
from braintune.run import RunFolder

_WORST = 8


def finish_segmentation(run: RunFolder, plan: SegmentationPlan) -> None:
    """Score a run from the files of its folds, so that a resumed one can't differ."""
    folders = [run.fold_folder(number) for number in range(len(plan.folds))]
    tables = [read_table(folder / "predictions.tsv") for folder in folders]
    folds: list[dict[str, Any]] = [read_json(folder / "fold.json") for folder in folders]
    table = pd.concat(tables, ignore_index=True)
    write_text(run.predictions_file, write_table_text(table))
    scores = read_scores(table)
    _write_cases(run, plan, scores)
    save_model(
        run.model_folder,
        plan.recipe,
        [fold["member"] for fold in folds],
        {"seen": sorted(plan.cohort.table["voxels"])},
    )
    document = summarise_labels(scores, plan.task.table.names)
    document["seconds"] = sum(float(fold["seconds"]) for fold in folds)
    # Written last: a run with metrics is complete.
    write_json(run.metrics_file, document)
    run.note("scored")


def read_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The table of a run's predictions, with numbers for its scores."""
    names = LabelScores.names()
    return table.assign(**{name: table[name].astype("float64") for name in names})


def _write_cases(run: RunFolder, plan: SegmentationPlan, scores: pd.DataFrame) -> None:
    """Pictures of the scans with the least mean Dice."""
    dice = scores.groupby("scan_id", sort=False)["dice"].mean().sort_values(kind="stable")
    rows = {row["scan_id"]: row for row in plan.cohort.table.to_dict("records")}
    cases = []
    for number, (scan_id, value) in enumerate(dice.iloc[:_WORST].items(), start=1):
        picture = f"{number}.png"
        content = _picture(run, plan, rows[scan_id])
        write_bytes(run.cases_file.parent / picture, content)
        cases.append({"scan_id": scan_id, "picture": picture, "error": float(1 - value)})
    write_json(run.cases_file, cases)


def _picture(run: RunFolder, plan: SegmentationPlan, facts: dict[Hashable, Any]) -> bytes:
    """Contours of what was found and of what is true."""
    scan = prepare_whole(Path(facts["path"]), plan.recipe.prepare)
    paths = (label_map_path(run, plan, facts["scan_id"]), Path(facts[LABEL_PATH]))
    found, true = (
        resample_labels(read_label_map(path, scan.native, plan.task.table), scan.native, scan.grid)
        for path in paths
    )
    return color_png(contour_slices(scan.image[0].astype(np.float32), found, true))
