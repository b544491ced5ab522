"""Which files belong to a diffusion series: b-values, gradient directions, and a brain mask.

Found are, in this order: files of the series' own name; files that BIDS's inheritance principle
applies to it, the nearest first; and FSL's plain ``bvals`` and ``bvecs`` in its folder.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from braintune.errors import listing
from braintune.imaging.nifti import ScanError

_IMAGE_END = re.compile(r"\.nii(\.gz)?$")
# Names of the same content, the most usual first.
_ENDINGS = {"bval": (".bval", ".bvals"), "bvec": (".bvec", ".bvecs")}
_PLAIN = {"bval": ("bvals", "bval"), "bvec": ("bvecs", "bvec")}
_CONTENT = {"bval": "b-values", "bvec": "gradient directions"}
_PLAIN_MASKS = ("nodif_brain_mask.nii.gz", "nodif_brain_mask.nii")
# Deeper than any subject's folder lies in a dataset: subject, session, data type.
_MOST_LEVELS = 4


@dataclass(frozen=True)
class DwiFiles:
    """A diffusion series and what lies beside it.

    Attributes:
        series: The 4D image.
        bval: Its b-values.
        bvec: Its gradient directions.
        mask: A brain mask on its grid, if one lies there.
    """

    series: Path
    bval: Path
    bvec: Path
    mask: Path | None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file that the maps are made of."""
        return tuple(path for path in (self.series, self.bval, self.bvec, self.mask) if path)


def find_files(series: Path) -> DwiFiles:
    """The files that belong to a diffusion series.

    Raises:
        ScanError: If b-values or directions are missing, or if several files may be meant.
    """
    return DwiFiles(series, _sidecar(series, "bval"), _sidecar(series, "bvec"), _mask(series))


def _sidecar(series: Path, kind: str) -> Path:
    stem = _IMAGE_END.sub("", series.name)
    named = [series.with_name(stem + ending) for ending in _ENDINGS[kind]]
    plain = [series.with_name(name) for name in _PLAIN[kind]]
    # One after the other: a file of the series' own name settles what others might be.
    for path in chain(named, _inherited(series, kind), plain):
        if path.is_file():
            return path
    msg = (
        f"{series} has no {_CONTENT[kind]}: {named[0].name} does not lie beside it, and no"
        f" {_ENDINGS[kind][0]} file of the dataset applies to it. Convert the series again with"
        " dcm2niix, which writes them. If no diffusion series was meant, leave 'dwi:' out; if"
        " another file was, choose it with --filter suffix=dwi."
    )
    raise ScanError("gradients", msg)


def _inherited(series: Path, kind: str) -> Iterator[Path]:
    """Files whose entities the series has too, in its folder and those above it.

    Raises:
        ScanError: If a folder holds several of them, which BIDS forbids.
    """
    entities, suffix = _parts(series)
    for folder in _levels(series):
        found = []
        for path in sorted(folder.glob(f"*{_ENDINGS[kind][0]}")):
            own, own_suffix = _parts(path)
            if own_suffix == suffix and own.items() <= entities.items():
                found.append(path)
        if len(found) > 1:
            names = listing(path.name for path in found)
            msg = f"{series} may have the {_CONTENT[kind]} of {names} in {folder}. Keep one."
            raise ScanError("gradients", msg)
        yield from found


def _levels(series: Path) -> Iterator[Path]:
    """The series' folder and those above it, up to the dataset, which holds the subject's."""
    folders = [series.absolute().parent, *series.absolute().parent.parents][:_MOST_LEVELS]
    subject = [i for i, folder in enumerate(folders) if folder.name.startswith("sub-")]
    yield from folders[: subject[0] + 2] if subject else folders[:1]


def _mask(series: Path) -> Path | None:
    """The mask that QSIPrep and other BIDS derivatives, or FSL's users, lay beside the series."""
    entities, suffix = _parts(series)
    if suffix == "dwi":
        others = {key: value for key, value in entities.items() if key != "desc"}
        wanted = {**others, "desc": "brain"}
        for path in sorted(series.parent.glob("*_mask.nii*")):
            if _parts(path) == (wanted, "mask"):
                return path
        return None
    return next((p for p in map(series.with_name, _PLAIN_MASKS) if p.is_file()), None)


def _parts(path: Path) -> tuple[dict[str, str], str]:
    """Entities and suffix of a BIDS name, also of one above the subjects, such as ``dwi.bval``.

    Parts of another name are entities without a value, which no other file has by chance.
    """
    *parts, suffix = path.name.split(".")[0].split("_")
    pairs = (part.partition("-") for part in parts)
    return {key: value for key, _, value in pairs}, suffix
