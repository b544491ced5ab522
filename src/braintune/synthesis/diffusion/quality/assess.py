"""The quality report's numbers: samples against a real cohort, written as files."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table, write_table_text
from braintune.console import say
from braintune.errors import InputError
from braintune.files import read_json, write_bytes, write_json, write_text
from braintune.imaging.pictures import png, sheet, three_slices
from braintune.imaging.prepare import fill_store
from braintune.imaging.store import PreparedStore
from braintune.imaging.stores import store_for
from braintune.recipe import PrepareRecipe
from braintune.synthesis.diffusion.conditions import Condition
from braintune.synthesis.diffusion.model import SEEN
from braintune.synthesis.diffusion.quality.coarse import Rows, coarse_rows
from braintune.synthesis.diffusion.quality.distances import (
    frechet_distance,
    permutation_p,
    squared_mmd,
)
from braintune.synthesis.diffusion.quality.diversity import mean_similarity, scales_that_fit
from braintune.synthesis.diffusion.quality.features import FeatureExtractor
from braintune.synthesis.diffusion.quality.memory import copied, nearest
from braintune.synthesis.diffusion.quality.reader import Correlation, can_read, read_off
from braintune.synthesis.diffusion.quality.ventricles import ventricular_ml
from braintune.synthesis.diffusion.sample import GENERATOR

QUALITY, MEASURED = "quality.json", "measured.tsv"
_SHOWN = 12


@dataclass(frozen=True)
class AssessmentOptions:
    """What is compared, and how.

    Attributes:
        backbone: Whose features sets are compared by.
        weights: Its weights; ``"none"`` for random ones, which the report says.
        pairs: Pairs of each set whose similarity is computed, at most.
        permutations: Of the test whether the sets differ.
        workers: Processes that prepare scans, by default one a core.
        seed: Of whatever is drawn.
    """

    backbone: str = "resnet10"
    weights: str = "none"
    pairs: int = 100
    permutations: int = 500
    workers: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Sets:
    """Prepared samples and real scans.

    Attributes:
        samples: The samples' store.
        real: The real scans' store.
        made: The samples' table.
        cohort: The real scans' table.
        trained: Which real scans the model was trained on; None if that is not known.
        conditions: The model's.
    """

    samples: PreparedStore
    real: PreparedStore
    made: pd.DataFrame
    cohort: pd.DataFrame
    trained: npt.NDArray[np.bool_] | None
    conditions: tuple[Condition, ...]

    @property
    def made_ids(self) -> list[str]:
        """The samples' ids."""
        return list(self.made["scan_id"])

    @property
    def real_ids(self) -> list[str]:
        """The real scans' ids."""
        return list(self.cohort["scan_id"])


def assess(
    samples: Path, against: Cohort, out: Path, options: AssessmentOptions | None = None
) -> dict[str, Any]:
    """Measure samples against real scans and write numbers, a table and pictures.

    Args:
        samples: A cohort that `braintune synthesize sample` wrote.
        against: Real scans, best with those that the model was trained on and others.
        out: The folder to write into.
        options: What is compared.

    Returns:
        What ``quality.json`` says.

    Raises:
        InputError: If the samples are not finished, or too few scans are there.
    """
    options = options or AssessmentOptions()
    sets = _prepared(samples, against, options)
    if len(sets.made) < 2 or len(sets.cohort) < 2:
        raise InputError("A report needs at least two samples and two real scans.")
    say("Comparing.")
    made, real = (
        coarse_rows(store, ids)
        for store, ids in ((sets.samples, sets.made_ids), (sets.real, sets.real_ids))
    )
    table = sets.made[["scan_id"]].copy()
    document = {
        "samples": len(sets.made),
        "real": len(sets.cohort),
        "diversity": _diversity(sets, options),
        "likeness": _likeness(sets, options),
        "memorisation": _memorisation(sets, made, real, table),
        "conditions": _obedience(sets, made, real, table),
        "ventricles": _ventricles(sets, table),
    }
    write_text(out / MEASURED, write_table_text(table))
    write_bytes(out / "samples.png", _picture(sets.samples, sets.made_ids))
    write_bytes(out / "real.png", _picture(sets.real, sets.real_ids))
    write_json(out / QUALITY, document)
    return document


