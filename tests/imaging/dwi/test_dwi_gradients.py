"""b-values and directions: read, checked, grouped, chosen."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.dwi_recipe import DwiRecipe
from braintune.errors import InputError
from braintune.imaging.dwi.gradients import Gradients, read_gradients, world_frame
from braintune.imaging.dwi.shells import choose_volumes, group_shells
from braintune.imaging.dwi.sidecars import DwiFiles
from braintune.imaging.nifti import ScanError
from braintune.registry import parse
from imaging.dwi.dwi_phantom import sphere

SERIES = Path("s.nii.gz")
BVALS = np.array([0.0, *[1000.0] * 12])
BVECS = np.concatenate([np.zeros((1, 3)), sphere(12)])


def written(folder: Path, bvals: object, bvecs: object) -> DwiFiles:
    """Gradients as files, from arrays or texts."""
    paths = []
    for name, content in (("s.bval", bvals), ("s.bvec", bvecs)):
        path = folder / name
        if isinstance(content, str):
            path.write_text(content)
        else:
            np.savetxt(path, np.atleast_2d(np.asarray(content)))
        paths.append(path)
    return DwiFiles(SERIES, paths[0], paths[1], None)


def test_rows_and_columns_may_be_volumes(tmp_path: Path) -> None:
    for bvals in (BVALS, BVALS[:, None], ", ".join(map(str, BVALS))):
        for bvecs in (BVECS, BVECS.T):
            read = read_gradients(written(tmp_path, bvals, bvecs), 13, 50)
            np.testing.assert_allclose(read.bvals, BVALS)
            np.testing.assert_allclose(read.bvecs, BVECS, atol=1e-12)


def test_b0_needs_no_direction(tmp_path: Path) -> None:
    bvals, bvecs = np.array([0.0, 5, *BVALS[1:]]), np.vstack([[np.nan] * 3, [1, 0, 0], BVECS[1:]])
    read = read_gradients(written(tmp_path, bvals, bvecs), 14, 50)
    np.testing.assert_allclose(read.bvecs, np.vstack([[0, 0, 0], [1, 0, 0], BVECS[1:]]), atol=1e-12)


@pytest.mark.parametrize("scale", [0.97, 1.0, 3.0])
def test_equal_lengths_say_nothing_of_b(tmp_path: Path, scale: float) -> None:
    read = read_gradients(written(tmp_path, BVALS, BVECS * scale), 13, 50)
    np.testing.assert_allclose(read.bvals, BVALS)
    np.testing.assert_allclose(read.bvecs, BVECS, atol=1e-12)


def test_unequal_lengths_scale_the_b_values(tmp_path: Path) -> None:
    """Two shells in one nominal b-value, as scanners write them: b times the length's square."""
    lengths = np.where(np.arange(13) % 2, np.sqrt(0.5), 1.0)
    read = read_gradients(written(tmp_path, 2 * BVALS, BVECS * lengths[:, None]), 13, 50)
    np.testing.assert_allclose(read.bvals[1:], np.where(np.arange(1, 13) % 2, 1000, 2000))
    np.testing.assert_allclose(read.bvecs, BVECS, atol=1e-12)


@pytest.mark.parametrize(
    ("bvals", "bvecs", "reason"),
    [
        (BVALS[:-1], BVECS, r"s\.bval is of 12 volumes, but s\.nii\.gz has 13"),
        (BVALS, BVECS[:-1], r"s\.bvec is of 12 volumes, but s\.nii\.gz has 13"),
        (BVALS, BVECS[:, :2], r"2 × 13 numbers|13 × 2 numbers"),
        (BVECS[:, :2], BVECS, r"s\.bval has 13 × 2 numbers"),
        (np.where(np.arange(13) == 4, np.nan, BVALS), BVECS, "for volume 4 "),
        (-BVALS, BVECS, "negative b-values"),
        (BVALS, np.where(np.arange(13)[:, None] == 3, np.nan, BVECS), "no direction for volume 3 "),
        (BVALS, BVECS * (np.arange(13) != 5)[:, None], "no direction for volume 5 .*Trace"),
        ("no numbers", BVECS, "no table of numbers"),
        ("", BVECS, "no table"),
        (BVALS, "1 2 3\n4 5\n", "no table"),
    ],
)
def test_wrong_tables_are_refused(
    tmp_path: Path, bvals: object, bvecs: object, reason: str
) -> None:
    with pytest.raises(ScanError, match=reason):
        read_gradients(written(tmp_path, bvals, bvecs), 13, 50)


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=40), st.floats(1, 300))
def test_shells_part_the_weighted_volumes(bvals: list[float], tolerance: float) -> None:
    values = np.array(bvals)
    shells = group_shells(values, 50, tolerance)
    members = np.concatenate([shell.volumes for shell in shells]) if shells else np.array([])
    assert sorted(members.tolist()) == np.flatnonzero(values > 50).tolist()
    for low, high in pairwise(shells):
        assert values[high.volumes].min() - values[low.volumes].max() > tolerance
    for shell in shells:
        assert (np.diff(np.sort(values[shell.volumes])) <= tolerance).all()


