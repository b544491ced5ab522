"""A model on the disk: two files of weights, and a record that says all of the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from pydantic import Field, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from torch import nn

from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing
from braintune.files import read_json, write_json
from braintune.models.weights.tensors import read_tensors, sha256_of
from braintune.recipe import Section
from braintune.registry import explain
from braintune.synthesis.diffusion.conditions import Condition
from braintune.synthesis.diffusion.networks import (
    ConditionedDenoiser,
    build_autoencoder,
    build_denoiser,
)
from braintune.synthesis.diffusion.recipe import DiffusionRecipe

RECORD, SEEN = "model.json", "seen.tsv"
AUTOENCODER, DENOISER = "autoencoder.safetensors", "denoiser.safetensors"
_LARGEST_RECORD = 1_000_000
Row = tuple[float, float, float, float]


class ModelRecord(Section):
    """What is known of a model.

    Attributes:
        format: Of this record.
        recipe: How it was made.
        conditions: Its conditions, in the networks' order.
        scale: By which latents are multiplied for the denoiser.
        affine: From voxels of its scans to world millimetres.
        sha256: Hash of each file beside the record.
        trained_on: How many scans.
        licence: Of published weights.
        citation: Of published weights.
        measured: What was measured at the end of training.
    """

    format: Literal["braintune latent diffusion 1"] = "braintune latent diffusion 1"
    recipe: DiffusionRecipe
    conditions: tuple[Condition, ...]
    scale: float = Field(gt=0, allow_inf_nan=False)
    affine: tuple[Row, Row, Row, Row]
    sha256: dict[Literal["autoencoder.safetensors", "denoiser.safetensors", "seen.tsv"], str]
    trained_on: int | None = None
    licence: str | None = None
    citation: str | None = None
    measured: dict[str, Any] = Field({})

    @field_validator("affine")
    @classmethod
    def _invertible(cls, rows: tuple[Row, Row, Row, Row]) -> tuple[Row, Row, Row, Row]:
        matrix = np.array(rows)
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
            msg = "the affine can't be inverted"
            raise ValueError(msg)
        return rows

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        if len({condition.name for condition in conditions}) < len(conditions):
            msg = "two conditions have one name"
            raise ValueError(msg)
        return conditions


@dataclass(frozen=True)
class DiffusionModel:
    """A model that is ready to sample from.

    Attributes:
        record: What is known of it.
        autoencoder: In evaluation mode.
        denoiser: In evaluation mode.
        seen: Scans that it was trained on, and their conditions in [0, 1]; None where not told.
    """

    record: ModelRecord
    autoencoder: AutoencoderKL
    denoiser: ConditionedDenoiser
    seen: pd.DataFrame | None


def write_record(folder: Path, record: ModelRecord) -> None:
    """Finish a model's folder: its files are there, the record makes them a model."""
    write_json(folder / RECORD, record.model_dump(mode="json"))


def hashes(folder: Path, *names: str) -> dict[str, str]:
    """The sha256 of some files of a folder."""
    return {name: sha256_of(folder / name) for name in names}


def read_record(folder: Path) -> ModelRecord:
    """Read a model's record.

    Raises:
        InputError: If the folder holds no finished model, or its record is not right.
    """
    path = folder / RECORD
    if not path.is_file():
        msg = f"{folder} holds no finished model ({RECORD} is missing)."
        raise InputError(f"{msg} Make one with 'braintune synthesize train'.")
    if path.stat().st_size > _LARGEST_RECORD:
        raise InputError(f"{path} is larger than 1 MB, which no record is.")
    try:
        record = ModelRecord.model_validate(read_json(path))
    except ValidationError as error:
        msg = f"{path} is no right record:\n{explain(error, ModelRecord, '')}"
        raise InputError(msg) from None
    if [c.name for c in record.conditions] != list(record.recipe.conditions):
        raise InputError(f"{path} scales other conditions than its recipe names.")
    return record


def read_model(folder: Path) -> DiffusionModel:
    """Read a model; fails closed.

    Raises:
        InputError: If a file is missing, is not the one that the record tells of, or does not fit
            the networks in every key and shape.
    """
    record = read_record(folder)
    for name, expected in record.sha256.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing. Copy the model's whole folder.")
        if sha256_of(path) != expected:
            msg = f"{path} is not the file that {RECORD} tells of: its sha256 is another one."
            raise InputError(f"{msg} Copy the model's folder again.")
    missing = {AUTOENCODER, DENOISER} - set(record.sha256)
    if missing:
        raise InputError(f"{folder / RECORD} tells no hash of {listing(sorted(missing))}.")
    with torch.device("meta"):
        autoencoder, denoiser = build_autoencoder(record.recipe), build_denoiser(record.recipe)
    fill(autoencoder, folder / AUTOENCODER)
    fill(denoiser.unet, folder / DENOISER)
    seen = _read_seen(folder / SEEN, record) if SEEN in record.sha256 else None
    return DiffusionModel(record, autoencoder.eval(), denoiser.eval(), seen)


def _read_seen(path: Path, record: ModelRecord) -> pd.DataFrame:
    """The training scans, with conditions that are in [0, 1]."""
    seen = read_table(path)
    for condition in record.conditions:
        name = f"{condition.name}_unit"
        if (
            name not in seen.columns
            or not pd.to_numeric(seen[name], errors="coerce").between(0, 1).all()
        ):
            raise InputError(f"{path} must hold a column {name} of numbers in [0, 1].")
    if seen.empty:
        raise InputError(f"{path} holds no scans.")
    return seen


def fill(network: nn.Module, path: Path) -> None:
    """Give a network without memory the weights of a file.

    Raises:
        InputError: If any key is missing, unknown, or of another shape or kind.
    """
    demand_fits(shapes_of(path), network, path)
    state = read_tensors(path)
    odd = [key for key, value in state.items() if not value.is_floating_point()]
    odd += [key for key, value in state.items() if not odd and not value.isfinite().all()]
    if odd:
        raise InputError(f"{path} holds what is no finite number in {listing(odd, 4)}.")
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a safetensors file, from its head alone.

    Raises:
        InputError: If it is missing or broken.
    """
    try:
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError) as error:
        raise InputError(f"{path} is no safetensors file ({error}).") from None


def demand_fits(shapes: dict[str, tuple[int, ...]], network: nn.Module, path: Path) -> None:
    """Make sure that keys and shapes are those of a network.

    Raises:
        InputError: With what differs.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    problems = [f"{key} is missing" for key in wanted if key not in shapes]
    problems += [f"{key} is unknown" for key in shapes if key not in wanted]
    problems += [
        f"{key} is {list(shapes[key])} instead of {list(wanted[key])}"
        for key in wanted
        if key in shapes and shapes[key] != wanted[key]
    ]
    if problems:
        raise InputError(f"{path} does not fit the network: {listing(problems, 4)}.")
