"""Raw heads through the whole T1w pipeline: masks, maps, time, robustness, and ANTs beside it.

    python benchmarks/prepare.py --heads IXI_HEADS --brains IXI --maps LABELMAPS --ants PYTHON

``--ants`` names the Python of an environment that has antspyx, which asks for an older NumPy than
braintune; without it that row is left out. Results go to ``benchmarks/results/prepare.json``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from braintune.cohort.read import read_cohort
from braintune.files import read_json, write_json
from braintune.imaging.grid import Grid, ras_grid, resample, world_center
from braintune.imaging.heads.limits import dice
from braintune.imaging.heads.preparing import prepare_head, to_ras
from braintune.imaging.heads.result import RegisteredHead
from braintune.imaging.heads.template import template_at
from braintune.imaging.nifti import ScanError, Volume, read_volume, write_volume
from braintune.imaging.prepare import prepare
from braintune.recipe import PrepareRecipe, ScansRecipe
from braintune.synthesis.labelmaps.generator import LabelMapGenerator
from braintune.synthesis.labelmaps.options import (
    GeneratorOptions,
    GeometryOptions,
    ScannerOptions,
)
from measuring import RESULTS, environment

Mask = npt.NDArray[np.bool_]
_ANTS = """
import json, sys, time
import ants
fixed, moving, out = sys.argv[1:]
start = time.process_time()
found = ants.registration(ants.image_read(fixed), ants.image_read(moving),
                          type_of_transform="Affine", random_seed=1)
seconds = time.process_time() - start
ants.image_write(found["warpedmovout"], out)
print(json.dumps({"seconds": seconds}))
"""


def main() -> None:
    """Measure what is asked for, and write it beside what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path)
    parser.add_argument("--brains", type=Path)
    parser.add_argument("--maps", type=Path)
    parser.add_argument("--ants", type=Path)
    parser.add_argument("--parts", nargs="*", default=["heads", "maps", "robust", "ants"])
    parser.add_argument(
        "--count", type=int, default=20, help="label maps, and heads beside ANTs, that are taken"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "prepare.json")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Any]] = {
        "heads": lambda: heads(options.heads, options.brains),
        "maps": lambda: label_maps(options.maps, options.count),
        "robust": lambda: robust(options.heads, options.brains),
        "ants": lambda: beside_ants(options.heads, options.ants, options.count),
        "workers": lambda: workers(options.heads),
    }
    document = read_json(options.out) if options.out.exists() else {}
    for part in options.parts:
        if part == "ants" and options.ants is None:
            continue
        document["environment"] = environment(("SimpleITK", "scipy", "nilearn"))
        document[part] = _nameless(parts[part]())
        write_json(options.out, document)


def _nameless(result: dict[str, Any]) -> dict[str, Any]:
    """A result whose scans are counted: results name nobody."""
    if "scans" not in result or isinstance(result["scans"], int):
        return result
    return result | {"scans": list(result["scans"].values())}


def _recipe(registration: str = "affine-9", **settings: Any) -> PrepareRecipe:
    return PrepareRecipe.model_validate({"heads": {"registration": registration}, **settings})


def _files(folder: Path) -> dict[str, Path]:
    return {path.name.partition("_")[0]: path for path in sorted(folder.rglob("*_T1w.nii.gz"))}


def truth(head: Path, brain: Path) -> tuple[Volume, Mask]:
    """A head in RAS, and the mask of its prepared copy on the head's own voxels.

    The copy is the head cut out by whole voxels, so that the correlation of both is largest, and
    nearly 1, where it was cut.
    """
    whole, part = to_ras(read_volume(head)), to_ras(read_volume(brain))
    inside = part.data > 0
    centered = np.where(inside, part.data - part.data[inside].mean(), 0)
    size = [a + b for a, b in zip(whole.data.shape, part.data.shape, strict=True)]
    axes = (0, 1, 2)
    found = np.fft.irfftn(
        np.fft.rfftn(whole.data, size, axes) * np.conj(np.fft.rfftn(centered, size, axes)),
        size,
        axes,
    )
    place = np.unravel_index(found.argmax(), found.shape)
    shift = [
        int(p) if p < n else int(p) - s
        for p, n, s in zip(place, whole.data.shape, size, strict=True)
    ]
    affine = whole.affine.copy()
    affine[:3, 3] += whole.affine[:3, :3] @ shift
    own = Grid(whole.data.shape, whole.affine)
    mask = resample(Volume(inside.astype(np.float32), affine), own) > 0.5
    values = resample(Volume(part.data, affine), own)
    assert np.corrcoef(values[mask], whole.data[mask])[0, 1] > 0.99
    return whole, mask


def _prepared(path: Path, recipe: PrepareRecipe) -> tuple[RegisteredHead, float]:
    start = time.process_time()
    head = prepare_head(path, recipe)
    return head, time.process_time() - start


