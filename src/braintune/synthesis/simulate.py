"""A simulated cohort on disk: a BIDS dataset of warped MNI152 brains with planted effects."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from braintune._version import __version__
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.console import progress
from braintune.files import explained, make_folder, refuse_occupied, write_json, write_text
from braintune.imaging.nifti import write_volume
from braintune.synthesis.anatomy import Anatomy, mni152
from braintune.synthesis.deformation import (
    GrowthFields,
    exponential,
    growth_fields,
    positions,
    sample,
    smooth_noise,
)
from braintune.synthesis.population import (
    SimulationRecipe,
    Subject,
    ages_at_sessions,
    draw_subjects,
    planted,
)
from braintune.synthesis.scanner import acquire, draw_scanner

# For each region that grows, the one that shrinks in return. Thinning cortex draws the brain's
# surface in; widening sulci press on their banks.
GIVES_WAY = {
    "ventricles": "brain",
    "sulci": "cortex",
    "cortex": "surroundings",
    "hippocampus_left": "brain",
    "hippocampus_right": "brain",
}
_MEASURED = ("brain", *GIVES_WAY)
# How different brains are besides the planted effects: root mean square velocity in millimetres of
# a coarse and a fine random field, and the scales in millimetres over which they vary.
_SHAPE_NOISE = ((1.6, 36.0), (0.6, 16.0))
_ROTATION_DEGREES, _SHIFT_MM = 3.0, 3.0


def simulate(out: Path, recipe: SimulationRecipe) -> pd.DataFrame:
    """Write a simulated cohort as a BIDS dataset.

    Age widens ventricles and sulci and thins the cortex, disease shrinks the hippocampi and widens
    the ventricles, males have larger heads. ``truth.tsv`` records the volumes that each scan really
    has after the deformation, and its scanner.

    Args:
        out: A new or empty folder; it appears when the cohort is complete.
        recipe: How many, how large the effects, and the seed.

    Returns:
        The rows of ``truth.tsv``.

    Raises:
        InputError: If the folder is not empty or can't be written.
    """
    refuse_occupied(out, "the simulated cohort")
    make_folder(out.parent)
    with explained(out):
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        truth = _fill(building, recipe)
        with explained(out):
            building.chmod(0o755)
            if out.exists():
                out.rmdir()
            building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return truth


def _fill(root: Path, recipe: SimulationRecipe) -> pd.DataFrame:
    anatomy = mni152(recipe.spacing)
    fields = growth_fields(anatomy, GIVES_WAY)
    subjects = draw_subjects(recipe)
    rows = []
    with progress("Simulating", len(subjects) * recipe.sessions) as bar:
        for subject in subjects:
            for number, age in enumerate(ages_at_sessions(subject, recipe.sessions), start=1):
                session = f"ses-{number}" if recipe.sessions > 1 else None
                image, volumes = _scan(subject, number, age, anatomy, fields, recipe)
                write_volume(_image_path(root, subject.id, session), image, anatomy.affine)
                keys = {"participant_id": subject.id, "session_id": session, "age": age}
                rows.append({**keys, "sex": subject.sex, "dx": subject.dx, **volumes})
                bar.advance()
    truth = pd.DataFrame(rows)
    _write_tables(root, recipe, subjects, truth)
    return truth


def _scan(
    subject: Subject,
    session: int,
    age: float,
    anatomy: Anatomy,
    fields: GrowthFields,
    recipe: SimulationRecipe,
) -> tuple[np.ndarray, dict[str, float | str]]:
    """One session of one subject: the image, and the volumes that it really has."""
    changes = planted(subject, age, recipe.effect)
    person = torch.Generator().manual_seed(subject.seed)
    visit = torch.Generator().manual_seed(subject.seed + session)
    velocity = _own_shape(anatomy, fields.spacing, person)
    for name, field in zip(fields.names, fields.fields, strict=True):
        velocity = velocity + changes[name] * field
    # Positions in the subject map back to the template: the inverse flow, hence the minus sign.
    displacement = exponential(-velocity[None])
    pose = _pose(changes["head"], fields.spacing, visit)
    where = positions(displacement, pose)
    ideal = torch.from_numpy(np.stack([anatomy.t1, anatomy.regions["brain"]]))[None]
    t1, brain = sample(ideal, where)[0]
    scanner = draw_scanner(recipe.seed, subject.site)
    image = acquire(t1, (brain > 0.5).float(), scanner, fields.spacing, visit)
    volumes = _measure(anatomy, where, fields.spacing)
    return image.round().to(torch.int16).numpy(), {**volumes, "site": f"site{subject.site + 1}"}


def _own_shape(anatomy: Anatomy, spacing: float, person: torch.Generator) -> torch.Tensor:
    """The random velocity field that tells one brain from another, in voxels."""
    shape = (anatomy.t1.shape[0], anatomy.t1.shape[1], anatomy.t1.shape[2])
    fields = [
        size / spacing * smooth_noise(shape, scale / spacing, person)
        for size, scale in _SHAPE_NOISE
    ]
    return torch.stack(fields).sum(0)


def _pose(head: float, spacing: float, visit: torch.Generator) -> torch.Tensor:
    """Rotation, shift and head size as one map from the scan to the template, (1, 3, 4)."""
    angles = torch.randn(3, generator=visit) * np.deg2rad(_ROTATION_DEGREES)
    skew = torch.zeros(3, 3)
    skew[0, 1], skew[0, 2], skew[1, 2] = angles
    rotation = torch.linalg.matrix_exp(skew - skew.T)
    shift = torch.randn(3, 1, generator=visit) * _SHIFT_MM / spacing
    return torch.cat([rotation * float(np.exp(-head / 3)), shift], dim=1)[None]


def _measure(anatomy: Anatomy, where: torch.Tensor, spacing: float) -> dict[str, float | str]:
    """Volumes in millilitres of the deformed regions, from every second voxel along each axis."""
    regions = torch.from_numpy(np.stack([anatomy.regions[name] for name in _MEASURED]))[None]
    sums = sample(regions, where[:, ::2, ::2, ::2])[0].sum(dim=(1, 2, 3))
    millilitres = sums * (2 * spacing) ** 3 / 1000
    return {
        f"{name}_ml": round(float(v), 3) for name, v in zip(_MEASURED, millilitres, strict=True)
    }


def _image_path(root: Path, subject: str, session: str | None) -> Path:
    folder = root / subject / session if session else root / subject
    entities = f"{subject}_{session}" if session else subject
    return folder / "anat" / f"{entities}_T1w.nii.gz"


def _write_tables(
    root: Path, recipe: SimulationRecipe, subjects: list[Subject], truth: pd.DataFrame
) -> None:
    people = pd.DataFrame(
        {
            "participant_id": [s.id for s in subjects],
            "age": [s.age for s in subjects],
            "sex": [s.sex for s in subjects],
            "dx": [s.dx for s in subjects],
            "site": [f"site{s.site + 1}" for s in subjects],
        }
    )
    write_text(root / "participants.tsv", write_table_text(people))
    write_json(root / "participants.json", _COLUMNS)
    if recipe.sessions > 1:
        for subject, rows in truth.groupby("participant_id"):
            path = root / str(subject) / f"{subject}_sessions.tsv"
            write_text(path, write_table_text(rows[["session_id", "age"]]))
        write_json(root / "sessions.json", {"age": _COLUMNS["age"]})
    else:
        truth = truth.drop(columns=["session_id"])
    write_text(root / "truth.tsv", write_table_text(truth))
    write_json(root / "truth.json", _TRUTH)
    write_text(root / ".bidsignore", "truth.*\n")
    write_text(root / "README", _README.format(**recipe.model_dump(), version=__version__))
    made = {"Name": "braintune", "Version": __version__, "Description": recipe.model_dump_json()}
    write_description(
        root,
        "Simulated T1w brains with planted effects of age, sex and disease",
        "raw",
        License="CC0",
        Authors=["braintune simulate"],
        Acknowledgements="Warped from the ICBM 2009a MNI152 template (Fonov et al. 2011).",
        GeneratedBy=[made],
    )


_COLUMNS = {
    "age": {"Description": "age at the scan", "Units": "year"},
    "sex": {"Description": "sex", "Levels": {"F": "female", "M": "male"}},
    "dx": {
        "Description": "planted diagnosis",
        "Levels": {"CN": "control", "AD": "smaller hippocampi, wider ventricles"},
    },
    "site": {"Description": "simulated scanner"},
}
_TRUTH = {
    f"{name}_ml": {
        "Description": f"volume of the {name.replace('_', ' ')} after deformation",
        "Units": "mL",
    }
    for name in _MEASURED
}
_README = """# Simulated cohort

{subjects} people with {sessions} session(s) each, at {spacing} mm, from {sites} simulated
scanners, written by braintune {version} with the seed {seed}. All planted effects were multiplied
by {effect}.

The scans are the MNI152 template under smooth random deformations. Age widens ventricles and sulci
and thins the cortex; the diagnosis AD shrinks the hippocampi and widens the ventricles; males have
larger heads. `truth.tsv` holds the volumes that each scan really has. No person was scanned.
"""
