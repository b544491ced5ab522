"""Volumes of label maps against definitions and planted shapes."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from braintune import parallel
from braintune.errors import InputError
from braintune.synthesis.labelmaps.reading import LabelMap
from braintune.volumetry.finding import ScanMap, find_label_maps
from braintune.volumetry.intracranial import IntracranialSource
from braintune.volumetry.measuring import measure_map, voxel_mm3
from braintune.volumetry.normalising import Residual, proportion
from braintune.volumetry.probabilities import entropy
from braintune.volumetry.quality import age_and_sex, robust_z
from braintune.volumetry.structures import name_values, pairs, read_structures, structure_of_name
from braintune.volumetry.volumes import VolumesRequest, measure_volumes

NAMES = "index\tname\n1\tLeft Hippocampus\n2\tRight Hippocampus\n3\tBrain stem\n"


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)


def block(left: int = 4, right: int = 4, shape: tuple[int, int, int] = (14, 14, 14)) -> np.ndarray:
    """A left and a right block of so many slices of 16 voxels, and a stem, away from the border."""
    data = np.zeros(shape, np.int16)
    data[2:6, 2:6, 2 : 2 + left] = 1
    data[8:12, 2:6, 2 : 2 + right] = 2
    data[6:8, 8:12, 2:12] = 3
    return data


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def derivative(tmp_path: Path) -> Callable[..., Path]:
    """A folder of label maps, one a subject, with a table of names."""

    def make(*maps: np.ndarray, affine: np.ndarray | None = None) -> Path:
        root = tmp_path / "seg"
        for number, data in enumerate(maps, start=1):
            name = f"sub-{number:02d}"
            save(root / name / "anat" / f"{name}_dseg.nii.gz", data, affine)
        (root / "dseg.tsv").write_text(NAMES)
        return root

    return make


def measure(root: Path, **request: object) -> object:
    return measure_volumes(find_label_maps([str(root)], {}), VolumesRequest(**request))


finite = st.floats(-3, 3, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(finite, min_size=9, max_size=9), st.integers(0, 2**31 - 1))
def test_the_volume_of_a_voxel_is_that_of_its_parallelepiped(
    entries: list[float], seed: int
) -> None:
    """On any oblique, sheared or left-handed grid: the triple product of the columns."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(entries).reshape(3, 3)
    affine[:3, 3] = np.random.default_rng(seed).normal(size=3) * 100
    a, b, c = affine[:3, :3].T
    assert voxel_mm3(affine) == pytest.approx(abs(np.dot(np.cross(a, b), c)), abs=1e-9)


