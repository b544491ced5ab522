"""ComBat against neuroCombat, against its definition, and against a peek at test rows."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest

from braintune.volumetry.combat import ComBat
from braintune.volumetry.harmonising import Harmonise, SiteRule


def planted(rows: int = 150, features: int = 12, seed: int = 0) -> pd.DataFrame:
    """Volumes that fall with age, at three sites of which two shift and stretch them."""
    random = np.random.default_rng(seed)
    site = random.choice(["a", "b", "c"], rows)
    age = random.uniform(20, 80, rows) + 10 * (site == "b")
    sex = random.choice(["F", "M"], rows)
    frame = pd.DataFrame({"site": site, "age": age, "sex": sex})
    shift = {"a": 0.0, "b": 2.0, "c": -1.5}
    stretch = {"a": 1.0, "b": 1.6, "c": 0.7}
    for number in range(features):
        noise = random.normal(0, 1, rows) * np.array([stretch[s] for s in site])
        noise += np.array([shift[s] for s in site]) + random.normal(0, 0.2)
        frame[f"v{number}"] = 50 + number - 0.1 * age + 1.0 * (sex == "M") + noise
    return frame


VOLUMES = tuple(f"v{number}" for number in range(12))
RULE = SiteRule("site", VOLUMES, ("age",), ("sex",))


def test_training_rows_are_neurocombats() -> None:
    neurocombat = pytest.importorskip("neuroCombat")
    frame = planted()
    with contextlib.redirect_stdout(io.StringIO()):
        reference = neurocombat.neuroCombat(
            frame[list(VOLUMES)].T.to_numpy(),
            frame[["site", "age", "sex"]],
            "site",
            categorical_cols=["sex"],
            continuous_cols=["age"],
        )["data"].T
    ours = Harmonise(RULE).fit_transform(frame)[list(VOLUMES)].to_numpy()
    assert np.abs(ours - reference).max() < 2e-3
    assert np.abs(ours - frame[list(VOLUMES)].to_numpy()).max() > 1


def test_sites_are_gone_and_what_is_kept_is_there() -> None:
    """On rows that nothing was learnt from: shift, stretch and the effects of age and sex."""
    fitted = Harmonise(RULE).fit(planted(600))
    new = planted(1500, seed=7)
    raw, after = new[list(VOLUMES)], fitted.transform(new)[list(VOLUMES)]
    for values, gone in ((raw, False), (after, True)):
        rest = values.sub(-0.1 * new["age"] + 1.0 * (new["sex"] == "M"), axis=0)
        means, spreads = (getattr(rest.groupby(new["site"]), f)() for f in ("mean", "std"))
        assert (np.ptp(means.to_numpy(), axis=0) < 0.5).all() == gone
        assert ((spreads.max() / spreads.min()) < 1.25).all() == gone
    slope = np.polyfit(new["age"], after.to_numpy(), 1)[0]
    assert slope == pytest.approx(np.full(12, -0.1), abs=0.015)


def test_nothing_is_learnt_from_rows_that_it_is_applied_to() -> None:
    """One row alone comes out as among others, however far off the others are."""
    fitted = Harmonise(RULE).fit(planted())
    new = planted(20, seed=3)
    alone = fitted.transform(new.iloc[[4]])
    beside = new.copy()
    beside.loc[beside.index != 4, list(VOLUMES)] *= 100
    assert np.array_equal(
        alone[list(VOLUMES)].to_numpy(), fitted.transform(beside).loc[[4], list(VOLUMES)].to_numpy()
    )
    before = fitted.combat_
    fitted.transform(new.assign(dx="AD"))
    assert fitted.combat_ is before


def test_the_target_has_no_say() -> None:
    frame = planted()
    fitted = [Harmonise(RULE).fit(frame, truth) for truth in (np.zeros(150), np.arange(150))]
    assert np.array_equal(fitted[0].combat_.shifts, fitted[1].combat_.shifts)


def test_an_unknown_site_is_one_without_shift() -> None:
    frame = planted()
    fitted = Harmonise(RULE).fit(frame)
    new = frame.iloc[:5].assign(site="elsewhere")
    same = fitted.transform(new)
    assert same[list(VOLUMES)].to_numpy() == pytest.approx(new[list(VOLUMES)].to_numpy())


def test_gaps_stay_gaps_and_change_nothing_else() -> None:
    frame = planted()
    holes = frame.copy()
    holes.loc[::9, "v3"] = np.nan
    holes.loc[::13, "age"] = np.nan
    after = Harmonise(RULE).fit_transform(holes)
    assert after["v3"].isna().equals(holes["v3"].isna())
    assert after.drop(columns=["v3", "age"]).notna().all().all()


def test_without_shrinking_it_is_location_and_scale() -> None:
    """One feature has nothing to be shrunk to: its sites come out with one mean and spread."""
    random = np.random.default_rng(0)
    site = np.repeat(np.array(["a", "b"], dtype=object), 50)
    values = np.concatenate([random.normal(0, 1, 50), random.normal(5, 3, 50)])[:, None]
    kept = np.zeros((100, 0))
    after = ComBat.fit(values, site, kept).apply(values, site, kept)[:, 0]
    parts = after[:50], after[50:]
    assert parts[0].mean() == pytest.approx(parts[1].mean())
    assert parts[0].std(ddof=1) == pytest.approx(parts[1].std(ddof=1))