def _prepared(samples: Path, against: Cohort, options: AssessmentOptions) -> Sets:
    facts_file = samples / GENERATOR
    if not facts_file.is_file() or not (samples / "participants.tsv").is_file():
        msg = f"{samples} holds no finished samples. Make them with 'braintune synthesize sample'."
        raise InputError(msg)
    facts = read_json(facts_file)
    try:
        recipe = PrepareRecipe.model_validate(facts["prepare"])
        conditions = TypeAdapter(tuple[Condition, ...]).validate_python(facts["conditions"])
    except (ValidationError, KeyError, TypeError):
        raise InputError(f"{facts_file} is not as 'synthesize sample' wrote it.") from None
    own = read_cohort(samples)
    for condition in conditions:
        wanted = [f"{condition.name}_unit"]
        wanted += [condition.column] if condition.kind != "unknown" else []
        for name in wanted:
            own.column(name)
    stores = [
        fill_store(cohort, store_for(cohort, recipe), recipe, workers=options.workers)
        for cohort in (own, against)
    ]
    trained = None
    if (samples / SEEN).is_file():
        seen = set(_column(read_table(samples / SEEN), "voxels", samples / SEEN))
        trained = stores[1].cohort.table["voxels"].isin(seen).to_numpy(bool)
    real = against.table.merge(
        stores[1].cohort.table[["scan_id", "brain_ml"]], on="scan_id", suffixes=("", "_measured")
    )
    return Sets(stores[0].store, stores[1].store, own.table, real, trained, tuple(conditions))


