import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.synthesis.anatomy import mni152
from braintune.synthesis.deformation import exponential, growth_fields, positions, sample
from braintune.synthesis.population import SimulationRecipe, draw_subjects, planted
from braintune.synthesis.simulate import GIVES_WAY, simulate


def truth_of(folder: Path) -> pd.DataFrame:
    table = read_table(folder / "truth.tsv")
    numeric = [name for name in table if name == "age" or name.endswith("_ml")]
    return table.assign(**{name: table[name].astype(float) for name in numeric})


@pytest.mark.parametrize("fixture", ["cohort_folder", "sessions_folder"])
def test_the_bids_validator_accepts_it(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    beside = str(Path(sys.executable).parent)
    validator = shutil.which("bids-validator-deno", path=beside)
    if validator is None:
        pytest.skip("the BIDS validator is not installed")
    command = [validator, "--ignoreWarnings", "--json", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(result.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []
    assert result.returncode == 0


def test_the_cohort_reads_back_with_its_tables(sessions_folder: Path) -> None:
    cohort = read_cohort(sessions_folder)
    assert (len(cohort), cohort.n_subjects) == (40, 20)
    assert set(cohort.covariates) >= {"age", "sex", "dx", "site"}
    ages = cohort.table["age"].astype(float).to_numpy().reshape(20, 2)
    assert (ages[:, 1] - ages[:, 0] >= 1).all()
    assert (ages[:, 1] - ages[:, 0] <= 3.1).all()


def test_the_same_seed_gives_the_same_cohort(tmp_path: Path) -> None:
    recipe = SimulationRecipe(subjects=3, spacing=6, seed=5)
    simulate(tmp_path / "a", recipe)
    simulate(tmp_path / "b", recipe)
    simulate(tmp_path / "c", recipe.model_copy(update={"seed": 6}))
    names = [str(p.relative_to(tmp_path / "a")) for p in sorted((tmp_path / "a").rglob("*"))]
    files = [name for name in names if (tmp_path / "a" / name).is_file()]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "a/truth.tsv").read_text() != (tmp_path / "c/truth.tsv").read_text()


def test_planted_effects_are_in_the_volumes(cohort_folder: Path) -> None:
    truth = truth_of(cohort_folder)
    young_old = truth.sort_values("age")
    third = len(truth) // 3
    for name, sign in {"ventricles": 1, "cortex": -1}.items():
        share = young_old[f"{name}_ml"] / young_old["brain_ml"]
        assert sign * (share.iloc[-third:].mean() - share.iloc[:third].mean()) > 0, name
    hippocampi = truth["hippocampus_left_ml"] + truth["hippocampus_right_ml"]
    relative = hippocampi / truth["brain_ml"]
    ratio = relative[truth["dx"] == "AD"].mean() / relative[truth["dx"] == "CN"].mean()
    assert 0.65 < ratio < 0.85
    males = truth["sex"] == "M"
    assert 1.03 < truth["brain_ml"][males].mean() / truth["brain_ml"][~males].mean() < 1.2


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), age=st.floats(20, 90))
def test_no_effect_plants_nothing_but_chance(seed: int, age: float) -> None:
    recipe = SimulationRecipe(subjects=4, seed=seed)
    for subject in draw_subjects(recipe):
        expected = {name: subject.luck[name] for name in ("ventricles", "sulci", "cortex", "head")}
        changes = planted(subject, age, effect=0.0)
        assert {name: changes[name] for name in expected} == expected


def test_people_are_balanced_and_independent() -> None:
    people = draw_subjects(SimulationRecipe(subjects=400, sites=4))
    table = pd.DataFrame([vars(p) for p in people])
    assert table["dx"].value_counts().tolist() == [200, 200]
    assert table["sex"].value_counts().tolist() == [200, 200]
    assert table["site"].value_counts().tolist() == [100] * 4
    assert abs(table["age"].corr((table["dx"] == "AD").astype(float))) < 0.15
    biased = draw_subjects(SimulationRecipe(subjects=100, sites=2, site_bias=1.0))
    assert all((p.site == 1) == (p.dx == "AD") for p in biased)


@pytest.mark.parametrize("name", sorted(GIVES_WAY))
@pytest.mark.parametrize("amount", [-0.25, 0.25])
def test_a_field_changes_its_region_as_asked(name: str, amount: float) -> None:
    """The volume of a grown region follows e^a; what it does to others is small."""
    anatomy = mni152(2)
    fields = growth_fields(anatomy, {name: GIVES_WAY[name]})
    moved = positions(exponential(-amount * fields.fields[0][None]))
    region = torch.from_numpy(anatomy.regions[name])[None, None]
    change = float(torch.log(sample(region, moved).sum() / region.sum()))
    assert change == pytest.approx(amount, abs=0.12)


def test_deformations_do_not_fold() -> None:
    anatomy = mni152(4)
    fields = growth_fields(anatomy, GIVES_WAY)
    extreme = torch.tensor([0.9, 0.4, -0.15, -0.4, -0.4]).view(-1, 1, 1, 1, 1)
    displacement = exponential((-extreme * fields.fields).sum(0)[None])[0]
    gradient = torch.stack(torch.gradient(displacement, dim=(1, 2, 3)), dim=1)
    jacobian = gradient.permute(2, 3, 4, 0, 1) + torch.eye(3)
    inside = torch.from_numpy(anatomy.regions["brain"]) > 0.5
    assert float(torch.linalg.det(jacobian)[inside].min()) > 0


def test_images_look_like_skull_stripped_brains(cohort_folder: Path) -> None:
    for path in sorted(cohort_folder.rglob("*_T1w.nii.gz"))[:4]:
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.header.get_zooms() == (6.0, 6.0, 6.0)
        assert data.dtype == np.int16
        assert 0.1 < (data > 0).mean() < 0.4
        assert data[0].max() == 0


def test_sites_differ_in_their_intensities(cohort_folder: Path) -> None:
    cohort = read_cohort(cohort_folder)
    levels: dict[str, list[float]] = {}
    for path, site in zip(cohort.table["path"], cohort.table["site"], strict=True):
        data = np.asarray(nib.load(path).dataobj)
        levels.setdefault(site, []).append(float(np.median(data[data > 0])))
    means = [np.mean(values) for values in levels.values()]
    spread = max(np.std(values) for values in levels.values())
    assert abs(means[0] - means[1]) > spread


def test_an_occupied_folder_is_refused_and_failures_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        simulate(tmp_path / "full", SimulationRecipe(subjects=1, spacing=6))

    def fail(*_: object) -> None:
        raise RuntimeError("stop")

    monkeypatch.setattr("braintune.synthesis.simulate.write_volume", fail)
    with pytest.raises(RuntimeError):
        simulate(tmp_path / "new", SimulationRecipe(subjects=1, spacing=6))
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
