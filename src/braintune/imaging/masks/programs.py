"""Programs that extract brains, as far as they are installed: how each is called and what it gives.

Nothing of them comes with braintune, and nothing is fetched. A program is started in a temporary
folder, on a copy of the scan, with a time limit.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.errors import InputError, listing, nearest
from braintune.imaging.masks.bringing import bring_mask
from braintune.imaging.nifti import ScanError, Volume, write_volume

Mask = npt.NDArray[np.bool_]
# A network on one processor core takes some minutes for a scan.
TIME_LIMIT_S = 3600.0
_LAST_LINES = 8


@dataclass(frozen=True)
class Program:
    """How to have a program find a brain.

    Attributes:
        name: What recipes call it.
        command: Its words; ``{scan}`` stands for the scan's file and ``{out}`` for the output.
        mask: The file, in the folder that it runs in, whose voxels above 0 are brain.
        install: What to do where it is missing.
    """

    name: str
    command: tuple[str, ...]
    mask: str
    install: str


PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program(
            name="hd-bet",
            command=(
                *("hd-bet", "-i", "{scan}", "-o", "{out}", "-device", "cpu"),
                *("--disable_tta", "--save_bet_mask", "--no_bet_image"),
            ),
            mask="out_bet.nii.gz",
            install="pip install 'hd-bet>=2' in an environment of its own",
        ),
        Program(
            name="synthstrip",
            command=("mri_synthstrip", "-i", "{scan}", "-m", "{out}"),
            mask="out.nii.gz",
            install="install FreeSurfer 7.3 or newer, or the synthstrip container's script",
        ),
        Program(
            name="freesurfer",
            command=("mri_watershed", "-atlas", "{scan}", "{out}"),
            mask="out.nii.gz",
            install="install FreeSurfer and source its SetUpFreeSurfer.sh",
        ),
    )
}


def find_program(name: str) -> Program:
    """The program of a name, which must be installed.

    Raises:
        InputError: If the name is unknown, or the program is not on the PATH.
    """
    if name not in PROGRAMS:
        msg = f"Unknown program {name!r}.{nearest(name, PROGRAMS)} Known: {listing(PROGRAMS)}."
        raise InputError(msg)
    program = PROGRAMS[name]
    if shutil.which(program.command[0]) is None:
        msg = (
            f"'heads: {{brain: {name}}}' needs the program {program.command[0]}, which is not on"
            f" the PATH. To have it: {program.install}. 'brain: template' needs nothing."
        )
        raise InputError(msg)
    return program


def mask_by_program(name: str, scan: Volume, *, time_limit: float = TIME_LIMIT_S) -> Mask:
    """Have a program find the brain of a scan.

    Args:
        name: The program, as recipes call it.
        scan: The scan, in its own space.
        time_limit: Seconds after which it is stopped.

    Returns:
        Of the scan's shape.

    Raises:
        InputError: If the program is not installed.
        ScanError: If it fails, takes too long, or leaves no mask, with its last lines.
    """
    program = find_program(name)
    with tempfile.TemporaryDirectory(prefix=f"braintune-{name}-") as place:
        folder = Path(place)
        write_volume(folder / "scan.nii.gz", scan.data, scan.affine)
        said = _run(program, folder, time_limit)
        mask = folder / program.mask
        if not mask.exists():
            msg = f"{program.command[0]} ended well, but left no {program.mask}.{_last(said)}"
            raise ScanError(name, msg)
        return bring_mask(mask, scan)


def _run(program: Program, folder: Path, time_limit: float) -> str:
    """Run a program to its end.

    Returns:
        What it said.
    """
    places = {"scan": str(folder / "scan.nii.gz"), "out": str(folder / "out.nii.gz")}
    words = [word.format(**places) for word in program.command]
    log = folder / "said.txt"
    with log.open("wb") as file:
        try:
            status = subprocess.run(  # noqa: S603 - the words are ours, no shell reads them
                words,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=time_limit,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            msg = f"{words[0]} took more than {time_limit:g} s and was stopped.{_last(_text(log))}"
            raise ScanError(program.name, msg) from None
    said = _text(log)
    if status != 0:
        msg = f"{words[0]} failed with exit status {status}.{_last(said)}"
        raise ScanError(program.name, msg)
    return said


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()][-_LAST_LINES:]
    return f" Its last lines: {' | '.join(lines)}" if lines else " It said nothing."
