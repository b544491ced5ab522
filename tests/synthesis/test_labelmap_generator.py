from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from braintune.errors import InputError
from braintune.synthesis.labelmaps.effects import USUAL_EFFECTS
from braintune.synthesis.labelmaps.generator import GeneratedBatch, LabelMapGenerator
from synthesis.labelmap_phantom import (
    CLEAN,
    NAMES,
    STILL,
    options_for,
    phantom,
    write_map,
    write_names,
    write_phantoms,
)


@pytest.fixture(scope="session")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("labelmaps"))


@pytest.fixture(scope="session")
def usual(maps: Path) -> LabelMapGenerator:
    return LabelMapGenerator(options_for(maps))


def volume_of(generator: LabelMapGenerator, batch: GeneratedBatch, name: str) -> np.ndarray:
    return batch.volumes[:, generator.regions.index(name)].numpy()


def own_volume(generator: LabelMapGenerator, names: set[str]) -> np.ndarray:
    """Volumes in the undeformed anatomies, in mm³."""
    wanted = [p for p, label in enumerate(generator.table) if label.name in names]
    labels = generator.anatomies.labels.numpy()
    return np.isin(labels, wanted).sum(axis=(1, 2, 3)) * generator.anatomies.spacing**3


def same(one: GeneratedBatch, other: GeneratedBatch, rows: tuple[int, int]) -> None:
    a, b = rows
    for name in ("images", "labels", "volumes", "planted", "traits"):
        assert torch.equal(getattr(one, name)[a], getattr(other, name)[b]), name
    assert one.anatomies[a] == other.anatomies[b]


def test_a_scan_is_the_same_in_any_batch_and_any_generator(
    maps: Path, usual: LabelMapGenerator
) -> None:
    batch = usual.batch([5, 0, 3])
    again = LabelMapGenerator(options_for(maps))
    same(batch, again.batch([3]), (2, 0))
    same(batch, next(again.batches(2, start=4)), (0, 1))
    assert not torch.equal(batch.images[0], batch.images[1])
    other = LabelMapGenerator(options_for(maps, seed=1)).batch([5])
    assert not torch.equal(batch.images[0], other.images[0])


def test_shapes_types_and_ranges(usual: LabelMapGenerator) -> None:
    batch = usual.batch(range(4))
    assert batch.images.shape == (4, 1, 56, 64, 56)
    assert batch.images.dtype == torch.float32
    assert batch.labels.shape == (4, 56, 64, 56)
    assert torch.isfinite(batch.images).all()
    assert batch.images.min() >= 0
    assert (batch.traits >= 0).all()
    assert (batch.traits <= 1).all()


def test_volumes_are_counts_of_the_labels(usual: LabelMapGenerator) -> None:
    batch = usual.batch(range(6))
    assert set(usual.regions) >= set(NAMES.values()) - {"background"}
    names = [label.name for label in usual.table]
    for name in ("blob", "left hippocampus"):
        counts = (batch.labels == names.index(name)).sum(dim=(1, 2, 3)).numpy()
        np.testing.assert_array_equal(volume_of(usual, batch, name), counts * 27.0)
    sides = [volume_of(usual, batch, f"{side} hippocampus") for side in ("left", "right")]
    np.testing.assert_array_equal(volume_of(usual, batch, "hippocampus"), sum(sides))
    brain = np.isin(batch.labels.numpy(), [names.index(n) for n in names[3:] if "vent" not in n])
    np.testing.assert_array_equal(volume_of(usual, batch, "brain"), brain.sum((1, 2, 3)) * 27.0)
    assert (volume_of(usual, batch, "blob") > 0).all()


