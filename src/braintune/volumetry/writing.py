"""The derivative that measuring leaves: tables, what their columns mean, and how it was done."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune._version import __version__
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.files import make_folder, write_json, write_text
from braintune.volumetry.volumes import ENDINGS, ICV, Volumes, VolumesRequest

TABLE = Path("phenotype", "volumes.tsv")
QUALITY = Path("volumes_quality.tsv")
FAILED = Path("failed.tsv")
_QUALITY_TEXTS = {
    "label": "the number in the label map",
    "name": "what the label map's table calls it",
    "voxels": "how many voxels have the label",
    "outside_largest": "share of its voxels outside its largest component, corners connect",
    "border_voxels": "its voxels on a face of the grid",
    "uncertainty": "mean entropy of its voxels in bits, from probabilities",
    "side_ratio": "the larger side for each unit of the smaller, in voxels",
    "z": "robust standard deviations from what is usual",
    "flags": "what is beyond the limits",
}


def write_volumes(volumes: Volumes, request: VolumesRequest, out: Path) -> None:
    """Write a BIDS derivative: ``phenotype/volumes.tsv``, its sidecar, and the quality table."""
    make_folder(out)
    write_description(out, "Volumes of label maps")
    write_text(out / ".bidsignore", "volumes_quality.*\nfailed.tsv\nfigures/\nvolumes.html\n")
    failed = pd.DataFrame(volumes.failed.items(), columns=["scan_id", "problem"])
    if len(failed):
        write_text(out / FAILED, write_table_text(failed))
    write_text(out / QUALITY, write_table_text(_readable(volumes.quality)))
    limits = {name: {"Description": text} for name, text in _QUALITY_TEXTS.items()}
    write_json((out / QUALITY).with_suffix(".json"), limits)
    write_json((out / TABLE).with_suffix(".json"), sidecar(volumes, request))
    # Last: a folder with the table is whole.
    write_text(out / TABLE, write_table_text(_readable(volumes.table)))


def sidecar(volumes: Volumes, request: VolumesRequest) -> dict[str, Any]:
    """What each column is, in which unit, and how it was measured."""
    columns: dict[str, Any] = {}
    if request.icv is not None:
        columns[ICV] = {
            "Description": f"intracranial volume: {request.icv.describe()}",
            "Units": "mm3",
        }
    for key, structure in volumes.structures.items():
        what = {"Label": structure.value, "Name": structure.name, "Side": structure.side}
        columns[f"{key}{ENDINGS['none']}"] = {
            "Description": f"volume of {structure.name}",
            "Units": "mm3",
            **what,
        }
        if request.normalise != "none":
            columns[f"{key}{ENDINGS[request.normalise]}"] = {
                "Description": _normalised_text(structure.name, request),
                "Units": "mm3" if request.normalise == "residual" else "1",
                **what,
            }
    for name in volumes.table.columns:
        if name.endswith("_asymmetry"):
            columns[name] = {"Description": "(left − right) / (left + right)", "Units": "1"}
    columns["flags"] = {"Description": "what looks wrong, by structure; see volumes_quality.tsv"}
    return {"MeasurementToolMetadata": _method(volumes, request), **columns}


def _method(volumes: Volumes, request: VolumesRequest) -> dict[str, Any]:
    """How it was measured."""
    residual = volumes.residual
    by_probability = "sum of probabilities times the volume of a voxel"
    return {
        "Description": "volumes of the structures of label maps",
        "Version": f"braintune {__version__}",
        "Volume": by_probability if request.partial_volume else "voxels times their volume",
        "VoxelVolume": "absolute determinant of the affine",
        "Normalisation": request.normalise,
        "IntracranialVolume": request.icv.describe() if request.icv else None,
        "Residual": None
        if residual is None
        else {
            "Reference": "=".join(request.reference) if request.reference else "all rows",
            "Rows": residual.rows,
            "MeanIntracranialVolume": residual.mean_icv,
            "Slopes": dict(zip(volumes.structures, residual.slopes.tolist(), strict=True)),
        },
        "OutliersAdjustedFor": list(volumes.adjusted_for),
        "Limits": vars(request.limits),
        "Scans": len(volumes.table),
        "Failed": len(volumes.failed),
        "Cautions": list(volumes.cautions),
    }


def _normalised_text(name: str, request: VolumesRequest) -> str:
    if request.normalise == "proportion":
        return f"volume of {name} for each mm³ of the intracranial volume"
    return (
        f"volume of {name} minus slope · (intracranial volume − its mean), fitted on reference rows"
    )


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers of nine digits, which is what a float32 network could ever tell."""
    readable = table.copy()
    for name in readable.columns:
        if readable[name].dtype == np.float64:
            readable[name] = [None if np.isnan(v) else f"{v:.9g}" for v in readable[name]]
    return readable