def heads(folder: Path, brains: Path) -> dict[str, Any]:
    """Dice of the brain mask, seconds of one core and similarity of every real head."""
    for spacing in (2.0, 4.0, 8.0):
        template_at(spacing)
    rows, copies = {}, _files(brains)
    for name, path in _files(folder).items():
        _, mask = truth(path, copies[name])
        head, seconds = _prepared(path, _recipe())
        rows[name] = {
            "dice": round(dice(head.mask, mask), 4),
            "seconds": round(seconds, 1),
            "similarity": round(head.evidence.similarity, 4),
            "flags": list(head.evidence.flags),
        }
        print(name, rows[name], flush=True)
    scores = [row["dice"] for row in rows.values()]
    return {
        "scans": rows,
        "dice_mean": round(statistics.mean(scores), 4),
        "dice_worst": min(scores),
        "seconds_most": max(row["seconds"] for row in rows.values()),
        "similarity_median": statistics.median(row["similarity"] for row in rows.values()),
    }


def label_maps(folder: Path, count: int) -> dict[str, Any]:
    """Dice on simulated heads, and how well planted moves are found.

    What is planted is the move between two scans of one head: the second is the first, moved by
    the change of its affine, and resampled; the maps to the template must differ by just that.
    """
    options = GeneratorOptions(
        maps=[str(folder)],
        shape=(112, 128, 128),
        brain="head",
        diseased=0.0,
        geometry=GeometryOptions(rotation=8, shift=6),
        scanner=ScannerOptions(thick_share=0.0, ghosting_share=0.0),
        seed=5,
    )
    generator = LabelMapGenerator(options)
    brain = generator.members("intracranial")
    chance = np.random.default_rng(0)
    rows: dict[str, Any] = {}
    index = 0
    while len(rows) < min(count, len(generator.anatomies.names)):
        name = generator.anatomies.names[generator.draw(index).anatomy]
        if name not in rows:
            batch = generator.batch([index])
            grid = ras_grid(options.shape, options.spacing, np.zeros(3))
            image = Volume(batch.images[0, 0].numpy().astype(np.float32), grid.affine)
            mask = ndimage.binary_fill_holes(np.isin(batch.labels[0].numpy(), brain))
            rows[name] = _simulated(image, mask, grid, chance if len(rows) % 2 == 0 else None)
            print(name, rows[name], flush=True)
        index += 1
    scores = [row["dice"] for row in rows.values() if "dice" in row]
    moved = [row for row in rows.values() if "millimetres" in row]
    return {
        "scans": rows,
        "dice_mean": round(statistics.mean(scores), 4),
        "dice_worst": min(scores),
        "refused": sum("refused" in row for row in rows.values()),
        "millimetres_median": statistics.median(row["millimetres"] for row in moved),
        "millimetres_most": max(row["millimetres"] for row in moved),
        "degrees_most": max(row["degrees"] for row in moved),
    }