@pytest.mark.parametrize("change", [-0.4, -0.15, 0.3, 1.0])
@pytest.mark.parametrize("name", ["ventricles", "hippocampus"])
def test_planted_growth_is_recovered(maps: Path, name: str, change: float) -> None:
    # Heads lie differently, or labels of the same voxels would be nearest to all of a small change.
    quiet = {"geometry": {**STILL, "rotation": 20, "shift": 4}, "scanner": CLEAN}
    generator = LabelMapGenerator(options_for(maps, effects={name: {"change": change}}, **quiet))
    batch = generator.batch(range(6))
    single = "lateral ventricle" if name == "ventricles" else name
    before = own_volume(generator, {f"left {single}", f"right {single}"})
    anatomies = [generator.anatomies.names.index(a) for a in batch.anatomies]
    achieved = volume_of(generator, batch, name) / before[anatomies]
    np.testing.assert_allclose(achieved, 1 + change, rtol=0.08)
    assert achieved.mean() == pytest.approx(1 + change, rel=0.05)
    np.testing.assert_allclose(batch.planted.numpy(), 1 + change, rtol=1e-6)
    # The brain around it keeps its size.
    whole = own_volume(generator, set(list(NAMES.values())[3:]))[anatomies]
    inside = batch.volumes[:, [generator.regions.index(n) for n in list(NAMES.values())[3:]]]
    np.testing.assert_allclose(inside.sum(dim=1).numpy(), whole, rtol=0.02)


def test_several_effects_are_planted_at_once_within_random_deformations(maps: Path) -> None:
    generator = LabelMapGenerator(options_for(maps))
    batch = generator.batch(range(12))
    anatomies = [generator.anatomies.names.index(a) for a in batch.anatomies]
    head = batch.planted[:, generator.planted_structures.index("head")].numpy()
    for name, parts in {
        "ventricles": {"left lateral ventricle", "right lateral ventricle"},
        "hippocampus": {"left hippocampus", "right hippocampus"},
        "cortex": {"left cerebral cortex", "right cerebral cortex"},
    }.items():
        wanted = batch.planted[:, generator.planted_structures.index(name)].numpy() * head
        before = own_volume(generator, parts)[anatomies]
        error = np.log(volume_of(generator, batch, name) / before / wanted)
        assert np.abs(error).max() < 0.12, name
        assert np.sqrt((error**2).mean()) < 0.05, name


def test_age_sex_and_disease_change_what_they_should(maps: Path) -> None:
    effects = {"ventricles": {"age": 1.0}, "hippocampus": {"disease": -0.4}, "head": {"male": 0.2}}
    generator = LabelMapGenerator(options_for(maps, effects=effects))
    drawn = [generator.draw(index) for index in range(400)]
    age, disease, male = np.array(
        [[d.traits.age, d.traits.disease, d.traits.male] for d in drawn]
    ).T
    changes = {n: np.array([d.changes[n] for d in drawn]) for n in effects}
    np.testing.assert_allclose(changes["ventricles"], np.log(2.0) * (age - 0.5), atol=1e-9)
    np.testing.assert_allclose(changes["hippocampus"], np.log(0.6) * disease, atol=1e-9)
    np.testing.assert_allclose(changes["head"], np.log(1.2) * (male - 0.5), atol=1e-9)
    assert abs(age.mean() - 0.5) < 0.05
    assert abs((disease > 0).mean() - 0.5) < 0.08
    assert abs(male.mean() - 0.5) < 0.08
    assert np.abs(np.corrcoef([age, disease, male]) - np.eye(3)).max() < 0.15


@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 10**9))
def test_deformations_do_not_fold(usual: LabelMapGenerator, index: int) -> None:
    displacement = usual.displacement(usual.draw(index))[0]
    jacobian = torch.stack(torch.gradient(displacement, dim=(1, 2, 3)), dim=1)
    jacobian = jacobian + torch.eye(3)[:, :, None, None, None]
    assert torch.linalg.det(jacobian.permute(2, 3, 4, 0, 1)).min() > 0
    # Nothing flows across the border.
    assert displacement[:, 0].abs().max() == displacement[:, :, :, -1].abs().max() == 0


