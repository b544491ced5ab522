from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from braintune.errors import InputError
from braintune.imaging.grid import Grid
from braintune.synthesis.labelmaps.anatomies import read_anatomies
from braintune.synthesis.labelmaps.naming import name_table, read_names
from braintune.synthesis.labelmaps.numbering import (
    DLMUSE,
    FREESURFER,
    describe,
    known_table,
    tissue_of_name,
)
from braintune.synthesis.labelmaps.placing import placed
from braintune.synthesis.labelmaps.pose import (
    Pose,
    View,
    gathered,
    interpolated,
    source_positions,
)
from braintune.synthesis.labelmaps.reading import LabelMap, find_maps, read_label_map
from braintune.synthesis.labelmaps.tissues import Tissue
from synthesis.labelmap_phantom import NAMES, options_for, phantom, write_map, write_names

EYE = np.diag([6.0, 6.0, 6.0, 1.0])


def test_hostile_label_maps_are_refused_with_the_reason(tmp_path: Path) -> None:
    good = phantom(12.0)[0].astype(np.float32)
    bad = {
        "no numbers": np.where(good == 5, np.nan, good),
        "whole numbers": good + 0.5 * (good == 5),
        "labels go from 0": good - 1,
        "1,000,000": good * 1e6,
        "looks like an image": np.arange(good.size, dtype=np.float32).reshape(good.shape),
        "nothing but background": 0 * good,
    }
    for number, (words, data) in enumerate(bad.items()):
        path = write_map(tmp_path / f"{number}_dseg.nii.gz", data.astype(np.float32), EYE)
        with pytest.raises(InputError, match=words):
            read_label_map(path)
        with pytest.raises(InputError, match=words):
            read_anatomies(options_for(path))


def test_places_without_label_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not exist"):
        find_maps((tmp_path / "nowhere",))
    with pytest.raises(InputError, match="holds no label map"):
        find_maps((tmp_path,))


def test_segmentations_are_taken_before_images(tmp_path: Path) -> None:
    for name in ("sub-1_T1w.nii.gz", "sub-1_dseg.nii.gz", ".sub-2_dseg.nii.gz"):
        write_map(tmp_path / name, phantom(24.0)[0], EYE)
    assert [f.path.name for f in find_maps((tmp_path,))] == ["sub-1_dseg.nii.gz"]
    # A file that is named is taken as it is.
    chosen = find_maps((tmp_path / "sub-1_T1w.nii.gz",))
    assert [f.path.name for f in chosen] == ["sub-1_T1w.nii.gz"]


def test_names_are_inherited_from_the_nearest_folder(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "sub-1" / "anat"
    image = folder / "sub-1_desc-muse_dseg.nii.gz"
    folder.mkdir(parents=True)
    root = tmp_path / "root"
    assert name_table(image, root) is None
    write_names(tmp_path / "dseg.tsv", {1: "above the root"})
    assert name_table(image, root) is None
    write_names(root / "labels.tsv", {1: "labels"})
    assert name_table(image, root) == root / "labels.tsv"
    write_names(root / "desc-other_dseg.tsv", {1: "other"})
    assert name_table(image, root) == root / "labels.tsv"
    write_names(root / "dseg.tsv", {1: "all"})
    assert name_table(image, root) == root / "dseg.tsv"
    write_names(root / "desc-muse_dseg.tsv", {1: "muse"})
    assert name_table(image, root) == root / "desc-muse_dseg.tsv"
    write_names(folder / "sub-1_desc-muse_dseg.tsv", {1: "own"})
    assert name_table(image, root) == folder / "sub-1_desc-muse_dseg.tsv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("index\tlabel\n1\ta\n", "lacks the column name"),
        ("index\tname\n1.5\ta\n", "whole numbers"),
        ("index\tname\n-1\ta\n", "whole numbers"),
        ("index\tname\n1\ta\n1\tb\n", "two names"),
        ("", "not a table"),
    ],
)
def test_bad_tables_of_names_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "dseg.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_names(path)


def test_numberings_are_known_by_their_labels_and_names() -> None:
    freesurfer, muse = set(FREESURFER), set(DLMUSE)
    assert known_table(freesurfer, {}) is FREESURFER
    assert known_table(muse, {}) is DLMUSE
    assert known_table(set(range(60)), {2: "tumour", 3: "edema"}) == {}
    assert known_table({1, 2, 3}, {}) == {}
    # Names agree with the tables they come from.
    for table in (FREESURFER, DLMUSE):
        for value in {value for value in table if value < 100} - {0, 136, 137, 163, 164}:
            name, tissue = table[value]
            assert tissue_of_name(name) == tissue, name


