"""A finished run of label maps on scans that it has never seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.console import progress
from braintune.errors import InputError
from braintune.files import digest, make_folder, write_bytes, write_json, write_text
from braintune.fitting.segmentation.journal import Journal, is_unfinished
from braintune.fitting.segmentation.model import load_segmenter, open_segmentation_model
from braintune.fitting.segmentation.naming import derivative_names
from braintune.fitting.segmentation.segmenter import Segmented, Segmenter
from braintune.imaging.discover import discover_scans
from braintune.imaging.label_pictures import color_png, contour_slices
from braintune.imaging.nifti import ScanError, write_volume
from braintune.recipe import Recipe, ScansRecipe
from braintune.tasks.segmentation import Segmentation

SEEN_WARNING = "the run was fitted with this scan: no evidence of how good it is"


@dataclass(frozen=True)
class Segmentations:
    """What segmenting gave.

    Attributes:
        table: One row a scan: its label map, the volume of each label in mm³, warnings; scans that
            could not be used have their reason instead.
        failed: How many scans could not be used.
        empty: How many scans are all background.
    """

    table: pd.DataFrame
    failed: int
    empty: int


@dataclass(frozen=True)
class Output:
    """Where and what is written.

    Attributes:
        folder: The derivative.
        recipe: Of the run.
        task: Of the run.
        with_probabilities: Whether the probability of each label is written too.
    """

    folder: Path
    recipe: Recipe
    task: Segmentation
    with_probabilities: bool


def segment(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    *,
    scans: ScansRecipe | None = None,
    with_probabilities: bool = False,
) -> Segmentations:
    """Segment scans with a run, each in its own voxels, and write a BIDS derivative.

    What was stopped goes on with the same call: scans that are done are not segmented again.

    Args:
        run: A finished run, or a copy of its model folder.
        sources: Image files, folders, BIDS datasets or tables.
        out: Where to write, new or empty.
        scans: Which files of a BIDS dataset to take; by default those that the run was fitted on.
        with_probabilities: Write the probability of each label too.

    Raises:
        InputError: If there is no finished run, no scan, or no scan that can be used; nothing but
            empty folders is written then.
    """
    model = open_segmentation_model(run)
    cohort = discover_scans(sources, scans or model.recipe.scans)
    paths = cohort.table[["scan_id", "path"]].to_numpy().tolist()
    journal = Journal.open(out, digest([model.identity, paths, with_probabilities]))
    output = Output(out, model.recipe, model.task, with_probabilities)
    if len(journal.rows) < len(cohort):
        _segment_rest(load_segmenter(model), cohort, output, model.seen, journal)
    return _finish(cohort, output, journal)


def is_segmented(folder: Path) -> bool:
    """Whether `segment` has done all of its work in a folder."""
    return any(folder.glob("desc-*_segmentations.tsv")) and not is_unfinished(folder)


def _segment_rest(
    segmenter: Segmenter, cohort: Cohort, output: Output, seen: frozenset[str], journal: Journal
) -> None:
    """Segment the scans of a cohort that the journal does not have."""
    names = derivative_names(cohort.table, output.task.desc)
    with progress("Segmenting", len(cohort)) as bar:
        bar.skip(len(journal.rows))
        for scan_id, path in zip(cohort.table["scan_id"], cohort.table["path"], strict=True):
            if scan_id in journal.rows:
                continue
            row: dict[str, Any] = {"scan_id": scan_id, "label_map": None, "warning": None}
            try:
                found = segmenter(Path(path))
            except ScanError as error:
                journal.note({**row, "problem": str(error)})
            else:
                name = names[scan_id]
                _write_scan(output, name, found)
                facts = _facts(output.task, name, found, seen)
                journal.note({**row, **facts, "problem": None})
            bar.advance(note=str(scan_id))


def _finish(cohort: Cohort, output: Output, journal: Journal) -> Segmentations:
    """Write what is said of all scans.

    Raises:
        InputError: If no scan can be used.
    """
    keys = cohort.table[["scan_id", "participant_id", "session_id"]]
    table = keys.merge(pd.DataFrame(journal.rows.values()), on="scan_id", how="left")
    failed = int(table["problem"].notna().sum())
    if failed == len(table):
        journal.close()
        raise InputError(f"No scan could be used. {table['problem'].iloc[0]}")
    volumes = [_column(name) for name in output.task.table.names]
    empty = int((table[volumes].astype("float64").sum(axis=1, min_count=1) == 0).sum())
    if not failed:
        table = table.drop(columns=["problem"])
    _write_dataset(output, table)
    journal.close()
    return Segmentations(table, failed, empty)


def _facts(
    task: Segmentation, name: Path, found: Segmented, seen: frozenset[str]
) -> dict[str, Any]:
    """The row of one scan."""
    warnings = []
    if not found.labels.any():
        warnings.append("all background: nothing was found; look at the picture")
    elif missing := [n for n, v in zip(task.table.names, found.volumes, strict=True) if not v]:
        warnings.append(f"not found: {', '.join(missing)}")
    if _touches_edge(found):
        warnings.append("touches the edge of the scan, so part of it may be cut off")
    if seen and found.scan.prepared().voxels in seen:
        warnings.append(SEEN_WARNING)
    return {
        "label_map": f"{name}_dseg.nii.gz",
        **{
            _column(label): f"{volume:.6g}"
            for label, volume in zip(task.table.names, found.volumes, strict=True)
        },
        "warning": "; ".join(warnings) or None,
    }


def _touches_edge(found: Segmented) -> bool:
    labels = found.labels
    return any(bool(labels.take([0, -1], axis=axis).any()) for axis in range(3))


def _column(label: str) -> str:
    return f"{label}_mm3"


def _write_scan(output: Output, name: Path, found: Segmented) -> None:
    """The label map, its picture and, if wanted, its probabilities; the label map last."""
    task, folder = output.task, output.folder
    picture = contour_slices(found.image(), found.on_scan(found.labels))
    write_bytes(folder / "figures" / f"{name.name}_dseg.png", color_png(picture))
    stem = folder / name
    if output.with_probabilities:
        chances = np.moveaxis(found.native_chances()[1:], 0, -1)
        write_volume(stem.with_name(f"{stem.name}_probseg.nii.gz"), chances, found.native.affine)
        write_json(
            stem.with_name(f"{stem.name}_probseg.json"), {"LabelMap": list(task.table.names)}
        )
    written = task.table.written(found.labels)
    write_volume(stem.with_name(f"{stem.name}_dseg.nii.gz"), written, found.native.affine)


def _write_dataset(output: Output, table: pd.DataFrame) -> None:
    """What is said of all scans: the dataset, the labels, the table of volumes and warnings."""
    task, folder = output.task, output.folder
    make_folder(folder)
    write_description(folder, f"Segmentations of {task.target}")
    labels = pd.DataFrame(
        {"index": [0, *task.table.values], "name": ["background", *task.table.names]}
    )
    write_text(folder / f"desc-{task.desc}_dseg.tsv", write_table_text(labels))
    write_text(folder / f"desc-{task.desc}_segmentations.tsv", write_table_text(table))
    texts = {
        "scan_id": "the file's name",
        "label_map": "the label map, within this folder",
        "warning": "what to look at",
        "problem": "why the scan could not be used",
    }
    texts |= {_column(name): f"volume of {name}, in mm³" for name in task.table.names}
    columns = {name: {"Description": texts[name]} for name in table.columns if name in texts}
    write_json(
        folder / f"desc-{task.desc}_segmentations.json",
        {"Recipe": output.recipe.model_dump(mode="json"), **columns},
    )
    write_text(folder / ".bidsignore", "*_segmentations.*\nfigures/\n")