def test_a_turned_head_keeps_its_volumes(derivative: Callable[..., Path]) -> None:
    """The same box on a rotated, anisotropic, left-handed grid has the same mm³."""
    angle = np.deg2rad(30)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.8, 1.25, 3.0])
    table = measure(derivative(block(), affine=affine)).table
    assert table["hippocampus_left_mm3"].iloc[0] == pytest.approx(64 * 0.8 * 1.25 * 3.0)
    assert table["brain_stem_mm3"].iloc[0] == pytest.approx(80 * 3.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_regions_agree_with_counting_voxel_by_voxel(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = random.choice([0, 0, 0, 1, 2, 5], size=(5, 6, 4)).astype(np.int32)
    values = tuple(np.unique(data).tolist())
    regions = measure_map(LabelMap(Path("x"), data, values, np.eye(4)), {})
    assert set(regions) == set(values) - {0}
    for value, region in regions.items():
        voxels = {tuple(v) for v in np.argwhere(data == value)}
        assert region.voxels == len(voxels)
        on_face = [
            v for v in voxels if any(i in (0, n - 1) for i, n in zip(v, data.shape, strict=True))
        ]
        assert region.at_border == len(on_face)
        largest = 0
        left = set(voxels)
        while left:
            seed_voxel = left.pop()
            part, front = 1, [seed_voxel]
            while front:
                here = front.pop()
                near = {
                    v for v in left if max(abs(a - b) for a, b in zip(v, here, strict=True)) <= 1
                }
                left -= near
                front += near
                part += len(near)
            largest = max(largest, part)
        assert region.outside_largest == pytest.approx(1 - largest / len(voxels))


def test_partial_volumes_add_up_where_voxels_only_count(tmp_path: Path) -> None:
    """A ball whose edge fills voxels in part: probabilities find 4/3·π·r³, voxels less well."""
    radius, spacing = 5.0, 2.0
    centres = (np.indices((48, 48, 48)) + 0.5) * spacing / 4 - 12
    inside = (centres**2).sum(axis=0) <= radius**2
    share = inside.reshape(12, 4, 12, 4, 12, 4).mean(axis=(1, 3, 5)).astype(np.float32)
    folder = tmp_path / "sub-01"
    affine = np.diag([spacing, spacing, spacing, 1])
    save(folder / "sub-01_dseg.nii.gz", (share > 0.5).astype(np.uint8), affine)
    save(folder / "sub-01_label-Ball_probseg.nii.gz", share, affine)
    (tmp_path / "dseg.tsv").write_text("index\tname\n1\tBall\n")
    truth = 4 / 3 * np.pi * radius**3
    by_voxels = measure(tmp_path).table["ball_mm3"].iloc[0]
    by_shares = measure(tmp_path, partial_volume=True).table["ball_mm3"].iloc[0]
    assert by_shares == pytest.approx(truth, rel=0.01)
    assert abs(by_shares - truth) < abs(by_voxels - truth)


def test_probabilities_of_all_structures_may_lie_in_one_file(tmp_path: Path) -> None:
    data = block()
    shares = np.stack([(data == 1) * 0.5, (data == 2) * 1.0, (data == 3) * 1.0], axis=-1)
    save(tmp_path / "sub-01_dseg.nii.gz", data)
    save(tmp_path / "sub-01_probseg.nii.gz", shares.astype(np.float32))
    (tmp_path / "dseg.tsv").write_text(NAMES)
    sidecar = tmp_path / "sub-01_probseg.json"
    sidecar.write_text('{"LabelMap": ["Left Hippocampus", "Right Hippocampus", "Brain stem"]}')
    volumes = measure(tmp_path, partial_volume=True)
    assert volumes.table["hippocampus_left_mm3"].tolist() == [32]
    assert volumes.table["hippocampus_right_mm3"].tolist() == [64]
    bits = volumes.quality.set_index("structure")["uncertainty"]
    assert bits["hippocampus_left"] == pytest.approx(1)
    assert bits["brain_stem"] == pytest.approx(0)
    assert "uncertain" in volumes.table["flags"].iloc[0]
    sidecar.write_text("[]")
    with pytest.raises(InputError, match="LabelMap"):
        measure(tmp_path)


def test_uncertainty_is_shannons_entropy() -> None:
    a = np.full((2, 1, 1), 0.25, np.float32)
    b = np.full((2, 1, 1), 0.25, np.float32)
    assert entropy({1: a, 2: b}) == pytest.approx(1.5)
    assert entropy({1: np.ones((1, 1, 1), np.float32)}) == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Left-Hippocampus", "hippocampus_left"),
        ("ctx-rh-entorhinal", "ctx_entorhinal_right"),
        ("Hippocampus_L", "hippocampus_left"),
        ("R amygdala", "amygdala_right"),
        ("Brain-Stem", "brain_stem"),
        ("L", "l"),
        ("left right mixture", "left_right_mixture"),
    ],
)
def test_sides_are_found_in_names(name: str, key: str) -> None:
    assert structure_of_name(1, name).key == key


def test_known_numberings_need_no_table() -> None:
    structures = name_values([0, 2, 3, 41, 42, 17, 53, 999], {})
    assert structures[17].key == "hippocampus_left"
    assert structures[999].key == "label_999"
    left, right = pairs(structures.values())["hippocampus"]
    assert (left.value, right.value) == (17, 53)


def test_a_table_pairs_what_names_do_not(tmp_path: Path) -> None:
    path = tmp_path / "names.tsv"
    path.write_text("index\tname\tstructure\tside\n7\tHCs\thippo\tleft\n9\tHCd\thippo\tright\n")
    assert set(pairs(read_structures(path).values())) == {"hippo"}
    path.write_text("index\tname\tside\n7\tHCs\tup\n")
    with pytest.raises(InputError, match="side 'up'"):
        read_structures(path)
    path.write_text("index\tname\n7\tleft HC\n8\tHC-left\n")
    with pytest.raises(InputError, match=r"hc_left \(7, 8\)"):
        read_structures(path)


def test_asymmetry_sides_and_shape_flags(derivative: Callable[..., Path]) -> None:
    torn = block(left=8, right=4)
    torn[12, 12, 1:9] = 1
    cut = block()
    cut[0:6, 2:6, 2:6] = 1
    absent = block()
    absent[absent == 3] = 0
    volumes = measure(derivative(torn, cut, absent))
    quality = volumes.quality.set_index(["participant_id", "structure"])["flags"]
    assert quality["sub-01", "hippocampus_left"] == "disconnected, sides differ"
    assert quality["sub-02", "hippocampus_left"] == "at border"
    assert quality["sub-03", "brain_stem"] == "absent"
    assert quality["sub-03", "hippocampus_left"] == ""
    first = volumes.table.iloc[0]
    assert first["hippocampus_asymmetry"] == pytest.approx((136 - 64) / (136 + 64))
    assert "hippocampus_left: disconnected" in first["flags"]
    assert volumes.table["brain_stem_mm3"].iloc[2] == 0


