"""Training a latent diffusion model: the autoencoder, then the denoiser of its latents."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import write_table_text
from braintune.console import Progress, progress, say
from braintune.errors import InputError, counted
from braintune.files import digest, is_occupied, make_folder, read_json, write_json, write_text
from braintune.models.weights.tensors import read_facts, sha256_of, write_tensors
from braintune.synthesis.diffusion.autoencoder_training import autoencoder_stage, restoring_error
from braintune.synthesis.diffusion.chance import generator
from braintune.synthesis.diffusion.data import TrainingData, training_data
from braintune.synthesis.diffusion.denoiser_training import denoiser_stage, held_out_loss
from braintune.synthesis.diffusion.latents import Latents, encode_all
from braintune.synthesis.diffusion.loop import Autocast, Places, train_stage
from braintune.synthesis.diffusion.model import (
    AUTOENCODER,
    DENOISER,
    RECORD,
    SEEN,
    ModelRecord,
    hashes,
    read_record,
    write_record,
)
from braintune.synthesis.diffusion.networks import (
    build_autoencoder,
    build_denoiser,
    computes_bf16,
)
from braintune.synthesis.diffusion.recipe import DiffusionRecipe

_INIT_AUTOENCODER, _INIT_DENOISER = 31, 32


@dataclass(frozen=True)
class Execution:
    """Where and how training runs, which changes no result but by another device's rounding.

    Attributes:
        accelerator: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.
        store: Folder of the prepared store; by default one in the cache.
        workers: Processes that prepare scans, by default one a core.
        checkpoint_every: Seconds between checkpoints.
    """

    accelerator: str = "auto"
    store: Path | None = None
    workers: int | None = None
    checkpoint_every: float = 60.0


def train(
    cohort: Cohort, out: Path, recipe: DiffusionRecipe, execution: Execution | None = None
) -> ModelRecord:
    """Train a model, or go on with one that was stopped; the weights in the end are the same.

    Args:
        cohort: The scans, with the columns of the conditions.
        out: The model's folder, new or of the same recipe and cohort.
        recipe: The model.
        execution: Where and how.

    Raises:
        InputError: If recipe, cohort and folder do not fit together; nothing is written then.
        DivergedError: If a loss is not a number any more.
    """
    execution = execution or Execution()
    device = choose_device(execution.accelerator)
    _demand_free(out)
    data = training_data(cohort, recipe, execution.store, execution.workers)
    identity = digest([recipe.model_dump(mode="json"), data.fingerprint])
    if _begin(out, identity):
        return read_record(out)
    say(
        f"Training on {counted(len(data.trained), 'scan')}, {len(data.held_out)} held out;"
        f" {len(data.excluded)} left out."
    )
    bf16 = computes_bf16(recipe, device)
    autocast = partial(_autocast, device, bf16)
    steps = recipe.autoencoder.train.steps + recipe.denoiser.train.steps
    with progress("Training", steps) as bar:
        job = _Job(out, recipe, data, device, autocast, execution.checkpoint_every, bar)
        measured = job.run()
    measured |= {"precision": "bf16" if bf16 else "fp32", "device": device.type}
    return _finish(out, recipe, data, job.scale, measured)


def choose_device(accelerator: str) -> torch.device:
    """The device of a word.

    Raises:
        InputError: If it is unknown or not here.
    """
    if accelerator not in {"auto", "cpu", "cuda"}:
        raise InputError(f"Unknown accelerator {accelerator!r}. Available: auto, cpu, cuda.")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here. Leave --accelerator out, or set it to cpu.")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


@dataclass
class _Job:
    """One training, from whatever its folder holds to the weights of both networks."""

    out: Path
    recipe: DiffusionRecipe
    data: TrainingData
    device: torch.device
    autocast: Autocast
    every: float
    bar: Progress
    scale: float = 1.0

    def run(self) -> dict[str, object]:
        """Train both networks; returns what was measured on held-out scans."""
        recipe = self.recipe
        with _seeded(recipe.seed, _INIT_AUTOENCODER):
            autoencoder = build_autoencoder(recipe).to(self.device)
        places = self._places("autoencoder")
        first = _steps_done(places.checkpoint)
        stage = autoencoder_stage(autoencoder, self.data, recipe, self.device, first)
        train_stage(stage, places, self.autocast, self.bar)
        write_tensors(self.out / AUTOENCODER, autoencoder.state_dict())
        latents = self._latents(autoencoder)
        with _seeded(recipe.seed, _INIT_DENOISER):
            denoiser = build_denoiser(recipe).to(self.device)
        second = denoiser_stage(denoiser, self.data, latents, recipe, self.device)
        train_stage(second, self._places("denoiser"), self.autocast, self.bar)
        write_tensors(self.out / DENOISER, denoiser.unet.state_dict())
        held_out = [int(row) for row in self.data.held_out]
        return {
            "restoring_error": restoring_error(autoencoder, self.data, held_out, self.device),
            "held_out_loss": held_out_loss(denoiser, self.data, latents, recipe, self.device),
        }

    def _places(self, name: str) -> Places:
        work = self.out / "work"
        return Places(
            work / f"{name}.checkpoint.safetensors", self.out / f"{name}.jsonl", self.every
        )

    def _latents(self, autoencoder: AutoencoderKL) -> Latents:
        # Another autoencoder gives another name, so that its latents are never mistaken.
        name = f"latents-{sha256_of(self.out / AUTOENCODER)[:16]}.npy"
        latents = encode_all(
            autoencoder,
            self.data,
            self.recipe,
            self.out / "work" / name,
            self.device,
            self.autocast,
        )
        self.scale = latents.scale
        return latents


def _steps_done(checkpoint: Path) -> int:
    return int(read_facts(checkpoint)["step"]) if checkpoint.exists() else 0


@contextmanager
def _seeded(*keys: int) -> Iterator[None]:
    """Initialise networks by a seed of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(*keys).initial_seed() % 2**63))
        yield


