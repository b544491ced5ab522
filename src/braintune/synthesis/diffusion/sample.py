"""A cohort of sampled scans on the disk, as BIDS, with what was asked for as its labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, NonNegativeInt

from braintune._version import __version__
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.console import progress
from braintune.errors import InputError
from braintune.files import (
    digest,
    make_folder,
    read_json,
    refuse_occupied,
    write_bytes,
    write_json,
    write_text,
)
from braintune.imaging.nifti import write_volume
from braintune.models.weights.tensors import sha256_of
from braintune.recipe import Section
from braintune.synthesis.diffusion.asking import asked_for
from braintune.synthesis.diffusion.conditions import Condition, Values
from braintune.synthesis.diffusion.model import RECORD, SEEN, DiffusionModel, read_model
from braintune.synthesis.diffusion.sampling import demand_guidance, sample_images, tidied

GENERATOR = "generator.json"
# Sampled intensities of 1 are written as this, so that int16 keeps three digits.
_WHITE = 1000
_PARTICIPANTS = "participants.tsv"


class SampleRecipe(Section):
    """How scans are sampled.

    Attributes:
        count: How many.
        steps: Steps of DDIM.
        guidance: Of classifier-free guidance; 1 is none.
        batch_size: Scans that are computed together, which changes none of them but by rounding.
        seed: The same seed and model give the same scans.
        conditions: Conditions that all scans share, in [0, 1]; the others are drawn as they were
            together in training rows.
    """

    count: int = Field(10, ge=1, le=1_000_000)
    steps: int = Field(50, ge=1)
    guidance: float = Field(1.0, ge=0, le=100)
    batch_size: int = Field(4, ge=1)
    seed: NonNegativeInt = 0
    conditions: dict[str, float] = Field({})


@dataclass(frozen=True)
class Sampled:
    """What sampling gave.

    Attributes:
        table: ``participants.tsv``.
        made: How many scans were made now; the others were there.
    """

    table: pd.DataFrame
    made: int


def sample(folder: Path, out: Path, recipe: SampleRecipe, device: torch.device) -> Sampled:
    """Write sampled scans as a BIDS cohort, or go on with one that was stopped.

    Args:
        folder: The model's folder.
        out: The cohort, new or begun by the same call. ``participants.tsv`` appears when all scans
            are there.
        recipe: What to sample.
        device: Where to compute.

    Raises:
        InputError: If the model, the recipe and the folder do not fit together; nothing is written
            then.
    """
    model = read_model(folder)
    record = model.record
    demand_guidance(record.recipe, recipe.guidance)
    values = asked_for(
        record.conditions, model.seen, recipe.conditions, count=recipe.count, seed=recipe.seed
    )
    most = record.recipe.denoiser.timesteps
    if recipe.steps > most:
        raise InputError(f"steps must be at most {most}, the model's timesteps.")
    names = _names(recipe.count)
    _begin(out, folder, recipe, model)
    model.autoencoder.to(device)
    model.denoiser.to(device)
    todo = [i for i, name in enumerate(names) if not _image(out, name).exists()]
    with progress("Sampling", recipe.count) as bar:
        bar.skip(recipe.count - len(todo))
        for start in range(0, len(todo), recipe.batch_size):
            numbers = todo[start : start + recipe.batch_size]
            images = sample_images(
                model,
                values[numbers],
                numbers,
                seed=recipe.seed,
                steps=recipe.steps,
                guidance=recipe.guidance,
                device=device,
            )
            if not images.isfinite().all():
                msg = "The model gave numbers that are not finite. Train it again, with a lower lr."
                raise InputError(msg)
            for number, image in zip(numbers, images[:, 0].numpy(), strict=True):
                voxels = (tidied(image) * _WHITE).clip(0, 32_767).round().astype(np.int16)
                write_volume(_image(out, names[number]), voxels, np.array(record.affine))
            bar.advance(len(numbers))
    table = _labels(names, record.conditions, values)
    write_json(out / "participants.json", _column_facts(record.conditions))
    write_text(out / _PARTICIPANTS, write_table_text(table))
    return Sampled(table, made=len(todo))


def _names(count: int) -> list[str]:
    width = max(4, len(str(count)))
    return [f"sub-{number + 1:0{width}d}" for number in range(count)]


def _image(out: Path, name: str) -> Path:
    return out / name / "anat" / f"{name}_T1w.nii.gz"


def _begin(out: Path, folder: Path, recipe: SampleRecipe, model: DiffusionModel) -> None:
    """Claim the folder, or make sure that it was begun by the same call."""
    model_hash = sha256_of(folder / RECORD)
    # The size of batches may change when a stopped call is made again.
    identity = digest([model_hash, recipe.model_dump(exclude={"batch_size"})])
    path = out / GENERATOR
    if path.exists():
        if read_json(path).get("identity") != identity:
            msg = f"{out} was begun with another model or recipe. Choose a new folder."
            raise InputError(msg)
        return
    refuse_occupied(out, "the samples")
    make_folder(out)
    write_text(out / ".bidsignore", f"{GENERATOR}\n{SEEN}\nquality\n")
    write_text(out / "README", _README.format(count=recipe.count, version=__version__))
    name = "T1w scans sampled from a latent diffusion model"
    write_description(out, name, "raw", **_description(model))
    if SEEN in model.record.sha256:
        write_bytes(out / SEEN, (folder / SEEN).read_bytes())
    document: dict[str, Any] = {
        "identity": identity,
        "model": model_hash,
        "recipe": recipe.model_dump(mode="json"),
        "prepare": model.record.recipe.prepare.model_dump(mode="json"),
        "conditions": [c.model_dump(mode="json") for c in model.record.conditions],
    }
    write_json(path, document)


def _labels(names: list[str], conditions: tuple[Condition, ...], values: Values) -> pd.DataFrame:
    table = pd.DataFrame({"participant_id": names})
    for number, condition in enumerate(conditions):
        natural = [condition.natural(float(value)) for value in values[:, number]]
        if condition.kind != "unknown":
            table[condition.column] = natural
        table[f"{condition.name}_unit"] = [f"{value:.5f}" for value in values[:, number]]
    return table


def _column_facts(conditions: tuple[Condition, ...]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for condition in conditions:
        if condition.kind != "unknown":
            facts[condition.column] = {"Description": f"{condition.name} that was asked for"}
        facts[f"{condition.name}_unit"] = {
            "Description": f"{condition.name} that was asked for, scaled to [0, 1]"
        }
    return facts


def _description(model: DiffusionModel) -> dict[str, Any]:
    record = model.record
    description: dict[str, Any] = {"Authors": ["braintune synthesize sample"]}
    if record.licence:
        description["License"] = record.licence
    if record.citation:
        description["ReferencesAndLinks"] = [record.citation]
    return description


_README = """# Sampled scans

{count} scans that a latent diffusion model made, written by braintune {version}. No person was
scanned. `participants.tsv` says what was asked for, in units of the training cohort and scaled to
[0, 1]; a scan need not have it. `braintune synthesize report` measures how far it does.
"""