def test_outliers_are_unusual_for_age_and_sex() -> None:
    """A volume that is usual for the cohort, but not for the age, and one that is only old."""
    random = np.random.default_rng(0)
    age = np.linspace(50, 90, 41)
    sex = np.tile(["F", "M"], 21)[:41]
    values = 8000 - 60 * (age - 50) + 300 * (sex == "M") + random.normal(0, 100, 41)
    values[0] = 6800
    table = pd.DataFrame({"age": age.astype(str), "sex": sex}, dtype="string")
    design, names = age_and_sex(table)
    z = robust_z(values, design)
    assert names == ["age", "sex"]
    assert z[0] < -3.5
    assert (np.abs(z[1:]) < 3.5).all()
    assert abs(robust_z(values, np.zeros((41, 0)))[0]) < 1
    assert np.isnan(robust_z(values[:9], design[:9])).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_residuals_forget_the_head_and_keep_the_mean(seed: int) -> None:
    random = np.random.default_rng(seed)
    icv = random.normal(1.5e6, 1.5e5, 60)
    volumes = np.stack([0.002 * icv, -0.001 * icv], axis=1) + random.normal(0, 300, (60, 2)) + 4000
    line = Residual.fit(volumes, icv)
    left = line.apply(volumes, icv)
    assert np.abs([np.corrcoef(column, icv)[0, 1] for column in left.T]).max() < 1e-6
    assert left.mean(axis=0) == pytest.approx(volumes.mean(axis=0))
    reference = np.polyfit(icv, volumes, 1)[0]
    assert line.slopes == pytest.approx(reference, rel=1e-6)
    assert proportion(volumes, icv)[3] == pytest.approx(volumes[3] / icv[3])


def test_icv_comes_from_columns_masks_or_labels(
    derivative: Callable[..., Path], tmp_path: Path
) -> None:
    root = derivative(block(), block(left=2))
    people = tmp_path / "people.tsv"
    people.write_text("participant_id\teTIV\nsub-01\t1000\nsub-02\t2000\n")
    for number, side in ((1, 10), (2, 12)):
        mask = np.zeros((14, 14, 14), np.uint8)
        mask[:side, :side, :side] = 1
        save(tmp_path / "masks" / f"sub-0{number}_mask.nii.gz", mask)
    expected = {
        "column:eTIV": [1000, 2000],
        "mask:" + str(tmp_path / "masks"): [1000, 12**3],
        "labels:1,3": [64 + 80, 32 + 80],
        "labels:all": [64 + 64 + 80, 32 + 64 + 80],
    }
    for text, icv in expected.items():
        source = IntracranialSource.parse(text)
        table = measure(root, icv=source, cohort=people, normalise="proportion").table
        assert table["icv_mm3"].tolist() == icv
        shares = table["hippocampus_left_mm3"] / table["icv_mm3"]
        assert table["hippocampus_left_proportion"].tolist() == pytest.approx(shares.tolist())


def test_the_largest_component_of_scipy_agrees_in_three_dimensions() -> None:
    data = np.zeros((6, 6, 6), np.int32)
    data[1, 1, 1] = data[2, 2, 2] = 1
    data[5, 5, 5] = 1
    region = measure_map(LabelMap(Path("x"), data, (0, 1), np.eye(4)), {})[1]
    assert ndimage.label(data)[1] == 3
    assert region.outside_largest == pytest.approx(1 / 3)


def test_freesurfer_folders_name_their_subjects(tmp_path: Path) -> None:
    for subject in ("OAS_01", "OAS_02"):
        save(tmp_path / subject / "mri" / "aseg.nii.gz", block())
        save(tmp_path / subject / "mri" / "wmparc.nii.gz", block())
    found = find_label_maps([str(tmp_path / "*" / "mri" / "aseg.nii.gz")], {})
    assert [scan.participant_id for scan in found] == ["OAS_01", "OAS_02"]
    with pytest.raises(InputError, match="Two label maps are of one scan"):
        find_label_maps([str(tmp_path)], {})


def test_sessions_and_tables_tell_scans_apart(tmp_path: Path) -> None:
    save(tmp_path / "sub-1" / "ses-a" / "sub-1_ses-a_dseg.nii.gz", block())
    save(tmp_path / "sub-1" / "ses-b" / "sub-1_ses-b_dseg.nii.gz", block(left=2))
    found = find_label_maps([str(tmp_path)], {})
    assert [(s.participant_id, s.session_id) for s in found] == [
        ("sub-1", "ses-a"),
        ("sub-1", "ses-b"),
    ]
    table = tmp_path / "maps.tsv"
    table.write_text("participant_id\tpath\nx\tsub-1/ses-a/sub-1_ses-a_dseg.nii.gz\n")
    assert isinstance(find_label_maps([str(table)], {})[0], ScanMap)
    assert find_label_maps([str(table)], {})[0].participant_id == "x"
