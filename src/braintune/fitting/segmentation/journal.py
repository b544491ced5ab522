"""Which scans a stopped segmentation has done, so that the same command goes on from there."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from braintune.errors import InputError
from braintune.files import append_line, make_folder, read_lines, refuse_occupied, write_lines

_FILE = ".segmenting.jsonl"


@dataclass(frozen=True)
class Journal:
    """The rows of the scans that are done, in a hidden file that goes when all are.

    Attributes:
        file: What is done so far; the first line tells what it is of.
        rows: By scan.
    """

    file: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, identity: str) -> Self:
        """Begin in a new folder, or go on in one that the same command began.

        Args:
            folder: Of the label maps.
            identity: The same for the same network, scans and options.

        Raises:
            InputError: If the folder holds something else, or was begun by another command.
        """
        file = folder / _FILE
        begun = read_lines(file)
        if not begun:
            refuse_occupied(folder, "the label maps")
            make_folder(folder)
            write_lines(file, [{"identity": identity}])
            return cls(file)
        if begun[0] != {"identity": identity}:
            msg = (
                f"{folder} was begun with another run, other scans or other options. Choose a new"
                " folder."
            )
            raise InputError(msg)
        return cls(file, {row["scan_id"]: row for row in begun[1:]})

    def note(self, row: dict[str, Any]) -> None:
        """Note a scan whose files are written, or that can't be used."""
        append_line(self.file, row)
        self.rows[row["scan_id"]] = row

    def close(self) -> None:
        """Take the file away: all is done, or nothing is."""
        self.file.unlink()


def is_unfinished(folder: Path) -> bool:
    """Whether a folder is one that `segment` has not done all of its work in."""
    return (folder / _FILE).exists()
