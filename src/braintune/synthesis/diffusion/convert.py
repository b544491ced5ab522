"""From the files of a published model to a model that can be sampled from."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from braintune.errors import InputError, listing
from braintune.files import make_folder, refuse_occupied
from braintune.models.weights.conversion import convert_state
from braintune.models.weights.foreign import read_foreign
from braintune.models.weights.tensors import write_tensors
from braintune.synthesis.diffusion.model import (
    AUTOENCODER,
    DENOISER,
    ModelRecord,
    demand_fits,
    hashes,
    write_record,
)
from braintune.synthesis.diffusion.networks import build_autoencoder, build_denoiser
from braintune.synthesis.diffusion.records import PublishedFile, PublishedModel


def convert(published: PublishedModel, autoencoder: Path, denoiser: Path, out: Path) -> ModelRecord:
    """Make a model's folder from published checkpoints; no code in them is run.

    Args:
        published: What they are.
        autoencoder: The file of the autoencoder, as its publisher gives it.
        denoiser: The file of the denoiser.
        out: A new folder.

    Raises:
        InputError: If the folder is not empty, a file is not the published one, can't be read
            without running code, or does not fit its network.
    """
    refuse_occupied(out, "the model")
    for path, file in ((autoencoder, published.autoencoder), (denoiser, published.denoiser)):
        _demand_published(path, file)
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            AUTOENCODER: build_autoencoder(published.recipe),
            DENOISER: build_denoiser(published.recipe).unet,
        }
    states = {
        AUTOENCODER: _state(autoencoder, published.autoencoder, networks[AUTOENCODER]),
        DENOISER: _state(denoiser, published.denoiser, networks[DENOISER]),
    }
    make_folder(out)
    for name, state in states.items():
        write_tensors(out / name, state)
    weights = published.denoiser.weights
    record = ModelRecord.model_validate(
        {
            "recipe": published.recipe,
            "conditions": published.conditions,
            "scale": published.scale,
            "affine": published.affine,
            "sha256": hashes(out, AUTOENCODER, DENOISER),
            "licence": weights.licence,
            "citation": weights.citation,
        }
    )
    write_record(out, record)
    return record


def _state(path: Path, file: PublishedFile, network: nn.Module) -> dict[str, torch.Tensor]:
    state = convert_state(read_foreign(path), file.weights)
    demand_fits({key: tuple(value.shape) for key, value in state.items()}, network, path)
    odd = [key for key, value in state.items() if not value.isfinite().all()]
    if odd:
        raise InputError(f"{path} holds what is no finite number in {listing(odd, 4)}.")
    return state


def _demand_published(path: Path, file: PublishedFile) -> None:
    if not path.is_file():
        source = file.weights.source
        where = f" It is published at {source.url}." if source is not None else ""
        raise InputError(f"The file {path} does not exist.{where}")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != file.md5:
        msg = f"{path} is not the published file: its MD5 should be {file.md5} and is {found}."
        raise InputError(f"{msg} Get it again.")
