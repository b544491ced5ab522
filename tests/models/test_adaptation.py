"""What changes when weights meet another input: exact where it can be."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from braintune.models.backbone import TokenGrid
from braintune.models.weights.adaptation import (
    inflate,
    resize_positions,
    resize_table,
    sum_channels,
)

edges = st.integers(1, 6)


@given(have=st.integers(1, 4), want=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_same_image_in_all_channels_gets_the_same_response(
    have: int, want: int, seed: int
) -> None:
    torch.manual_seed(seed)
    kernel, image = torch.randn(5, have, 3, 3, 3), torch.randn(1, 1, 6, 7, 5)
    expected = F.conv3d(image.expand(-1, have, -1, -1, -1), kernel)
    response = F.conv3d(image.expand(-1, want, -1, -1, -1), sum_channels(kernel, want))
    assert torch.allclose(expected, response, atol=1e-5)


@given(depth=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_an_image_that_is_constant_along_x_gets_the_flat_response(depth: int, seed: int) -> None:
    torch.manual_seed(seed)
    kernel, image = torch.randn(4, 2, 3, 3), torch.randn(1, 2, 8, 9)
    flat = F.conv2d(image, kernel)
    response = F.conv3d(image.unsqueeze(2).expand(-1, -1, 9, -1, -1), inflate(kernel, depth))
    assert torch.allclose(response, flat.unsqueeze(2).expand_as(response), atol=1e-5)


@given(st.tuples(edges, edges, edges), st.tuples(edges, edges, edges), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_resized_positions_keep_class_tokens_and_constants(
    have: tuple[int, int, int], want: tuple[int, int, int], extra: int
) -> None:
    first, second = TokenGrid(extra, have), TokenGrid(extra, want)
    count = torch.Size(have).numel()
    positions = torch.cat([torch.randn(1, extra, 3), torch.full((1, count, 3), 0.7)], dim=1)
    resized = resize_positions(positions, first, second)
    assert resized.shape == (1, extra + torch.Size(want).numel(), 3)
    assert torch.equal(resized[:, :extra], positions[:, :extra])
    assert torch.allclose(resized[:, extra:], torch.tensor(0.7))
    assert torch.equal(resize_positions(positions, first, first), positions)


def test_resized_positions_keep_their_axes() -> None:
    """A ramp along one axis stays a ramp along that axis, at voxel centres."""
    ramp = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 3, 2).reshape(1, -1, 1)
    resized = resize_positions(ramp, TokenGrid(0, (4, 3, 2)), TokenGrid(0, (8, 3, 2)))
    along = resized.reshape(8, 3, 2)
    assert torch.equal(along, along[:, :1, :1].expand_as(along))
    assert along[:, 0, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def test_positions_of_a_flat_grid_are_repeated_along_x() -> None:
    flat = torch.randn(1, 1 + 6, 5)
    solid = resize_positions(flat, TokenGrid(1, (2, 3)), TokenGrid(1, (4, 2, 3)))
    assert torch.equal(solid[:, :1], flat[:, :1])
    assert torch.equal(solid[:, 1:].reshape(4, 6, 5), flat[:, 1:].expand(4, -1, -1))


@pytest.mark.parametrize("length", [3, 7, 13])
def test_tables_are_resized_along_their_distances(length: int) -> None:
    table = torch.linspace(-1, 1, 7)[:, None].expand(-1, 2)
    resized = resize_table(table, length)
    assert resized.shape == (length, 2)
    assert torch.allclose(resized, -resized.flip(0), atol=1e-6)
    assert (resized[1:] >= resized[:-1]).all()