@pytest.mark.parametrize(
    ("name", "tissue"),
    [
        ("Left-Hippocampus", Tissue.HIPPOCAMPUS),
        ("ParahippocampalGyrus_R", Tissue.CORTEX),
        ("ctx-lh-bankssts", Tissue.CORTEX),
        ("Right-Inf-Lat-Vent", None),
        ("Right-Inf-Lat-Ventricle", Tissue.VENTRICLE),
        ("Cerebellum_WM_L", Tissue.CEREBELLAR_WHITE),
        ("CSF", Tissue.CSF),
        ("WM", Tissue.WHITE),
        ("GM", Tissue.CORTEX),
        ("enhancing tumor", None),
        ("17", None),
    ],
)
def test_names_tell_of_tissues(name: str, tissue: Tissue | None) -> None:
    assert tissue_of_name(name) == tissue


def test_names_of_the_files_go_before_those_of_the_table() -> None:
    label = describe(17, {17: "hippo left"}, FREESURFER)
    assert (label.name, label.tissue) == ("hippo left", Tissue.HIPPOCAMPUS)
    assert describe(99999, {}, FREESURFER).name == "label-99999"
    assert describe(0, {0: "cortex"}, {}).tissue is Tissue.BACKGROUND


def test_maps_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_map(tmp_path / name / "sub-1_dseg.nii.gz", phantom(12.0)[0], EYE)
        write_names(tmp_path / name / "dseg.tsv", {**NAMES, 11: name})
    with pytest.raises(InputError, match=r"label 11 is 'a' in .* and 'b' in"):
        read_anatomies(options_for(tmp_path, spacing=12.0, shape=[14, 16, 14]))


def test_maps_without_brain_or_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = phantom(12.0)[0]
    skull = write_map(tmp_path / "a" / "sub-1_dseg.nii.gz", 1 * (labels == 1), EYE)
    write_names(tmp_path / "a" / "dseg.tsv", {1: "skull"})
    with pytest.raises(InputError, match="no label of the brain"):
        read_anatomies(options_for(skull, spacing=12.0, shape=[14, 16, 14]))
    from braintune.synthesis.labelmaps import anatomies

    monkeypatch.setattr(anatomies, "_MOST_BYTES", 1000)
    whole = write_map(tmp_path / "b" / "sub-1_dseg.nii.gz", labels, EYE)
    with pytest.raises(InputError, match="don't fit"):
        read_anatomies(options_for(whole, spacing=12.0, shape=[14, 16, 14]))


@pytest.mark.parametrize("oblique", [False, True])
def test_labels_are_placed_as_by_the_nearest_neighbour(oblique: bool) -> None:
    random = np.random.default_rng(0)
    data = random.integers(0, 9, (14, 17, 11)).astype(np.int32)
    affine = np.array([[0, 0, -2.0, 9], [3.0, 0, 0, 1], [0, 2.5, 0, -4], [0, 0, 0, 1]])
    if oblique:
        affine[:3, :3] = affine[:3, :3] @ np.array([[1, 0.1, 0], [-0.1, 1, 0.05], [0, 0.1, 1]])
    found = LabelMap(Path("x"), data, tuple(range(9)), affine)
    target = np.diag([1.7, 1.9, 2.3, 1.0])
    target[:3, 3] = (-8.1, 2.2, -1.3)
    grid = Grid((12, 20, 9), target)
    index = np.linalg.inv(affine) @ target
    expected = ndimage.affine_transform(
        data, index[:3, :3], index[:3, 3], grid.shape, order=0, cval=0
    )
    inner = (slice(2, -2),) * 3
    assert (placed(found, grid)[inner] == expected[inner]).mean() > 0.999


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_scans_are_taken_from_where_the_pose_says(seed: int) -> None:
    import torch

    random = np.random.default_rng(seed)
    view = View((16, 18, 14), 3.0, (24, 28, 20), 2.0, 2)
    matrix = np.eye(3) + random.uniform(-0.2, 0.2, (3, 3))
    pose = Pose(matrix, random.uniform(-5, 5, 3), False)
    where = source_positions(view, pose, torch.zeros(1, 3, 12, 14, 10)).numpy()
    voxels = np.stack(np.meshgrid(*map(np.arange, view.shape), indexing="ij"))
    millimetres = (voxels - (np.array(view.shape)[:, None, None, None] - 1) / 2) * 3.0
    expected = np.einsum("ij,jxyz->ixyz", matrix, millimetres) + pose.shift[:, None, None, None]
    expected = expected / 2.0 + (np.array(view.source)[:, None, None, None] - 1) / 2
    np.testing.assert_allclose(where, expected, atol=1e-3)
    data = np.zeros(view.source, dtype=np.uint8)
    data[1:-1, 1:-1, 1:-1] = random.integers(0, 200, (22, 26, 18))
    labels = gathered(torch.from_numpy(data), torch.from_numpy(where).clone()).numpy()
    nearest = ndimage.map_coordinates(data, where, order=0, mode="nearest")
    assert (labels == nearest).mean() > 0.999
    image = random.normal(size=view.source).astype(np.float32)
    linear = interpolated(torch.from_numpy(image), torch.from_numpy(where)).numpy()
    np.testing.assert_allclose(
        linear, ndimage.map_coordinates(image, where, order=1, mode="nearest"), atol=2e-3
    )
