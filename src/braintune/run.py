"""The run folder that one recipe leaves behind: its files, its ledger, and who may write there."""

import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from braintune._version import __version__
from braintune.errors import InputError, listing
from braintune.files import (
    append_line,
    is_occupied,
    make_folder,
    read_json,
    read_lines,
    write_json,
    write_text,
)
from braintune.recipe import Recipe

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "nibabel", "lightning-fabric", "pandas")


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe; it re-runs as it is."""
        return self.path / "recipe.yaml"

    @property
    def identity_file(self) -> Path:
        """Which cohort and recipe the run is of."""
        return self.path / "run.json"

    @property
    def environment_file(self) -> Path:
        """Versions, hardware and the command."""
        return self.path / "environment.json"

    @property
    def weights_file(self) -> Path:
        """What the fit started from, if not from random weights: hash, load report, licence."""
        return self.path / "weights.json"

    @property
    def ledger_file(self) -> Path:
        """What happened, one line an event."""
        return self.path / "ledger.jsonl"

    @property
    def cohort_file(self) -> Path:
        """The scans that went in, with the columns that the report and the baselines need."""
        return self.path / "cohort.tsv"

    @property
    def splits_file(self) -> Path:
        """One row a fold and scan."""
        return self.path / "splits.tsv"

    @property
    def predictions_file(self) -> Path:
        """Out-of-fold predictions, one row a scan."""
        return self.path / "predictions.tsv"

    @property
    def metrics_file(self) -> Path:
        """Every number with its interval; the run is complete once it is there."""
        return self.path / "metrics.json"

    @property
    def report_file(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def model_folder(self) -> Path:
        """All that predicting needs, and nothing that names a subject."""
        return self.path / "model"

    @property
    def cases_file(self) -> Path:
        """The worst cases, with the names of their pictures."""
        return self.path / "cases" / "cases.json"

    @property
    def segmentations_folder(self) -> Path:
        """Out-of-fold label maps, one a scan, where the task gives label maps."""
        return self.path / "segmentations"

    def fold_folder(self, number: int) -> Path:
        """The folder of a fold."""
        return self.path / "folds" / str(number + 1)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return Recipe.read(self.recipe_file)

    @property
    def is_complete(self) -> bool:
        """Whether all folds are done and scored."""
        return self.metrics_file.exists()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing run.

        Raises:
            InputError: If the folder is no run.
        """
        run = cls(path)
        if not run.identity_file.is_file():
            raise InputError(f"{path} is no run: it has no {run.identity_file.name}.")
        return run

    def check_free(self, recipe: Recipe) -> bool:
        """Whether the folder holds an earlier session of this recipe, which goes on.

        Raises:
            InputError: If it holds a run of another recipe, or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file. Choose a folder for the run.")
        if not is_occupied(self.path):
            return False
        if not self.identity_file.exists():
            raise InputError(f"{self.path} is not empty and is no run. Choose another folder.")
        # As JSON: keys that are numbers, such as those of labels, are text once they were written.
        plain = [of.model_dump(mode="json") for of in (self.recipe, recipe)]
        differing = _differences(plain[0], plain[1])
        if differing:
            msg = (
                f"{self.path} is a run of another recipe, which differs in {listing(differing)}."
                " Choose another --out."
            )
            raise InputError(msg)
        return True

    def begin(self, recipe: Recipe, cohort: str, source: Path) -> bool:
        """Make the folder, or go on in it.

        Args:
            recipe: The resolved recipe.
            cohort: The cohort's fingerprint.
            source: Where the cohort was read from.

        Returns:
            Whether an earlier session is gone on with.

        Raises:
            InputError: If the folder is of another recipe or another cohort, or can't be written.
        """
        if self.check_free(recipe):
            identity = read_json(self.identity_file)
            if identity["cohort"] != cohort:
                msg = (
                    f"{self.path} was begun with other scans or other values of the target (from"
                    f" {identity['source']}). Choose another --out, or give it that cohort again."
                )
                raise InputError(msg)
            if not self.is_complete:
                self.note("resumed")
            return True
        make_folder(self.path)
        write_text(self.recipe_file, recipe.dump())
        write_json(
            self.identity_file,
            {"cohort": cohort, "source": str(source.resolve()), "version": __version__},
        )
        return False

    def note(self, event: str, **facts: Any) -> None:
        """Add an event to the ledger."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        append_line(self.ledger_file, {"time": time, "event": event, **facts})

    def events(self, name: str) -> list[dict[str, Any]]:
        """The ledger's events of a name."""
        return [line for line in read_lines(self.ledger_file) if line.get("event") == name]


def describe_environment() -> dict[str, Any]:
    """Versions, hardware and the command that runs."""
    return {
        "braintune": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "command": " ".join(sys.argv),
    }


def _processor() -> str:
    """The processor's name; Linux keeps it in a file, elsewhere Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} threads)" if names else platform.processor()


def _differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Dotted paths at which two recipes differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        return [
            found
            for key in {**first, **second}
            for found in _differences(
                first.get(key), second.get(key), f"{path}.{key}" if path else str(key)
            )
        ]
    return [] if first == second else [f"{path} ({first} there, {second} here)"]
