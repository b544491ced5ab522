"""The loop that trains either network: Adam, checkpoints, and a stop at the first bad number."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from braintune.console import Progress
from braintune.errors import BraintuneError, listing
from braintune.files import append_line, read_lines, write_lines
from braintune.synthesis.diffusion.checkpoint import State, load_checkpoint, save_checkpoint
from braintune.synthesis.diffusion.recipe import OptimisationRecipe

_WARMUP, _CLIP = 0.05, 1.0
# Steps whose losses make one line of the history.
_A_LINE = 50


class DivergedError(BraintuneError):
    """A loss or a gradient is not a finite number any more."""


@dataclass(frozen=True)
class Stage:
    """One network's training.

    Attributes:
        name: What messages call it.
        network: What trains.
        losses: From the number of a step to each scan's loss, of shape (batch,).
        scans: From the number of a step to the ids of its scans.
        recipe: The optimisation.
    """

    name: str
    network: nn.Module
    losses: Callable[[int], torch.Tensor]
    scans: Callable[[int], Sequence[str]]
    recipe: OptimisationRecipe


@dataclass(frozen=True)
class Places:
    """Where a stage leaves what it needs to go on.

    Attributes:
        checkpoint: The checkpoint.
        history: One line for every 50 steps.
        every: Seconds between checkpoints.
    """

    checkpoint: Path
    history: Path
    every: float


Autocast = Callable[[], AbstractContextManager[None]]


def train_stage(stage: Stage, places: Places, autocast: Autocast, bar: Progress) -> None:
    """Train a network to its last step, from its checkpoint if there is one.

    In the end the network holds the moving average of its weights where the recipe wants one.

    Raises:
        DivergedError: If a loss or the gradient is not finite; the checkpoint stays as it was.
    """
    recipe, network = stage.recipe, stage.network
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.lr)
    average = _copied(network) if recipe.ema is not None else None
    facts = load_checkpoint(places.checkpoint, network, optimiser, average) or {"step": "0"}
    first, running = int(facts["step"]), float(facts.get("running", "0"))
    write_lines(places.history, [x for x in read_lines(places.history) if x["step"] <= first])
    bar.skip(first)
    network.train()
    saved = time.monotonic()
    for step in range(first, recipe.steps):
        running += _update(stage, step, optimiser, autocast, places)
        if average is not None:
            assert recipe.ema is not None
            _follow(average, network, min(recipe.ema, (1 + step) / (10 + step)))
        done = step + 1
        if done % _A_LINE == 0 or done == recipe.steps:
            loss = running / ((done - 1) % _A_LINE + 1)
            append_line(places.history, {"step": done, "loss": loss})
            running = 0.0
            bar.advance(note=f"{stage.name} loss {loss:.4f}")
        else:
            bar.advance()
        if time.monotonic() - saved >= places.every or done == recipe.steps:
            known = {"step": str(done), "running": repr(running)}
            save_checkpoint(places.checkpoint, network, optimiser, average, known)
            saved = time.monotonic()
    if average is not None:
        network.load_state_dict({**network.state_dict(), **average})
    network.eval()


def learning_rate(recipe: OptimisationRecipe, step: int) -> float:
    """The rate of a step: up along a line, then down along a cosine.

    Example:
        >>> recipe = OptimisationRecipe(steps=100, lr=1.0)
        >>> learning_rate(recipe, 4), round(learning_rate(recipe, 99), 3)
        (1.0, 0.0)
    """
    warm = max(1, round(_WARMUP * recipe.steps))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    done = (step + 1 - warm) / max(1, recipe.steps - warm)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


def _update(
    stage: Stage, step: int, optimiser: torch.optim.Optimizer, autocast: Autocast, places: Places
) -> float:
    """One step; returns its loss."""
    with autocast():
        losses = stage.losses(step)
    scans = list(stage.scans(step))
    bad = [name for name, ok in zip(scans, losses.isfinite().tolist(), strict=True) if not ok]
    if bad:
        raise _diverged(stage, step, "loss", bad, places)
    optimiser.zero_grad(set_to_none=True)
    loss = losses.mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(stage.network.parameters(), _CLIP)
    if not norm.isfinite():
        raise _diverged(stage, step, "gradient", scans, places)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(stage.recipe, step)
    optimiser.step()
    return float(loss.detach())


def _diverged(
    stage: Stage, step: int, what: str, scans: list[str], places: Places
) -> DivergedError:
    kept = (
        f"The last good checkpoint stays in {places.checkpoint}."
        if (places.checkpoint.exists())
        else "There is no checkpoint yet."
    )
    msg = (
        f"The {what} of the {stage.name} is not a number at step {step + 1}, on {listing(scans)}."
        f" {kept} Look at these scans; if nothing is wrong with them, lower {stage.name}.train.lr"
        " and begin in a new folder."
    )
    return DivergedError(msg)


def _copied(network: nn.Module) -> State:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


@torch.no_grad()
def _follow(average: State, network: nn.Module, decay: float) -> None:
    for name, parameter in network.named_parameters():
        average[name].lerp_(parameter.detach(), 1 - decay)
