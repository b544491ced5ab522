"""The study folder: what is known of a study lies in these files, and nowhere else."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from braintune._version import __version__
from braintune.errors import InputError
from braintune.files import (
    append_line,
    is_occupied,
    make_folder,
    read_json,
    read_lines,
    write_json,
    write_text,
)
from braintune.studies.contexts import Context
from braintune.studies.recipe import StudyRecipe


@dataclass(frozen=True)
class StudyFolder:
    """A study on disk.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The study with its base; it is a study file itself."""
        return self.path / "study.yaml"

    @property
    def identity_file(self) -> Path:
        """Of which splits the study is."""
        return self.path / "identity.json"

    @property
    def ledger_file(self) -> Path:
        """What happened, one line an event."""
        return self.path / "ledger.jsonl"

    @property
    def environment_file(self) -> Path:
        """Versions and hardware of the machine that planned."""
        return self.path / "environment.json"

    @property
    def document_file(self) -> Path:
        """All scores, tests and costs."""
        return self.path / "study.json"

    @property
    def leaderboard_file(self) -> Path:
        """One row a choice and context."""
        return self.path / "leaderboard.tsv"

    @property
    def page_file(self) -> Path:
        """The page."""
        return self.path / "study.html"

    @property
    def scale_file(self) -> Path:
        """Learning curves and their laws."""
        return self.path / "scale.json"

    @property
    def scale_page_file(self) -> Path:
        """The page of the learning curves."""
        return self.path / "scale.html"

    def cohort_file(self, name: str) -> Path:
        """The scans of a cohort, with the columns that baselines need."""
        return self.path / "cohorts" / f"{name}.tsv"

    def splits_file(self, context: str) -> Path:
        """Who trains, validates and tests."""
        return self.path / "splits" / f"{context}.tsv"

    def fit_folder(self, fit: str) -> Path:
        """All of one fit; ten thousand of them are no burden to list."""
        return self.path / "fits" / fit[:2] / fit

    def result_file(self, fit: str) -> Path:
        """What a fit found on validation rows; the fit is done once it is there."""
        return self.fit_folder(fit) / "result.json"

    def test_file(self, fit: str) -> Path:
        """What a fit predicts for test rows; opened once it is chosen."""
        return self.fit_folder(fit) / "test.json"

    def failure_file(self, fit: str) -> Path:
        """Why a fit failed."""
        return self.fit_folder(fit) / "failed.json"

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing study.

        Raises:
            InputError: If the folder is no study.
        """
        study = cls(path)
        if not study.identity_file.is_file():
            raise InputError(f"{path} is no study: it has no {study.identity_file.name}.")
        return study

    def check_free(self) -> None:
        """Make sure that the folder is new, empty or a study.

        Raises:
            InputError: If it holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file. Choose a folder for the study.")
        if is_occupied(self.path) and not self.identity_file.exists():
            raise InputError(f"{self.path} is not empty and is no study. Choose another folder.")

    def check_splits(self, contexts: list[Context]) -> None:
        """Refuse contexts whose splits are not those that the study was begun with.

        A study may grow by contexts, choices and seeds; its scores stay those of its splits.

        Raises:
            InputError: With the contexts that differ.
        """
        self.check_free()
        if not self.identity_file.exists():
            return
        known = read_json(self.identity_file)["splits"]
        other = [c.key for c in contexts if known.get(c.key, c.hash) != c.hash]
        if other:
            msg = (
                f"{self.path} was begun with other splits of {', '.join(other)}: scans, targets,"
                " protocol or base seed have changed. Scores of different splits can't be"
                " compared. Choose another --out, or give it what it was begun with."
            )
            raise InputError(msg)

    def begin(self, study: StudyRecipe, contexts: list[Context]) -> None:
        """Write down what the study is, or go on; what failed is tried again."""
        self.check_splits(contexts)
        known = {}
        if self.identity_file.exists():
            known = read_json(self.identity_file)["splits"]
            self.note("resumed")
        make_folder(self.path)
        for context in contexts:
            write_text(self.splits_file(context.key), context.splits)
        splits = {**known, **{context.key: context.hash for context in contexts}}
        write_text(self.recipe_file, study.dump())
        write_json(self.identity_file, {"splits": splits, "version": __version__})

    def result(self, fit: str) -> dict[str, Any] | None:
        """What a fit found, if it is done."""
        path = self.result_file(fit)
        return dict(read_json(path)) if path.exists() else None

    def failure(self, fit: str) -> dict[str, Any] | None:
        """Why a fit failed, if it did."""
        path = self.failure_file(fit)
        return dict(read_json(path)) if path.exists() else None

    def forget_failure(self, fit: str) -> None:
        """Let a failed fit be tried again."""
        self.failure_file(fit).unlink(missing_ok=True)

    def forget_work(self, fit: str) -> None:
        """Remove what only an unfinished fit needs."""
        shutil.rmtree(self.fit_folder(fit) / "work", ignore_errors=True)

    def note(self, event: str, **facts: Any) -> None:
        """Add an event to the ledger."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        append_line(self.ledger_file, {"time": time, "event": event, **facts})

    def events(self, name: str) -> list[dict[str, Any]]:
        """The ledger's events of a name."""
        return [line for line in read_lines(self.ledger_file) if line.get("event") == name]