def _autocast(device: torch.device, bf16: bool) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def _demand_free(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if is_occupied(out) and not _identity(out).exists():
        raise InputError(f"{out} is not empty and holds no training. Choose a new folder.")


def _identity(out: Path) -> Path:
    return out / "work" / "identity.json"


def _begin(out: Path, identity: str) -> bool:
    """Claim the folder; returns whether the model is finished already.

    Raises:
        InputError: If the folder belongs to another recipe or cohort.
    """
    path = _identity(out)
    if not path.exists():
        make_folder(path.parent)
        write_json(path, {"identity": identity})
        return False
    if read_json(path).get("identity") != identity:
        msg = f"{out} was begun with another recipe or cohort. Choose a new folder, or delete it."
        raise InputError(msg)
    return (out / RECORD).exists()


def _finish(
    out: Path,
    recipe: DiffusionRecipe,
    data: TrainingData,
    scale: float,
    measured: dict[str, object],
) -> ModelRecord:
    seen = data.table.iloc[data.trained].reset_index(drop=True)
    for number, condition in enumerate(data.conditions):
        values = data.values[data.trained, number]
        seen[f"{condition.name}_unit"] = [f"{value:.5f}" for value in values]
    write_text(out / SEEN, write_table_text(seen))
    affine = np.asarray(data.store.facts(data.scan_ids[data.trained[0]]).affine)
    record = ModelRecord.model_validate(
        {
            "recipe": recipe,
            "conditions": data.conditions,
            "scale": scale,
            "affine": affine.tolist(),
            "sha256": hashes(out, AUTOENCODER, DENOISER, SEEN),
            "trained_on": len(data.trained),
            "measured": measured,
        }
    )
    write_record(out, record)
    _forget_work(out)
    return record


def _forget_work(out: Path) -> None:
    """Delete what only an unfinished training needs: checkpoints and latents."""
    for pattern in ("*.checkpoint.safetensors", "latents-*.npy"):
        for path in (out / "work").glob(pattern):
            path.unlink()