def test_flipping_swaps_sides_and_their_names(maps: Path) -> None:
    flips: list[LabelMapGenerator] = []
    for flip in (0.0, 1.0):
        values: dict[str, Any] = {"geometry": {**STILL, "flip": flip}, "scanner": CLEAN}
        flips.append(LabelMapGenerator(options_for(maps, effects={}, **values)))
    straight, flipped = (generator.batch([4]) for generator in flips)
    names = [label.name for label in flips[0].table]
    swapped = {"left": "right", "right": "left"}
    partner = [
        names.index(" ".join(swapped.get(word, word) for word in name.split())) for name in names
    ]
    expected = torch.tensor(partner)[straight.labels.long()].flip(1)
    # Rounding of positions half-way between two voxels may go either way.
    assert (expected == flipped.labels).float().mean() > 0.999
    one_sided = options_for(maps, effects={"left hippocampus": {"change": 0.2}})
    assert not any(LabelMapGenerator(one_sided).draw(i).pose.flipped for i in range(20))


def test_orientation_and_offset_of_a_map_change_nothing(tmp_path: Path) -> None:
    labels, affine = phantom()
    turned = np.ascontiguousarray(labels.transpose(1, 2, 0)[::-1, :, ::-1])
    to_old = np.eye(4)
    to_old[:3, :3] = 0
    for old, (new, sign) in {1: (0, -1), 2: (1, 1), 0: (2, -1)}.items():
        to_old[old, new] = sign
        to_old[old, 3] = labels.shape[old] - 1 if sign < 0 else 0
    moved = affine @ to_old
    moved[:3, 3] += (30, -17, 5)
    batches = []
    for name, (data, where) in {"a": (labels, affine), "b": (turned, moved)}.items():
        write_map(tmp_path / name / "sub-01_dseg.nii.gz", data, where)
        write_names(tmp_path / name / "labels.tsv", NAMES)
        batches.append(LabelMapGenerator(options_for(tmp_path / name)).batch([1, 2]))
    for row in range(2):
        same(batches[0], batches[1], (row, row))


def test_stripped_scans_show_brain_alone_and_heads_show_all(maps: Path) -> None:
    stripped = LabelMapGenerator(options_for(maps)).batch([0, 1])
    for image, labels in zip(stripped.images[:, 0].numpy(), stripped.labels.numpy(), strict=True):
        # The first labels in the table are background and skull.
        away = ndimage.distance_transform_edt(labels < 2) * 3.0
        assert (image[away > 7] == 0).all()
        assert (image[labels > 2] > 0).mean() > 0.99
    head = LabelMapGenerator(options_for(maps, brain="head")).batch([0, 1])
    assert (head.images > 0).float().mean() > 0.99


def test_tissues_of_t1_scans_keep_their_order(maps: Path) -> None:
    generator = LabelMapGenerator(options_for(maps, scanner={**CLEAN, "gamma": 0.2}))
    batch = generator.batch(range(6))
    names = [label.name for label in generator.table]
    for image, labels in zip(batch.images[:, 0], batch.labels, strict=True):
        fluid, cortex, white = (
            float(image[labels == names.index(n)].mean())
            for n in (
                "right lateral ventricle",
                "left cerebral cortex",
                "left cerebral white matter",
            )
        )
        assert fluid < cortex < white
        assert abs(white - 1) < 0.12


def test_scaling_is_that_of_preparation(maps: Path) -> None:
    from braintune.imaging.intensity import minmax, zscore

    plain = LabelMapGenerator(options_for(maps)).batch([2]).images[0, 0].numpy()
    for rule, reference in {"zscore": zscore, "minmax": minmax}.items():
        batch = LabelMapGenerator(options_for(maps, intensity=rule)).batch([2])
        np.testing.assert_allclose(
            batch.images[0, 0].numpy(), reference(plain, plain != 0), atol=1e-4
        )


