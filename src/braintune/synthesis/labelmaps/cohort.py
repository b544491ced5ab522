"""A cohort of generated scans on disk: a BIDS dataset with everything about it known."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from braintune._version import __version__
from braintune.cohort.description import write_description
from braintune.cohort.tables import write_table_text
from braintune.errors import InputError
from braintune.files import digest, make_folder, read_json, refuse_occupied, write_json, write_text
from braintune.imaging.grid import ras_grid
from braintune.imaging.nifti import write_volume
from braintune.parallel import check_workers, map_parallel
from braintune.synthesis.labelmaps.generator import GeneratedBatch, LabelMapGenerator
from braintune.synthesis.labelmaps.options import GeneratorOptions

# White matter's intensity in the files.
_WHITE = 1000
_MOST = 999_999
_ORDER = "generator.json"


@dataclass(frozen=True)
class _Work:
    """One scan to be written."""

    out: Path
    options: GeneratorOptions
    index: int

    @property
    def name(self) -> str:
        """The BIDS name; it has one width for any count, so that more can be added."""
        return f"sub-{self.index + 1:06d}"

    @property
    def row(self) -> Path:
        """What is known of the scan, which is written last."""
        return self.out / "sourcedata" / "scans" / f"{self.name}.json"


def write_cohort(
    out: Path, options: GeneratorOptions, count: int, workers: int | None = None
) -> pd.DataFrame:
    """Write generated scans, their label maps and a table of what is known of them.

    Scans that are there already are kept, so that an interrupted command goes on; with a larger
    count, more are added.

    Args:
        out: A new folder, or one that the same options have written to.
        options: Which scans are made.
        count: How many.
        workers: Processes; by default one a core.

    Returns:
        The rows of ``participants.tsv``: traits, and volumes in mm³.

    Raises:
        InputError: If a label map can't be used, or the folder holds something else.
    """
    if not 1 <= count <= _MOST:
        raise InputError(f"--count must be from 1 to {_MOST:,}, not {count}.")
    check_workers(workers)
    generator = _generator(options.model_dump_json())
    _claim(out, options)
    wanted = [_Work(out, options, index) for index in range(count)]
    todo = [work for work in wanted if not work.row.exists()]
    for _ in map_parallel("Making scans", _make, todo, workers):
        pass
    rows = pd.DataFrame([read_json(work.row) for work in wanted])
    _write_tables(out, rows, generator)
    return rows


def _claim(out: Path, options: GeneratorOptions) -> None:
    """Mark a folder as this cohort's, and refuse one that is something else's."""
    order = out / "sourcedata" / _ORDER
    key = digest(options.model_dump(mode="json"))
    if order.exists():
        if read_json(order).get("digest") != key:
            raise InputError(f"{out} holds scans of other options. Choose a new folder.")
        return
    refuse_occupied(out, "the generated scans")
    make_folder(order.parent)
    write_json(order, {"digest": key, "options": options.model_dump(mode="json")})


@lru_cache(maxsize=1)
def _generator(options: str) -> LabelMapGenerator:
    """The generator of some options, as JSON; a process makes it once."""
    return LabelMapGenerator(GeneratorOptions.model_validate_json(options))


def _make(work: _Work) -> None:
    """Write one scan; its row comes last, and says that the scan is whole."""
    generator = _generator(work.options.model_dump_json())
    batch = generator.batch([work.index])
    folder = work.out / work.name / "anat"
    affine = ras_grid(work.options.shape, work.options.spacing, np.zeros(3)).affine
    image = (batch.images[0, 0] * _WHITE).round().clamp(-32768, 32767).short().numpy()
    values = np.array([label.value for label in generator.table], dtype=np.int32)
    write_volume(folder / f"{work.name}_T1w.nii.gz", image, affine)
    labels = values[batch.labels[0].numpy()]
    labels = labels.astype(np.int16) if values.max() < 2**15 else labels
    write_volume(folder / f"{work.name}_dseg.nii.gz", labels, affine)
    write_json(work.row, _row(work.name, batch, generator))


def _row(name: str, batch: GeneratedBatch, generator: LabelMapGenerator) -> dict[str, object]:
    return {"participant_id": name, **known_facts(batch, generator)}


def known_facts(
    batch: GeneratedBatch, generator: LabelMapGenerator, position: int = 0
) -> dict[str, object]:
    """What is known of a generated scan, as the columns of ``participants.tsv`` name it.

    Args:
        batch: The scan and others.
        generator: What made them.
        position: Which of them.
    """
    age, disease, male = (round(float(v), 4) for v in batch.traits[position])
    youngest, oldest = _years(generator.options)
    return {
        "age": round(youngest + age * (oldest - youngest), 2),
        "sex": "M" if male else "F",
        "disease": disease,
        "anatomy": batch.anatomies[position],
        **{
            _column(region): float(volume)
            for region, volume in zip(generator.regions, batch.volumes[position], strict=True)
        },
    }


def _column(region: str) -> str:
    return re.sub(r"\W+", "_", region).strip("_") + "_mm3"


def _years(options: GeneratorOptions) -> tuple[float, float]:
    return options.people.years if options.people else (20.0, 85.0)


def _write_tables(out: Path, rows: pd.DataFrame, generator: LabelMapGenerator) -> None:
    write_text(out / "participants.tsv", write_table_text(rows))
    volumes = {
        _column(region): {"Description": f"volume of {region}, counted in the dseg", "Units": "mm3"}
        for region in generator.regions
    }
    write_json(out / "participants.json", {**_COLUMNS, **volumes})
    table = pd.DataFrame(
        [(label.value, label.name) for label in generator.table], columns=["index", "name"]
    )
    write_text(out / "dseg.tsv", write_table_text(table))
    effects = generator.effects
    write_text(out / "README", _README.format(version=__version__, effects=_listed(effects)))
    write_description(
        out,
        "Generated T1w scans with known traits and volumes",
        "raw",
        Authors=["braintune synthesize maps"],
        Acknowledgements=f"Made from {len(generator.anatomies.names)} label maps; their licence"
        " holds for what is made from them.",
    )
    write_text(out / ".bidsignore", "**/*_dseg.nii.gz\ndseg.tsv\n")


def _listed(effects: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {effect}" for name, effect in effects.items())


_COLUMNS = {
    "age": {"Description": "planted age", "Units": "year"},
    "sex": {"Description": "planted sex", "Levels": {"F": "female", "M": "male"}},
    "disease": {"Description": "severity of the planted disease, from 0 (none) to 1"},
    "anatomy": {"Description": "label map that the scan was made from"},
}
_README = """# Generated scans

Written by braintune {version} from label maps, deformed and imaged anew. No person was scanned.
What was planted, as shares of the volume, from the youngest to the oldest, for the most severe
disease, for males against females, and by chance between people:

{effects}

The volumes in `participants.tsv` are counted in the label maps (`*_dseg.nii.gz`).
"""
