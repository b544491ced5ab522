"""The folder that a pre-training leaves: weights with their record, and how they came to be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from braintune._version import __version__
from braintune.cohort.tables import write_table_text
from braintune.errors import InputError, counted, listing
from braintune.files import is_occupied, make_folder, read_json, read_lines, write_json, write_text
from braintune.fitting.overlap import SEEN_FILE
from braintune.models.backbone import MapBackbone
from braintune.models.decoder import DecoderBackbone
from braintune.models.weights.loading import find_weights, save_folder
from braintune.models.weights.record import (
    Adaptation,
    ExpectedPreparation,
    Learning,
    WeightRecord,
)
from braintune.pretraining_recipe import PretrainRecipe
from braintune.run import describe_environment
from braintune.tasks.pretraining.objective import Learner

_BACKBONE = "backbone."


@dataclass(frozen=True)
class PretrainFolder:
    """A pre-training on disk.

    Attributes:
        path: The folder, which recipes take as ``weights`` once it is complete.
    """

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "pretraining.yaml"

    @property
    def identity_file(self) -> Path:
        """Which scans it is of."""
        return self.path / "pretraining.json"

    @property
    def history_file(self) -> Path:
        """One line of JSON an epoch."""
        return self.path / "history.jsonl"

    @property
    def seen_file(self) -> Path:
        """Whom it has seen: subjects and hashes of their images."""
        return self.path / SEEN_FILE

    @property
    def record_file(self) -> Path:
        """The weight record; the folder is complete once it is there."""
        return self.path / "record.json"

    @property
    def is_complete(self) -> bool:
        """Whether the weights are there."""
        return self.record_file.is_file()

    @property
    def record(self) -> WeightRecord:
        """What is known of the weights."""
        return WeightRecord.model_validate(read_json(self.record_file))

    def check_free(self, recipe: PretrainRecipe) -> None:
        """Refuse a folder that holds something else.

        Raises:
            InputError: If it holds a pre-training of another recipe, or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file. Choose a folder for the weights.")
        if not is_occupied(self.path):
            return
        if not self.identity_file.is_file() or not self.recipe_file.is_file():
            raise InputError(f"{self.path} is not empty and is no pre-training. Choose another.")
        there = PretrainRecipe.read(self.recipe_file).model_dump(mode="json")
        here = recipe.model_dump(mode="json")
        if differing := [key for key in here if here[key] != there.get(key)]:
            raise InputError(
                f"{self.path} is a pre-training of another recipe, which differs in"
                f" {listing(differing)}. Choose another --out."
            )

    def begin(self, recipe: PretrainRecipe, scans: str, facts: dict[str, Any]) -> None:
        """Make the folder, or go on in it.

        Args:
            recipe: The resolved recipe.
            scans: The fingerprint of all sources.
            facts: More of the environment.

        Raises:
            InputError: If it was begun with other scans.
        """
        if self.identity_file.is_file():
            if read_json(self.identity_file)["scans"] != scans:
                raise InputError(
                    f"{self.path} was begun with other scans. Choose another --out, or give it"
                    " those again."
                )
            return
        make_folder(self.path)
        write_text(self.recipe_file, recipe.dump())
        write_json(self.path / "environment.json", {**describe_environment(), **facts})
        write_json(self.identity_file, {"scans": scans, "version": __version__})

    def finish(
        self, recipe: PretrainRecipe, learner: Learner, learning: Learning, seen: pd.DataFrame
    ) -> WeightRecord:
        """Write whom it has seen, the weights, and last the record."""
        record = make_record(recipe, learner, learning, self.path, _names(recipe, seen))
        write_text(self.seen_file, write_table_text(seen.replace("", None)))
        state = {
            key.removeprefix(_BACKBONE): value
            for key, value in learner.state_dict().items()
            if key.startswith(_BACKBONE)
        }
        save_folder(self.path, record, _plain(state))
        return record

    def document(self) -> dict[str, Any]:
        """What came of it, as JSON."""
        record, history = self.record, read_lines(self.history_file)
        last = history[-1] if history else {}
        return {
            "out": str(self.path),
            "name": record.name,
            **(record.learning.model_dump() if record.learning else {}),
            "loss": last.get("loss"),
            "probe": {k: v for k, v in last.items() if k.startswith("probe_")},
            "seconds": round(sum(entry["seconds"] for entry in history), 1),
            "cohorts": list(record.cohorts),
        }


def make_record(
    recipe: PretrainRecipe,
    learner: Learner,
    learning: Learning,
    folder: Path,
    cohorts: tuple[str, ...],
) -> WeightRecord:
    """The weight record of a pre-training: what it saw, how, and what fits of it must know.

    Args:
        recipe: The settled recipe.
        learner: What was trained.
        learning: How much of what.
        folder: Whose name the weights get.
        cohorts: Names of what was seen.
    """
    chosen, prepare = recipe.backbone, recipe.prepare
    weights = find_weights(chosen.name, chosen.weights)
    parent = weights.record if weights else None
    backbone = learner.get_submodule("backbone")
    dropped: tuple[str, ...] = ()
    if isinstance(backbone, MapBackbone) and not learner.trains_decoder:
        # The decoder was dropped, and starts at random in whatever is built on these weights.
        assert isinstance(backbone, DecoderBackbone)
        dropped = tuple(rf"{part}\..*" for part in backbone.decoder_parts)
    seen = ", ".join(f"{counted(n, 'scan')} of {name}" for name, n in learning.scans.items())
    quirks = (f"pre-training began from {parent.name}",) if parent else ()
    return WeightRecord(
        backbone=chosen.name,
        tag=_tag(folder),
        options=chosen.options,
        summary=f"{learning.objective} pre-training on {seen}",
        licence=parent.licence if parent else "that of the scans it has seen",
        non_commercial=parent.non_commercial if parent else False,
        citation=parent.citation if parent else f"made with braintune {__version__}",
        cohorts=tuple(dict.fromkeys([*cohorts, *(parent.cohorts if parent else ())])),
        prepare=ExpectedPreparation(
            spacing=prepare.spacing,
            shape=prepare.shape,
            intensity=prepare.intensity,
            brain=prepare.brain,
        ),
        adaptation=Adaptation(
            positions={
                key: (grid.extra, grid.shape)
                for key, grid in getattr(backbone, "token_grids", {}).items()
            },
            new=dropped,
        ),
        quirks=quirks,
        learning=learning,
    )


def _names(recipe: PretrainRecipe, seen: pd.DataFrame) -> tuple[str, ...]:
    """What is called a cohort: the sources that are one, and whose label maps scans are made of."""
    real = [name for name, source in recipe.sources.items() if source.cohort is not None]
    return tuple(dict.fromkeys([*real, *seen["cohort"].tolist()]))


def _tag(folder: Path) -> str:
    """A tag from a folder's name: small letters, digits and hyphens."""
    text = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return text or "pretrained"


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies on the processor, as files hold them."""
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}
