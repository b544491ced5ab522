"""Masked autoencoding: what is hidden, what the encoder sees, and what is compared."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.vit import ViT
from braintune.tasks.pretraining.masked_cnn import InpaintingLearner, find_last_map
from braintune.tasks.pretraining.masked_vit import MaskedTokensLearner, grid_positions
from braintune.tasks.pretraining.objective import (
    Knowledge,
    make_objective,
)
from braintune.tasks.pretraining.patches import (
    count_hidden,
    draw_order,
    masked_losses,
    patchify,
    voxel_mask,
)
from tasks.objective_parts import (
    SFCN,
    UNET,
    VIT,
    backbone_of,
    images_of,
    learner_of,
    views_of,
)

# ---- patches


def test_a_patch_is_a_cube_of_voxels_in_the_order_of_a_convolution() -> None:
    images = torch.randn(2, 3, 8, 4, 12)
    patches = patchify(images, 4)
    assert patches.shape == (2, 2 * 1 * 3, 3 * 64)
    assert torch.equal(patches[1, 3 + 2].view(3, 4, 4, 4), images[1, :, 4:8, :, 8:12])
    layer = torch.nn.Conv3d(3, 5, 4, stride=4)
    expected = layer(images).flatten(2).transpose(1, 2)
    found = F.linear(patches, layer.weight.flatten(1), layer.bias)
    assert torch.allclose(found, expected, atol=1e-5)


@given(
    grid=st.tuples(*[st.integers(1, 5)] * 3), block=st.integers(1, 4), seed=st.integers(0, 2**40)
)
@settings(max_examples=40, deadline=None)
def test_orders_are_permutations_in_which_blocks_stay_together(
    grid: tuple[int, int, int], block: int, seed: int
) -> None:
    order = draw_order(grid, block, seed).numpy()
    assert sorted(order.tolist()) == list(range(math.prod(grid)))
    assert np.array_equal(order, draw_order(grid, block, seed).numpy())
    # The order is one block after the other: of some shift of the lattice, cells never come back.
    cells = np.stack(np.unravel_index(order, grid))
    fits = []
    for shift in np.ndindex(block, block, block):
        numbers = [tuple(c) for c in ((cells + np.array(shift)[:, None]) // block).T]
        changes = [a for a, b in zip(numbers, [None, *numbers], strict=False) if a != b]
        fits.append(len(changes) == len(set(numbers)))
    assert any(fits)


def test_voxels_of_hidden_patches() -> None:
    hidden = torch.zeros(1, 8)
    hidden[0, 5] = 1
    mask = voxel_mask(hidden, (2, 2, 2), 3)
    expected = torch.zeros(1, 1, 6, 6, 6)
    expected[:, :, 3:, :3, 3:] = 1
    assert torch.equal(mask, expected)


@given(ratio=st.floats(0.01, 0.99), patches=st.integers(2, 500))
def test_something_is_hidden_and_something_is_left(ratio: float, patches: int) -> None:
    hidden = count_hidden(patches, ratio)
    assert 1 <= hidden < patches
    assert abs(hidden - ratio * patches) <= 1


@pytest.mark.parametrize("normalise", [False, True])
def test_the_loss_is_the_squared_error_of_hidden_patches(normalise: bool) -> None:
    predicted, truth = torch.randn(2, 5, 7), torch.randn(2, 5, 7) * 3 + 1
    hidden = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0]])
    expected = []
    for scan in range(2):
        errors = []
        for patch in torch.where(hidden[scan] == 1)[0]:
            wanted = truth[scan, patch]
            if normalise:
                wanted = (wanted - wanted.mean()) / torch.sqrt(wanted.var() + 1e-6)
            errors.append(((predicted[scan, patch] - wanted) ** 2).mean())
        expected.append(torch.stack(errors).mean())
    found = masked_losses(predicted, truth, hidden, normalise)
    assert torch.allclose(found, torch.stack(expected), rtol=1e-5)


# ---- masked autoencoding of ViTs


@pytest.fixture(params=["vit", "nit", "brainiac"])
def masked_vit(request: pytest.FixtureRequest) -> MaskedTokensLearner:
    learner = learner_of("masked", backbone_of(request.param, VIT), decoder_width=24)
    assert isinstance(learner, MaskedTokensLearner)
    return learner


def hidden_voxels(learner: Any, seeds: tuple[int, ...]) -> torch.Tensor:
    """What a learner hides, found by asking where the loss depends on its target alone."""
    grid = learner._grid
    order = torch.stack([draw_order(grid, learner._block, seed) for seed in seeds])
    hidden = torch.zeros(order.shape).scatter(1, order[:, : learner._hidden], 1.0)
    return voxel_mask(hidden, grid, learner._edge)


def test_the_encoder_sees_visible_tokens_alone(masked_vit: MaskedTokensLearner) -> None:
    images, seeds = images_of(2), (0, 1)
    mask = hidden_voxels(masked_vit, seeds)
    visible = torch.stack([draw_order(masked_vit._grid, 1, s) for s in seeds])[
        :, masked_vit._hidden :
    ]
    assert visible.shape[1] == 16
    before = masked_vit.encode(images, visible)
    after = masked_vit.encode(torch.where(mask == 1, 1e6 * images, images), visible)
    assert torch.equal(before, after)
    changed = masked_vit.encode(torch.where(mask == 0, images + 1, images), visible)
    assert not torch.allclose(before, changed)


def test_an_encoder_that_sees_all_is_the_backbone(masked_vit: MaskedTokensLearner) -> None:
    vit = masked_vit.backbone.eval()
    assert isinstance(vit, ViT)
    images = images_of(2)
    shuffled = torch.stack([draw_order(masked_vit._grid, 1, seed) for seed in (4, 5)])
    features = masked_vit.encode(images, shuffled)
    if vit.plan.class_token:
        assert torch.allclose(features[:, 0], vit(images), atol=1e-5)
    else:
        # Without a class token the feature is the first patch, wherever it was shuffled to.
        first = (shuffled == 0).nonzero()[:, 1]
        assert torch.allclose(features[[0, 1], first], vit(images), atol=1e-5)


def test_only_hidden_patches_are_compared(masked_vit: MaskedTokensLearner) -> None:
    """Predictions are compared where patches are hidden, and nowhere else."""
    images = images_of(2).requires_grad_()
    seen: list[torch.Tensor] = []

    def watch(_layer: torch.nn.Module, _given: object, output: torch.Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    masked_vit.predict.register_forward_hook(watch)
    masked_vit(views_of(images)).sum().backward()
    gradient = seen[0].grad.abs().sum(dim=2)
    mask = hidden_voxels(masked_vit, (0, 1))
    hidden = patchify(mask, 4)[:, :, 0]
    assert torch.equal(gradient > 0, hidden == 1)
    assert hidden.sum(dim=1).tolist() == [48, 48]


def test_positions_tell_tokens_apart_and_near_ones_are_like() -> None:
    table = grid_positions((4, 5, 6), 48)
    assert table.shape == (120, 48)
    distances = torch.cdist(table, table)
    assert (distances + 9 * torch.eye(120) > 0.1).all()
    places = torch.cartesian_prod(*[torch.arange(float(n)) for n in (4, 5, 6)])
    steps = (places - places[0]).abs().sum(dim=1)
    assert (distances[0][steps == 1] < distances[0][steps > 3].min()).all()


# ---- masked images of CNNs


@pytest.mark.parametrize(("name", "options"), [("sfcn", SFCN), ("unet", UNET)])
def test_cnns_see_zeros_where_patches_are_hidden(name: str, options: dict[str, Any]) -> None:
    backbone = backbone_of(name, options)
    with torch.random.fork_rng():
        learner = learner_of("masked", backbone, patch=4, ratio=0.5, decoder_width=8)
    assert isinstance(learner, InpaintingLearner)
    learner.eval()
    images = images_of(2)
    mask = hidden_voxels(learner, (0, 1))
    assert mask.mean().item() == 0.5
    given: list[torch.Tensor] = []
    first = next(m for m in backbone.modules() if isinstance(m, torch.nn.Conv3d))
    first.register_forward_pre_hook(lambda _m, x: given.append(x[0]))
    losses = learner(views_of(images))
    assert torch.equal(given[0][mask == 1], torch.zeros(int(mask.sum())))
    assert torch.equal(given[0][mask == 0], images[mask == 0])
    # By the definition: the mean over hidden patches of the normalised squared error.
    made, wanted = (patchify(x, 4) for x in (learner.voxels(images * (1 - mask)), images))
    wanted = (wanted - wanted.mean(dim=2, keepdim=True)) / (
        wanted.var(dim=2, keepdim=True) + 1e-6
    ).sqrt()
    hidden = patchify(mask, 4)[:, :, 0] == 1
    for scan in range(2):
        errors = ((made - wanted) ** 2).mean(dim=2)[scan][hidden[scan]]
        assert losses[scan].item() == pytest.approx(errors.mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["resnet10", "densenet121", "sfcn", "fmcib"])
def test_the_last_map_is_that_whose_mean_are_the_features(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, InputShape(1, (96, 96, 64)), {})
        part, channels, (x, y, z) = find_last_map(backbone, (96, 96, 64))
        caught: list[torch.Tensor] = []
        backbone.get_submodule(part).register_forward_hook(lambda _m, _x, out: caught.append(out))
        assert backbone(torch.empty(1, 1, 96, 96, 64)).shape == (1, channels)
    assert caught[0].shape == (1, channels, x, y, z)
    assert x == y > 1


def test_networks_that_have_no_tokens_and_no_map_can_not_fill_in() -> None:
    for name in ("r3d18", "slice-set-resnet18"):
        with torch.device("meta"):
            shape = InputShape(1, (32, 32, 32))
            backbone = build_backbone(name, shape, {})
            with pytest.raises(InputError, match="Masked autoencoding needs a ViT"):
                make_objective("masked", {}).learner(backbone, Knowledge((32, 32, 32), {}))


@pytest.mark.parametrize(
    ("name", "options", "mistake", "message"),
    [
        ("vit", VIT, {"patch": 4}, "a ViT's patches are its own"),
        ("sfcn", SFCN, {"decoder_depth": 3}, "belongs to ViTs"),
        ("sfcn", SFCN, {"patch": 5}, "must divide"),
        ("sfcn", SFCN, {"patch": 16}, "two patches or more"),
    ],
)
def test_options_that_do_not_suit_the_network(
    name: str, options: dict[str, Any], mistake: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        learner_of("masked", backbone_of(name, options), **mistake)