def test_people_are_the_start_of_what_is_planted(maps: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path)
    table = "participant_id\tage\tsex\tsplit\nsub-01\t20\tF\ttrain\nsub-02\t85\tM\tval\n"
    (tmp_path / "participants.tsv").write_text(table, encoding="utf-8")
    people = {"age": "age", "sex": "sex", "reach": 0.25}
    effects = {"ventricles": {"age": 1.0}, "head": {"male": 0.2}}
    generator = LabelMapGenerator(options_for(tmp_path, people=people, effects=effects))
    for drawn in map(generator.draw, range(30)):
        old = generator.anatomies.names[drawn.anatomy] == "sub-02_dseg"
        assert drawn.traits.male == float(old)
        assert drawn.traits.age >= 0.75 if old else drawn.traits.age <= 0.25
        assert drawn.changes["head"] == 0
        assert drawn.changes["ventricles"] == pytest.approx(np.log(2) * (drawn.traits.age - old))
    rows = {**people, "where": {"split": "train"}}
    train = LabelMapGenerator(options_for(tmp_path, people=rows, effects=effects))
    assert train.anatomies.names == ("sub-01_dseg",)


def test_errors_of_structures_name_those_that_there_are(maps: Path) -> None:
    with pytest.raises(InputError, match=r"no structure 'hipocampus'.*'hippocampus'.*blob"):
        LabelMapGenerator(options_for(maps, effects={"hipocampus": {"change": 0.1}}))
    both = {"hippocampus": {"change": 0.1}, "left hippocampus": {"change": 0.1}}
    with pytest.raises(InputError, match="share the label 'left hippocampus'"):
        LabelMapGenerator(options_for(maps, effects=both))
    with pytest.raises(InputError, match="no structure 'lesion'"):
        LabelMapGenerator(options_for(maps, tissues={"lesion": "csf"}))
    with pytest.raises(InputError, match="no scan -1"):
        LabelMapGenerator(options_for(maps)).batch([-1])


def test_a_chosen_tissue_holds(maps: Path) -> None:
    generator = LabelMapGenerator(options_for(maps, tissues={"blob": "ventricle"}))
    assert "blob" in [generator.table[p].name for p in generator.members("ventricles")]


def test_maps_without_names_or_usual_structures_work(tmp_path: Path) -> None:
    labels, affine = phantom(6.0)
    write_map(tmp_path / "one.nii.gz", np.where(labels > 6, 2, labels > 1), affine)
    generator = LabelMapGenerator(options_for(tmp_path, spacing=6.0, shape=[28, 32, 28]))
    assert generator.planted_structures == ("head",)
    assert generator.regions == ("label-1", "label-2", "brain", "intracranial")
    assert (generator.batch([0, 1]).volumes > 0).all()


def test_finer_scans_than_maps(maps: Path) -> None:
    generator = LabelMapGenerator(options_for(maps, spacing=1.5, shape=[104, 120, 104]))
    batch = generator.batch([0])
    coarse = LabelMapGenerator(options_for(maps)).batch([0])
    ratio = volume_of(generator, batch, "brain") / volume_of(generator, coarse, "brain")
    assert ratio == pytest.approx(1, abs=0.1)


def test_the_page_tells_the_usual_effects() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "make-training-scans.md"
    told = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].strip("`") in USUAL_EFFECTS:
            shares = [float(c.replace("−", "-").rstrip(" %") or 0) / 100 for c in cells[1:]]
            told[cells[0].strip("`")] = shares
    assert told == {
        name: [effect.age, effect.disease, effect.male, effect.between]
        for name, effect in USUAL_EFFECTS.items()
    }


@pytest.mark.parametrize("name", ["labelmaps", "ixi"])
def test_real_label_maps(name: str) -> None:
    from conftest import SHARED_DATA

    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the label maps of {name} are not beside the project")
    people = {"age": "age", "where": {"split": "val"}} if name == "ixi" else None
    options = options_for(folder, spacing=2.0, shape=[80, 96, 80], people=people)
    generator = LabelMapGenerator(options)
    batch = generator.batch(range(2))
    litres = volume_of(generator, batch, "brain") / 1e6
    assert ((litres > 0.6) & (litres < 1.9)).all()
    hippocampus = volume_of(generator, batch, "hippocampus") / 1000
    assert ((hippocampus > 3) & (hippocampus < 16)).all()
    assert set(generator.planted_structures) >= {"ventricles", "sulci", "cortex", "hippocampus"}
