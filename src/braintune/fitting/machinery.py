"""What a fold learns from, and where and how it trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import lightning_fabric

from braintune.evaluation.splits import Fold
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.precision import Precision
from braintune.imaging.loader import BatchLoader
from braintune.tasks.task import FloatArray

# The room for activations of frozen layers on the disk, if nothing else is said.
FEATURE_BYTES = 10 * 10**9


class FoldScans(Protocol):
    """The scans that a fold learns from."""

    @property
    def loader(self) -> BatchLoader:
        """Reads scans by their row."""
        ...

    @property
    def fold(self) -> Fold:
        """Which rows train, validate and test."""
        ...

    @property
    def number(self) -> int:
        """The fold's number, from 0."""
        ...


@dataclass(frozen=True)
class FoldData:
    """What a fold learns from, where every scan has one value.

    Attributes:
        loader: Reads scans by their row.
        truth: The encoded target of every row.
        fold: Which rows train, validate and test.
        number: The fold's number, from 0.
    """

    loader: BatchLoader
    truth: FloatArray
    fold: Fold
    number: int


@dataclass(frozen=True)
class Machinery:
    """Where and how a fold trains; none of it changes what is learnt.

    Attributes:
        fabric: Devices and processes.
        precision: Number format and memory layout.
        folder: Where the checkpoint to go on from lies, and the history for who watches.
        every: Seconds between checkpoints.
        stop: Whether someone asked to stop.
        feature_bytes: How much of the disk what frozen layers compute may take, 0 for none.
    """

    fabric: lightning_fabric.Fabric
    precision: Precision
    folder: Path
    every: float
    stop: StopRequest
    feature_bytes: int = FEATURE_BYTES

    @property
    def checkpoint(self) -> Path:
        """The file to go on from."""
        return self.folder / "checkpoint.pt"

    @property
    def history(self) -> Path:
        """One line of JSON an epoch, written as training goes."""
        return self.folder / "history.jsonl"