def _simulated(
    image: Volume, mask: Mask, grid: Grid, chance: np.random.Generator | None
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sub-1_T1w.nii.gz"
        write_volume(path, image.data, image.affine)
        try:
            head, _ = _prepared(path, _recipe("affine-12"))
        except ScanError as error:
            return {"refused": str(error).partition(": ")[2][:200]}
        row: dict[str, Any] = {"dice": round(dice(head.mask, mask), 4)}
        if chance is None:
            return row
        move = np.eye(4)
        turn = Rotation.from_euler("xyz", chance.uniform(-25, 25, 3), degrees=True).as_matrix()
        move[:3, :3] = turn * np.exp(chance.uniform(-0.1, 0.1))
        move[:3, 3] = chance.uniform(-12, 12, 3)
        write_volume(path, resample(Volume(image.data, move @ image.affine), grid), grid.affine)
        try:
            other, _ = _prepared(path, _recipe("affine-12"))
        except ScanError as error:
            return row | {"refused": str(error).partition(": ")[2][:200]}
        found = np.linalg.inv(other.to_template) @ head.to_template
        points = np.argwhere(mask)[::500] @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        off = points @ (found - move)[:3, :3].T + (found - move)[:3, 3]
        left, _, right = np.linalg.svd(found[:3, :3] @ np.linalg.inv(move[:3, :3]))
        angle = Rotation.from_matrix(left @ right).magnitude()
        return row | {
            "millimetres": round(float(np.linalg.norm(off, axis=1).mean()), 2),
            "degrees": round(float(np.degrees(angle)), 2),
        }


def robust(folder: Path, brains: Path) -> dict[str, Any]:
    """What becomes of a head that is turned, cut, darkened, or stored in an unusual way."""
    copies = _files(brains)
    name, path = sorted(_files(folder).items())[3]
    scan, mask = truth(path, copies[name])
    rows = {}
    for case, (volume, dtype) in _cases(scan).items():
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "sub-1_T1w.nii.gz"
            write_volume(file, volume.data.astype(dtype), volume.affine)
            try:
                head, seconds = _prepared(file, _recipe())
            except ScanError as error:
                rows[case] = {"refused": str(error).partition(": ")[2][:160]}
            else:
                own = Grid(head.mask.shape, head.native.affine)
                back = _undone(case, scan)
                affine = np.asarray(back @ scan.affine)
                wanted = resample(Volume(mask.astype(np.float32), affine), own) > 0.5
                rows[case] = {
                    "dice": round(dice(head.mask, wanted), 4),
                    "seconds": round(seconds, 1),
                    "flags": list(head.evidence.flags),
                }
        print(case, rows[case], flush=True)
    return rows


_TURNS = {"turned by 30° (pitch)": (30, 0, 0), "turned by 30° (roll)": (0, 30, 0)}


def _undone(case: str, scan: Volume) -> npt.NDArray[np.float64]:
    """Where a case has moved the head to."""
    move = np.eye(4)
    if case in _TURNS:
        middle = world_center(scan)
        move[:3, :3] = Rotation.from_euler("xyz", _TURNS[case], degrees=True).as_matrix()
        move[:3, 3] = middle - move[:3, :3] @ middle
    return move


def _cases(scan: Volume) -> dict[str, tuple[Volume, str]]:
    own = Grid(scan.data.shape, scan.affine)
    x, y, z = scan.data.shape
    cases: dict[str, tuple[Volume, str]] = {}
    for case in _TURNS:
        moved = Volume(scan.data, np.asarray(_undone(case, scan) @ scan.affine))
        cases[case] = (Volume(resample(moved, own), own.affine), "float32")
    lifted = scan.affine.copy()
    lifted[:3, 3] += scan.affine[:3, :3] @ [0, 0, z // 4]
    cases["cut at the neck"] = (Volume(scan.data[:, :, z // 4 :], lifted), "float32")
    cases["crown cut off"] = (Volume(scan.data[:, :, : z - 22], scan.affine), "float32")
    ramp = np.linspace(-1, 1, y)[None, :, None] + np.linspace(-1, 1, x)[:, None, None]
    cases["strong bias field"] = (
        Volume((scan.data * np.exp(0.5 * ramp)).astype(np.float32), scan.affine),
        "float32",
    )
    for case, size in (("0.7 mm", (0.7, 0.7, 0.7)), ("1 × 1 × 5 mm", (1.0, 1.0, 5.0))):
        shape = tuple(int(n * 2 / s) for n, s in zip((x, y, z), size, strict=True))
        affine = scan.affine @ np.diag([*(s / 2 for s in size), 1])
        data = resample(scan, Grid((shape[0], shape[1], shape[2]), affine))
        cases[case] = (Volume(data, affine), "float32")
    shifted = np.round(scan.data * 20 - 1024)
    cases["16 bits, below 0"] = (Volume(shifted.astype(np.float32), scan.affine), "int16")
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = x - 1
    cases["left-handed affine"] = (
        Volume(np.ascontiguousarray(scan.data[::-1]), np.asarray(scan.affine @ flip)),
        "float32",
    )
    return cases


def beside_ants(folder: Path, python: Path, count: int) -> dict[str, Any]:
    """Similarity to the template and time, beside ANTs' affine on the same bias-corrected brains.

    ANTs gets the template and the head, masked and without bias field as braintune made it, and is
    timed for registration alone; so is braintune, search included.
    """
    template = template_at(2.0)
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        fixed = Path(temporary) / "fixed.nii.gz"
        write_volume(fixed, template.t1, template.grid.affine)
        for name, path in list(_files(folder).items())[:count]:
            head, _ = _prepared(path, _recipe("affine-12"))
            moving, out = Path(temporary) / "moving.nii.gz", Path(temporary) / "out.nii.gz"
            brain = np.where(head.mask, head.native.data, 0).astype(np.float32)
            write_volume(moving, brain, head.native.affine)
            command = [str(python), "-c", _ANTS, str(fixed), str(moving), str(out)]
            start = time.perf_counter()
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                env={"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
            )
            print(name, round(time.perf_counter() - start, 1), flush=True)
            moved = head.to_template @ head.native.affine
            ours = resample(Volume(brain, np.asarray(moved)), template.grid)
            theirs = resample(read_volume(out), template.grid)

            rows[name] = {
                "braintune": round(_similarity(ours), 4),
                "ants": round(_similarity(theirs), 4),
                "braintune_seconds": round(
                    head.seconds["search"] + head.seconds["registration"], 2
                ),
                "ants_seconds": round(json.loads(done.stdout.splitlines()[-1])["seconds"], 2),
            }
    return {
        "scans": rows,
        **{
            f"{key}_median": round(statistics.median(row[key] for row in rows.values()), 4)
            for key in ("braintune", "ants", "braintune_seconds", "ants_seconds")
        },
    }


def _similarity(image: npt.NDArray[np.float32]) -> float:
    template = template_at(2.0)
    return float(np.corrcoef(image[template.brain], template.t1[template.brain])[0, 1])


def workers(folder: Path) -> dict[str, Any]:
    """How much sooner two processes are done than one."""
    cohort = read_cohort(folder, ScansRecipe())
    seconds = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as temporary:
            start = time.perf_counter()
            prepare(cohort, Path(temporary) / "store", _recipe(), workers=count)
            seconds[count] = round(time.perf_counter() - start, 1)
    return {
        "one_seconds": seconds[1],
        "two_seconds": seconds[2],
        "times": round(seconds[1] / seconds[2], 2),
        "scans": len(cohort),
    }


if __name__ == "__main__":
    sys.exit(main())
