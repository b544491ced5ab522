"""The prepared store: one safetensors file a scan, found by its name alone.

A store of labelled scans has each one's label map behind its image, in the same file.

A scan's file is named by a hash of its id, so opening a store reads one small JSON file however
many scans there are, nothing is held in memory for a scan, many processes may read, and several
may write at once. A file appears whole or not at all, which is what makes a store resumable.
"""

import hashlib
import io
import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from braintune.errors import InputError
from braintune.files import digest, make_folder, read_json, write_bytes, write_json
from braintune.imaging.preparation import PreparedScan, fingerprint
from braintune.recipe import PrepareRecipe

_DESCRIPTION = "store.json"


@dataclass(frozen=True)
class ScanFacts:
    """What a store knows of a scan besides its voxels.

    Attributes:
        scan_id: The scan.
        source: Path, size and time of change of the file that was prepared.
        affine: From voxel indices to world millimetres, of shape (4, 4).
        brain_ml: Brain volume in millilitres.
        voxels: SHA-256 of the prepared image.
    """

    scan_id: str
    source: str
    affine: npt.NDArray[np.float64]
    brain_ml: float
    voxels: str


class PreparedStore:
    """Random access to prepared scans.

    Attributes:
        path: The store's folder.
        recipe: The preparation that made it.
        labels: The values of its label maps by name, or None if it has no label maps.
    """

    def __init__(
        self, path: Path, recipe: PrepareRecipe, labels: dict[str, int] | None = None
    ) -> None:
        self.path = path
        self.recipe = recipe
        self.labels = labels

    @property
    def fingerprint(self) -> str:
        """The hash of the preparation, and of what labels mean."""
        own = fingerprint(self.recipe)
        return own if self.labels is None else digest({"prepare": own, "labels": self.labels})

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of every image: (channels, x, y, z)."""
        return (self.recipe.channels, *self.recipe.shape)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing store.

        Raises:
            InputError: If there is none, or if another version of braintune made it.
        """
        description = read_json(path / _DESCRIPTION)
        recipe = PrepareRecipe.model_validate(description["prepare"])
        store = cls(path, recipe, description.get("labels"))
        if description.get("fingerprint") != store.fingerprint:
            msg = f"{path} was prepared by another version of braintune. Prepare into a new folder."
            raise InputError(msg)
        return store

    @classmethod
    def create(
        cls, path: Path, recipe: PrepareRecipe, labels: dict[str, int] | None = None
    ) -> Self:
        """Open the store of a preparation, making it if there is none.

        Args:
            path: Its folder.
            recipe: The preparation.
            labels: The values of label maps by name, for a store of labelled scans.

        Raises:
            InputError: If the folder holds a store of another preparation, or something else.
        """
        if not (path / _DESCRIPTION).exists():
            if path.exists() and (not path.is_dir() or any(map(_is_foreign, path.iterdir()))):
                msg = f"{path} exists and is no prepared store. Choose a new or empty folder."
                raise InputError(msg)
            make_folder(path)
            store = cls(path, recipe, labels)
            description = {
                "fingerprint": store.fingerprint,
                "prepare": recipe.model_dump(mode="json"),
            }
            if labels is not None:
                description["labels"] = labels
            write_json(path / _DESCRIPTION, description)
            return store
        store = cls.open(path)
        store.demand(recipe)
        if store.labels != labels:
            msg = (
                f"The store {path} has label maps of {store.labels or 'nothing'}, not of"
                f" {labels or 'nothing'}. Prepare into another folder."
            )
            raise InputError(msg)
        return store

    def demand(self, recipe: PrepareRecipe) -> None:
        """Refuse the store if another preparation is wanted.

        Raises:
            InputError: With each setting that differs.
        """
        have, want = self.recipe.model_dump(), recipe.model_dump()
        differing = [f"{k} {have[k]} instead of {want[k]}" for k in want if have[k] != want[k]]
        if differing:
            msg = (
                f"The store {self.path} was prepared with {', '.join(differing)}."
                " Prepare into another folder, or change 'prepare:' in the recipe."
            )
            raise InputError(msg)

    def __contains__(self, scan_id: str) -> bool:
        return self._file(scan_id).exists()

    def write(
        self,
        scan_id: str,
        scan: PreparedScan,
        source: str,
        labels: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Add or replace a scan, whole or not at all.

        Args:
            scan_id: The scan.
            scan: Its image and what is known of it.
            source: Path, size and time of change of the files that were prepared.
            labels: In a store of labelled scans, its labels, of shape (x, y, z).
        """
        facts = {
            "scan_id": scan_id,
            "source": source,
            "affine": json.dumps(scan.affine.tolist()),
            "brain_ml": repr(scan.brain_ml),
            "voxels": scan.voxels,
        }
        tensors: dict[str, npt.NDArray[Any]] = {"image": np.ascontiguousarray(scan.image)}
        if labels is not None:
            # Behind the image: a file holds what has the larger numbers first.
            tensors["labels"] = np.ascontiguousarray(labels)
        write_bytes(self._file(scan_id), save(tensors, metadata=facts))

    def read(
        self, scan_id: str, crop: tuple[slice, slice, slice] | None = None
    ) -> npt.NDArray[np.float16]:
        """Read a scan, or a part of it, touching only the pages that hold it.

        Args:
            scan_id: The scan.
            crop: Slices along x, y and z.

        Returns:
            An array of shape (channels, x, y, z). It is a view of the file, read as it is used.

        Raises:
            InputError: If the store has no such scan or its file is broken.
        """
        path = self._file(scan_id)
        try:
            with path.open("rb") as file:
                start = _data_start(file)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            image = np.frombuffer(
                mapped, dtype=np.float16, count=int(np.prod(self.shape)), offset=start
            )
        except FileNotFoundError:
            raise InputError(self._missing(scan_id)) from None
        except ValueError:
            raise InputError(_broken(path)) from None
        image = image.reshape(self.shape)
        return image if crop is None else image[(slice(None), *crop)]

    def read_into(self, scan_id: str, image: npt.NDArray[np.float16]) -> None:
        """Read a whole scan into memory that is there, by one copy from the page cache.

        Args:
            scan_id: The scan.
            image: A contiguous array of shape (channels, x, y, z).

        Raises:
            InputError: If the store has no such scan or its file is broken.
        """
        path = self._file(scan_id)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(_data_start(file))
                count = file.readinto(image.reshape(-1).view(np.uint8).data)
        except FileNotFoundError:
            raise InputError(self._missing(scan_id)) from None
        except (OverflowError, OSError):
            raise InputError(_broken(path)) from None
        if count != image.nbytes:
            raise InputError(_broken(path))

    def read_labels(self, scan_id: str) -> npt.NDArray[np.uint8]:
        """Read the label map of a scan of a store of labelled scans.

        Returns:
            An array of shape (x, y, z), 0 for the background.

        Raises:
            InputError: If the store has no such scan or its file is broken.
        """
        path = self._file(scan_id)
        try:
            with safe_open(path, framework="np") as file:
                labels: npt.NDArray[np.uint8] = file.get_tensor("labels")
        except FileNotFoundError:
            raise InputError(self._missing(scan_id)) from None
        except SafetensorError:
            raise InputError(_broken(path)) from None
        if labels.shape != self.recipe.shape:
            raise InputError(_broken(path))
        return labels

    def facts(self, scan_id: str) -> ScanFacts:
        """What is known of a scan, from the head of its file.

        Raises:
            InputError: If the store has no such scan or its file is broken.
        """
        path = self._file(scan_id)
        try:
            with safe_open(path, framework="np") as file:
                values: dict[str, Any] = file.metadata()
                shape = tuple(file.get_slice("image").get_shape())
        except (FileNotFoundError, SafetensorError):
            raise InputError(_broken(path)) from None
        if shape != self.shape:
            raise InputError(_broken(path))
        return ScanFacts(
            scan_id=values["scan_id"],
            source=values["source"],
            affine=np.array(json.loads(values["affine"])),
            brain_ml=float(values["brain_ml"]),
            voxels=values["voxels"],
        )

    def _missing(self, scan_id: str) -> str:
        return f"{self.path} holds no scan {scan_id!r}; prepare it first."

    def _file(self, scan_id: str) -> Path:
        name = hashlib.sha256(scan_id.encode()).hexdigest()[:32]
        return self.path / "scans" / name[:2] / f"{name}.safetensors"


def _is_foreign(path: Path) -> bool:
    """Whether a file is not the description, which another process may be writing just now."""
    return not path.name.startswith((_DESCRIPTION, f".{_DESCRIPTION}."))


def _data_start(file: BinaryIO | io.FileIO) -> int:
    """Where the voxels begin: after the header's length and the header."""
    return 8 + int.from_bytes(file.read(8), "little")


def _broken(path: Path) -> str:
    return f"{path} is missing or broken. Delete it and give the same prepare command again."