def scheme(*shells: tuple[float, int], unweighted: int = 1) -> Gradients:
    bvals = np.concatenate([np.zeros(unweighted), *[np.full(n, b) for b, n in shells]])
    bvecs = np.concatenate(
        [np.zeros((unweighted, 3)), *[sphere(n, k) for k, (_, n) in enumerate(shells)]]
    )
    return Gradients(bvals, bvecs)


def test_the_tensor_sees_low_shells_unless_others_are_named() -> None:
    two = scheme((995, 10), (3000, 20))
    assert choose_volumes(two, DwiRecipe(), SERIES)[1].tolist() == list(range(1, 11))
    named = DwiRecipe(shells=(3000,))
    assert choose_volumes(two, named, SERIES)[1].tolist() == list(range(11, 31))
    both = DwiRecipe(shells=(1000, 3000))
    assert choose_volumes(two, both, SERIES)[1].tolist() == list(range(1, 31))


@pytest.mark.parametrize(
    ("gradients", "recipe", "reason"),
    [
        (scheme((1000, 10), (2500, 9)), {"shells": [2000]}, "no shell of b = 2000 .* 1000, 2500"),
        (scheme((2000, 10)), {}, r"shells of b = 2000 s/mm², all above .*max_b: 1500.*shells:"),
        (scheme((1000, 5)), {}, "has 5 directions at b = 1000 s/mm²; a tensor needs at least 6"),
        (scheme((1000, 10), unweighted=0), {}, "no b = 0 volume: the least b-value is 1000"),
        (scheme((2, 10)), {}, "all b-values are up to 2. They must be in s/mm²"),
        (scheme((1000, 10)), {"b0_threshold": 1200}, "all b-values are up to 1000"),
    ],
)
def test_series_without_a_tensor_are_refused(
    gradients: Gradients, recipe: dict[str, object], reason: str
) -> None:
    with pytest.raises(ScanError, match=reason):
        choose_volumes(gradients, parse(DwiRecipe, recipe, "dwi"), SERIES)


def test_repeated_and_opposite_directions_are_one() -> None:
    some = sphere(5)
    bvecs = np.concatenate([np.zeros((1, 3)), some, -some, some])
    gradients = Gradients(np.array([0.0, *[1000.0] * 15]), bvecs)
    with pytest.raises(ScanError, match="has 5 directions"):
        choose_volumes(gradients, DwiRecipe(), SERIES)


def test_directions_in_a_plane_are_refused() -> None:
    turn = np.arange(10) * np.pi / 10
    flat = np.stack([np.cos(turn), np.sin(turn), np.zeros(10)], axis=1)
    gradients = Gradients(np.array([0.0, *[1000.0] * 10]), np.vstack([np.zeros(3), flat]))
    with pytest.raises(ScanError, match="10 directions .* nearly in a plane"):
        choose_volumes(gradients, DwiRecipe(), SERIES)


@given(
    st.lists(st.floats(-1, 1), min_size=9, max_size=9),
    st.lists(st.floats(0.5, 5), min_size=3, max_size=3),
)
def test_the_frame_is_a_rotation_of_left_handed_axes(
    entries: list[float], sizes: list[float]
) -> None:
    rotation, _ = np.linalg.qr(np.array(entries).reshape(3, 3) + 2 * np.eye(3))
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes
    frame = world_frame(affine)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(frame) == pytest.approx(-1)
    first = np.sign(np.linalg.det(affine)) * rotation[:, 0]
    np.testing.assert_allclose(
        frame, np.stack([-first, rotation[:, 1], rotation[:, 2]], axis=1), atol=1e-9
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"maps": ["fa", "fa"]}, "each map may be named once"),
        ({"maps": []}, "at least 1 item"),
        ({"maps": ["adc"]}, "dwi.maps"),
        ({"shells": [40, 1000]}, "a shell lies above b0_threshold 50"),
        ({"shels": [1000]}, "Did you mean 'shells'"),
    ],
)
def test_wrong_recipes_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=re.compile(reason, re.DOTALL)):
        parse(DwiRecipe, values, "dwi")