def _column(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    if name not in table.columns:
        raise InputError(f"{path} has no column {name!r}. Sample into a new folder.")
    return table[name]


def _images(store: PreparedStore, scan_ids: list[str]) -> torch.Tensor:
    return torch.from_numpy(
        np.stack([np.array(store.read(scan_id), dtype=np.float32) for scan_id in scan_ids])
    )


def _diversity(sets: Sets, options: AssessmentOptions) -> dict[str, Any]:
    found: dict[str, Any] = {"scales": len(scales_that_fit(sets.samples.recipe.shape))}
    for name, store, ids in (
        ("samples", sets.samples, sets.made_ids),
        ("real", sets.real, sets.real_ids),
    ):
        chosen = _spread(ids, 2 * options.pairs)
        found[name] = mean_similarity(_images(store, chosen), options.pairs, options.seed)
    return found


def _likeness(sets: Sets, options: AssessmentOptions) -> dict[str, Any]:
    """Distances of features: samples from real scans, and halves of the real scans."""
    extract = FeatureExtractor(options.backbone, options.weights, sets.samples.shape)
    made, real = extract(sets.samples, sets.made_ids), extract(sets.real, sets.real_ids)
    # Each feature counts alike, in units of its spread over real scans.
    center, spread = real.mean(0), real.std(0)
    made, real = ((x - center) / np.maximum(spread, 1e-6) for x in (made, real))
    chance = np.random.default_rng([options.seed, 84])
    order = chance.permutation(len(real))
    # The Fréchet distance depends on the sizes of the sets, so both are taken at the same.
    size = min(len(made), len(real) // 2)
    found: dict[str, Any] = {"features": extract.name, "size": size}
    if size < 2:
        return found
    first, second = real[order[:size]], real[order[size : 2 * size]]
    return found | {
        "frechet": frechet_distance(made[:size], first),
        "frechet_of_real_halves": frechet_distance(first, second),
        "mmd2": squared_mmd(made, real),
        "mmd2_of_real_halves": squared_mmd(first, second),
        "p": permutation_p(made, real, options.permutations, options.seed),
    }


def _memorisation(sets: Sets, made: Rows, real: Rows, table: pd.DataFrame) -> dict[str, Any]:
    if sets.trained is None or sets.trained.sum() < 3:
        reason = "fewer than three scans that the model was trained on are among the real scans"
        return {"known": False, "reason": reason}
    training, others = real[sets.trained], real[~sets.trained]
    found = nearest(made, training)
    held_out = len(others) >= 2
    reference = nearest(others, training) if held_out else nearest(training, training, itself=True)
    suspects = copied(found, reference)
    names = np.array(sets.real_ids)[sets.trained]
    table["nearest"] = names[found.row]
    table["distance"] = [f"{value:.6g}" for value in found.distance]
    table["ratio"] = [f"{value:.4f}" for value in found.ratio]
    return {
        "known": True,
        "reference": "held-out scans" if held_out else "training scans among themselves",
        "median_distance": float(np.median(found.distance)),
        "median_distance_of_reference": float(np.median(reference.distance)),
        "median_ratio": float(np.median(found.ratio)),
        "lowest_ratio": float(found.ratio.min()),
        "lowest_ratio_of_reference": float(reference.ratio.min()),
        "suspected_copies": [sets.made_ids[row] for row in np.flatnonzero(suspects)],
    }


def _obedience(
    sets: Sets, made: Rows, real: Rows, table: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """For each condition that the real cohort has, what is read off samples against the ask."""
    found = {}
    for condition in sets.conditions:
        if condition.kind == "unknown" or condition.column not in sets.cohort:
            continue
        rows = sets.cohort[condition.column].notna().to_numpy(bool)
        truth = _numbers(condition, sets.cohort[condition.column][rows])
        if not can_read(truth):
            continue
        subjects = sets.cohort["participant_id"][rows].to_numpy(str)
        reading = read_off(real[rows], truth, subjects, made)
        asked = _numbers(condition, sets.made[condition.column])
        table[f"{condition.name}_asked"] = [f"{value:.6g}" for value in asked]
        table[f"{condition.name}_read"] = [f"{value:.6g}" for value in reading.samples]
        found[condition.name] = {
            "asked_against_read": asdict(Correlation.of(asked, reading.samples)),
            "on_real_scans": asdict(reading.real),
        }
    return found


def _numbers(condition: Condition, values: pd.Series) -> npt.NDArray[np.float64]:
    if condition.words is not None:
        return np.asarray(values == condition.words[1], dtype=np.float64)
    return pd.to_numeric(values, errors="coerce").to_numpy("float64")


def _ventricles(sets: Sets, table: pd.DataFrame) -> dict[str, Any] | None:
    """Dark fluid in the place of the ventricles against the ask, without any reader."""
    condition = next((c for c in sets.conditions if c.name == "ventricles"), None)
    if condition is None:
        return None
    measured = _fluid(sets.samples, sets.made_ids)
    asked = pd.to_numeric(sets.made["ventricles_unit"]).to_numpy("float64")
    table["fluid_ml"] = [f"{value:.4g}" for value in measured]
    found: dict[str, Any] = {"asked_against_measured": asdict(Correlation.of(asked, measured))}
    if condition.column in sets.cohort:
        truth = pd.to_numeric(sets.cohort[condition.column]).to_numpy("float64")
        real = _fluid(sets.real, sets.real_ids)
        found["on_real_scans"] = asdict(Correlation.of(truth, real))
    return found


def _fluid(store: PreparedStore, ids: list[str]) -> npt.NDArray[np.float64]:
    return np.array(
        [
            ventricular_ml(np.array(store.read(i)[0], dtype=np.float32), store.facts(i).affine)
            for i in ids
        ]
    )


def _spread(ids: list[str], most: int) -> list[str]:
    """Some ids, spread over all."""
    return [ids[i] for i in np.linspace(0, len(ids) - 1, min(most, len(ids))).round().astype(int)]


def _picture(store: PreparedStore, ids: list[str]) -> bytes:
    pictures = [three_slices(np.array(store.read(i)[0])) for i in _spread(ids, _SHOWN)]
    return png(sheet(pictures, columns=3))
