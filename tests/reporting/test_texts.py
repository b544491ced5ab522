import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braintune.cohort.read import read_cohort
from braintune.imaging.prepare import prepare
from braintune.recipe import PrepareRecipe
from braintune.reporting.contact_sheet import MOST, write_contact_sheet
from braintune.reporting.findings import against_baselines, chance
from braintune.reporting.methods_preparation import preparation_sentences
from braintune.reporting.numbers import p_value, with_interval
from braintune.reporting.participants import demographics, flow


def measured(value: float, low: float | None, high: float | None) -> dict[str, object]:
    entry = {"value": value, "low": low, "high": high}
    return {**entry, "label": "ROC-AUC", "higher_is_better": True, "chance": 0.5}


def test_numbers_are_short_and_signed_properly() -> None:
    assert with_interval(measured(-0.123456, -1.5, 12.34)) == "−0.123 [−1.50, 12.3]"
    assert with_interval(measured(0.5, None, None)) == "0.500"
    assert [p_value(p) for p in (None, 0.0001, 0.042, 0.5)] == ["–", "< 0.001", "0.042", "0.50"]


@pytest.mark.parametrize(
    ("low", "high", "verb"),
    [(0.6, 0.9, "excludes"), (0.4, 0.9, "includes"), (0.1, 0.4, "excludes"), (0.5, 0.9, "include")],
)
def test_chance_is_in_the_interval_or_not(low: float, high: float, verb: str) -> None:
    sentence = chance({"headline": "auc", "metrics": {"auc": measured(0.7, low, high)}})
    assert sentence is not None
    assert verb in sentence


@pytest.mark.parametrize(
    ("gain", "p", "higher", "verdict"),
    [
        ((0.1, 0.05, 0.2), 0.01, True, "better"),
        ((0.1, 0.05, 0.2), 0.20, True, "open"),
        ((0.1, -0.05, 0.2), 0.01, True, "open"),
        ((-0.1, -0.2, -0.05), 0.01, True, "worse"),
        ((-0.1, -0.2, -0.05), 0.01, False, "better"),
        ((0.1, 0.05, 0.2), None, True, "better"),
    ],
)
def test_a_difference_is_settled_only_if_interval_and_test_agree(
    gain: tuple[float, float, float], p: float | None, higher: bool, verdict: str
) -> None:
    value, low, high = gain
    entry = measured(0.7, 0.6, 0.8) | {"higher_is_better": higher}
    other = {
        "label": "age and sex",
        "metrics": {"auc": measured(0.6, 0.5, 0.7)},
        "network_minus_baseline": {"value": value, "low": low, "high": high, "p_holm": p},
    }
    metrics = {"headline": "auc", "metrics": {"auc": entry}, "baselines": {"age_sex": other}}
    ((told, sentence),) = against_baselines(metrics)
    assert told == verdict
    assert "age and sex" in sentence


def test_participants_are_counted_once_each() -> None:
    cohort = pd.DataFrame(
        {
            "participant_id": ["a", "a", "b", "c"],
            "dx": ["AD", "AD", "CN", "CN"],
            "age": ["60", "62", "70", "80"],
        },
        dtype="string",
    )
    table = demographics(cohort, pd.DataFrame({"fold": ["x"] * 4, **cohort}), "dx")
    rows = dict(table["rows"])
    assert rows["subjects"] == ["3", "3"]
    assert rows["dx AD"] == ["1", "1"]
    counted = flow(cohort, [{"id": "d", "reason": "no scan"}, {"id": "e", "reason": "no scan"}])
    assert (counted["found"], counted["scans"], counted["subjects"]) == (6, 4, 3)
    assert counted["reasons"] == [("no scan", 2)]


def test_a_contact_sheet_shows_scans_spread_over_the_cohort(
    cohort_folder: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_folder)
    recipe = PrepareRecipe(spacing=6.0, shape=(32, 36, 32))
    store = prepare(cohort, tmp_path / "store", recipe, workers=1).store
    path = tmp_path / "sheet.png"
    assert write_contact_sheet(path, store, cohort.scan_ids) == min(MOST, 32)
    picture = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
    bands = np.array_split(picture, 8)
    assert all(band.max() > 150 and band.mean() > 10 for band in bands)


def test_the_methods_say_how_diffusion_series_were_prepared() -> None:
    text = preparation_sentences(PrepareRecipe.model_validate({"dwi": {"maps": ["fa", "rd"]}}))
    assert "b = 0 and all shells up to b = 1500 s/mm² by weighted least squares" in text
    assert "fractional anisotropy and radial diffusivity were brought to MNI152 space" in text
    assert "9 degrees of freedom" in text
    values = {"shells": [1000, 2000], "registration": "none"}
    text = preparation_sentences(PrepareRecipe.model_validate({"dwi": values, "intensity": "none"}))
    assert "the shells of b = 1000, 2000 s/mm²" in text
    assert "RAS orientation, 2 mm and 80 × 96 × 80 voxels, their values left as they were" in text
