"""Tensors on the disk: safetensors, which hold no code."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from braintune.errors import InputError
from braintune.files import write_bytes


def sha256_of(path: Path) -> str:
    """A file's hash, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file, which can hold no code.

    Raises:
        InputError: If it is missing or broken.
    """
    _demand_exists(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        msg = (
            f"{path} is no safetensors file ({error}). Pickled checkpoints are not read here; bring"
            " a published one into the right form with 'braintune models convert'."
        )
        raise InputError(msg) from None


def read_facts(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        InputError: If it is missing or broken.
    """
    _demand_exists(path)
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file ({error}).") from None


def _demand_exists(path: Path) -> None:
    if not path.is_file():
        msg = f"The weights {path} do not exist. Give 'none', a tag of 'braintune models list', a"
        raise InputError(msg + " .safetensors file or a weight folder.")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], **facts: str) -> None:
    """Write tensors as safetensors, whole or not at all."""
    state = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_bytes(path, save(state, metadata=facts))
