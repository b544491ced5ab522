"""Slice networks against the published description, written out slice by slice."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import BACKBONES, Backbone, InputShape, build_backbone
from braintune.models.slice_aggregation import SliceAttention
from braintune.models.slice_dropping import drop_slices

SHAPE = (16, 20, 18)
TINY_CNN = {"name": "cnn", "channels": [4, 8, 6]}
PLANES = ["sagittal", "coronal", "axial"]
PUBLISHED = InputShape(1, (91, 109, 91))
State = dict[str, torch.Tensor]


def network(name: str, **options: Any) -> Backbone:
    """A tiny network in evaluation whose weights are all random, so that none of them hides."""
    torch.manual_seed(0)
    backbone = build_backbone(name, InputShape(1, SHAPE), options)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return backbone.eval()


def slices_of(scan: torch.Tensor, plane: str) -> list[torch.Tensor]:
    """The slices of one scan of shape (channels, x, y, z), by plain indexing."""
    if plane == "sagittal":
        return [scan[:, i, :, :] for i in range(scan.shape[1])]
    if plane == "coronal":
        return [scan[:, :, i, :] for i in range(scan.shape[2])]
    return [scan[:, :, :, i] for i in range(scan.shape[3])]


def norm(maps: torch.Tensor) -> torch.Tensor:
    """Each channel of one image to mean 0 and variance 1 over its own pixels."""
    axes = tuple(range(2, maps.ndim))
    mean = maps.mean(axes, keepdim=True)
    return (maps - mean) / (((maps - mean) ** 2).mean(axes, keepdim=True) + 1e-5).sqrt()


def blocks(image: torch.Tensor, state: State, prefix: str) -> torch.Tensor:
    """Conv 3, norm, max-pool 2, ReLU; last conv 1, norm, ReLU, mean: one image to a vector."""
    conv, pool = (F.conv2d, F.max_pool2d) if image.ndim == 3 else (F.conv3d, F.max_pool3d)
    x, count = image[None], sum(k.startswith(prefix) and k.endswith("weight") for k in state)
    for number in range(count):
        weight, bias = (state[f"{prefix}.{number}.0.{kind}"] for kind in ("weight", "bias"))
        if number < count - 1:
            x = F.relu(pool(norm(conv(x, weight, bias, padding=1)), 2))
        else:
            x = F.relu(norm(conv(x, weight, bias)))
    return x.flatten(2).mean(2)[0]


def placed(vectors: torch.Tensor, state: State) -> torch.Tensor:
    """Positions added, then one norm over all slices and features; shape (slices, features)."""
    z = vectors + state["neck.positions.embedding"][0]
    z = (z - z.mean()) / (((z - z.mean()) ** 2).mean() + 1e-5).sqrt()
    return z * state["neck.positions.gain"][0] + state["neck.positions.bias"][0]


def aggregated(vectors: torch.Tensor, state: State, how: str) -> torch.Tensor:
    """From (slices, features) to (features,)."""
    if how == "mean":
        return vectors.mean(0)
    if how == "max":
        return vectors.max(0).values

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"aggregation.{name}.weight"].T + state[f"aggregation.{name}.bias"]

    keys, values = linear(vectors, "key"), linear(vectors, "value")
    scores = torch.stack([k @ state["aggregation.query"][0] for k in keys])
    weights = (scores / keys.shape[1] ** 0.5).softmax(0)
    pooled = sum(w * v for w, v in zip(weights, values, strict=True))
    pooled = (pooled - pooled.mean()) / (pooled.var(unbiased=False) + 1e-5).sqrt()
    pooled = pooled * state["aggregation.norm.weight"] + state["aggregation.norm.bias"]
    return linear(pooled, "output")


def reduced(vectors: torch.Tensor, state: State, prefix: str = "neck.reduction") -> torch.Tensor:
    return vectors @ state[f"{prefix}.weight"].T + state[f"{prefix}.bias"]


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, atol=1e-5 * max(1.0, float(second.abs().max())))


@pytest.mark.parametrize("positions", ["none", "learned", "resized"])
@pytest.mark.parametrize("aggregate", ["mean", "max", "attention"])
@pytest.mark.parametrize("plane", PLANES)
def test_slice_set_is_the_published_network(plane: str, aggregate: str, positions: str) -> None:
    options = {"plane": plane, "aggregate": aggregate, "positions": positions}
    backbone = network("slice-set", encoder=TINY_CNN, features=5, **options)
    state = backbone.state_dict()
    scans = torch.randn(3, 1, *SHAPE)
    expected = []
    with torch.no_grad():
        for scan in scans:
            vectors = torch.stack(
                [blocks(s, state, "encoder.blocks") for s in slices_of(scan, plane)]
            )
            if positions != "none":
                vectors = placed(vectors, state)
            expected.append(aggregated(reduced(vectors, state), state, aggregate))
        assert close(backbone(scans), torch.stack(expected))


@pytest.mark.parametrize("plane", PLANES)
def test_other_encoders_place_slices_after_their_reduction(plane: str) -> None:
    encoder = {"name": "resnet18", "width": 4}
    options = {"plane": plane, "positions": "learned", "features": 5}
    backbone = network("slice-set-resnet18", encoder=encoder, **options)
    state = backbone.state_dict()
    scans = torch.randn(2, 1, *SHAPE)
    with torch.no_grad():
        expected = [
            placed(
                reduced(
                    torch.cat([backbone.encoder(s[None]) for s in slices_of(scan, plane)]), state
                ),
                state,
            ).mean(0)
            for scan in scans
        ]
        assert close(backbone(scans), torch.stack(expected))


@pytest.mark.parametrize("plane", PLANES)
def test_slice_lstm_is_the_published_network(plane: str) -> None:
    backbone = network("slice-lstm", channels=[4, 8, 6], hidden=7, plane=plane)
    state = backbone.state_dict()
    scans = torch.randn(2, 1, *SHAPE)
    input_weight, hidden_weight = state["lstm.weight_ih_l0"], state["lstm.weight_hh_l0"]
    bias = state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"]
    expected = []
    with torch.no_grad():
        for scan in scans:
            hidden, cell = torch.zeros(7), torch.zeros(7)
            for one in slices_of(scan, plane):
                x = reduced(blocks(one, state, "encoder.blocks"), state, "reduction")
                gates = input_weight @ x + hidden_weight @ hidden + bias
                take, forget, new, show = gates.chunk(4)
                cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
                hidden = show.sigmoid() * cell.tanh()
            expected.append(hidden)
        assert close(backbone(scans), torch.stack(expected))


def test_slice_cnn3d_is_the_published_network() -> None:
    backbone = network("slice-cnn3d", channels=[4, 8, 6])
    scans = torch.randn(2, 1, *SHAPE)
    with torch.no_grad():
        expected = [blocks(scan, backbone.state_dict(), "blocks") for scan in scans]
        assert close(backbone(scans), torch.stack(expected))


@pytest.mark.parametrize(
    ("plane", "window"), [("sagittal", (3, 2)), ("coronal", (2, 2)), ("axial", (2, 3))]
)
def test_the_published_pooling_window_is_the_whole_last_map(
    plane: str, window: tuple[int, int]
) -> None:
    shapes = []
    with torch.device("meta"):
        backbone = build_backbone("slice-set", PUBLISHED, {"plane": plane})
        backbone.encoder.blocks.register_forward_hook(lambda *a: shapes.append(a[2].shape[2:]))
        backbone(torch.empty(1, 1, *PUBLISHED.shape))
    assert shapes == [torch.Size(window)]


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("slice-set", {"aggregate": "mean"}, 998_625),
        ("slice-set", {"aggregate": "max"}, 998_625),
        ("slice-set", {"aggregate": "attention"}, 1_001_889),
        ("slice-set", {"positions": "learned"}, 998_625 + 17_472),
        ("slice-set", {"positions": "resized", "plane": "axial"}, 998_625 + 17_472),
        ("slice-set", {"positions": "learned", "plane": "coronal"}, 998_625 + 20_928),
        ("slice-set", {"encoder": "resnet18"}, 11_195_105),
        ("slice-set-resnet18", {"positions": "learned"}, 11_195_105 + 8_736),
    ],
)
def test_published_counts(name: str, options: dict[str, Any], count: int) -> None:
    entry = BACKBONES.get(name)
    assert entry.head is not None
    with torch.device("meta"):
        backbone = build_backbone(name, PUBLISHED, options)
        parts = nn.ModuleList([backbone, entry.head(backbone)])
    assert sum(p.numel() for p in parts.parameters()) == count


def test_dropout_is_as_published_unless_asked() -> None:
    cnn = {"encoder": TINY_CNN}
    rates = [
        network(name, **options).neck.dropout.p
        for name, options in [
            ("slice-set", cnn),
            ("slice-set-resnet18", {}),
            ("slice-set", {**cnn, "dropout": 0.0}),
            ("slice-set", {"encoder": "resnet18", "dropout": 0.2}),
        ]
    ]
    assert rates == [0.5, 0.0, 0.0, 0.2]


def test_attention_weights_are_what_the_output_is_made_of() -> None:
    torch.manual_seed(0)
    attention, features = SliceAttention(6), torch.randn(2, 9, 6)
    weights = attention.weights(features)
    assert torch.allclose(weights.sum(1), torch.ones(2))
    mixed = torch.einsum("bs,bsf->bf", weights, attention.value(features))
    assert torch.allclose(attention(features), attention.output(attention.norm(mixed)), atol=1e-6)


def smooth_scans() -> torch.Tensor:
    """Two scans that change slowly from slice to slice."""
    coarse = torch.randn(2, 1, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, SHAPE, mode="trilinear", align_corners=True)


def test_learned_positions_refuse_another_number_of_slices() -> None:
    backbone = network("slice-set", encoder=TINY_CNN, positions="learned")
    with pytest.raises(InputError, match="bound to 16 slices and was given 8.*resized"):
        backbone(drop_slices(smooth_scans(), "x", 0.5))


@pytest.mark.parametrize("aggregate", ["mean", "max", "attention"])
def test_resized_positions_are_the_learned_ones_and_bear_dropped_slices(aggregate: str) -> None:
    options = {"encoder": TINY_CNN, "aggregate": aggregate}
    learned = network("slice-set", positions="learned", **options)
    resized = network("slice-set", positions="resized", **options)
    # Positions that change slowly, as trained ones do; the norm's gain and bias with them.
    with torch.no_grad():
        along = torch.linspace(-1, 1, 16)[None, :, None]
        for offset, values in enumerate(learned.neck.positions.parameters()):
            values.copy_(offset + along * values[:, :1])
    resized.load_state_dict(learned.state_dict())
    scans = smooth_scans()
    with torch.no_grad():
        expected = learned(scans)
        assert torch.equal(resized(scans), expected)
        half = resized(drop_slices(scans, "x", 0.5, "ordered"))
        blank = resized(drop_slices(scans, "x", 0.5, "ordered", "zeros"))
    assert (half - expected).norm() < 0.15 * expected.norm()
    assert (half - expected).norm() < 0.5 * (blank - expected).norm()


@pytest.mark.parametrize("name", ["slice-set", "slice-lstm"])
def test_networks_without_positions_take_any_number_of_slices(name: str) -> None:
    options = {"encoder": TINY_CNN} if name == "slice-set" else {"channels": [4, 8, 6]}
    backbone = network(name, **options)
    scans = smooth_scans()
    with torch.no_grad():
        assert backbone(scans[:, :, :5]).shape == (2, backbone.n_features)
        # The mean does not know the order; the LSTM does.
        same = torch.allclose(backbone(scans.flip(2)), backbone(scans), atol=1e-5)
    assert same == (name == "slice-set")


def test_token_grids_name_what_belongs_to_slices() -> None:
    backbone = network("slice-set", encoder=TINY_CNN, positions="learned", plane="coronal")
    state = backbone.state_dict()
    assert sorted(backbone.token_grids) == [
        f"neck.positions.{n}" for n in ("bias", "embedding", "gain")
    ]
    for key, grid in backbone.token_grids.items():
        assert grid.extra == 0
        assert grid.shape == (20,) == state[key].shape[1:2]
    dino = network(
        "slice-set", encoder={"name": "dinov2-small", "width": 24, "heads": 3, "depth": 1}
    )
    (key,) = dino.token_grids
    assert dino.state_dict()[key].shape == (1, 1 + 37 * 37, 24)
    assert dino.token_grids[key].shape == (37, 37)


def test_encoders_are_chosen_by_name_or_with_options() -> None:
    by_name = network("slice-set", encoder="resnet18")
    with_options = network("slice-set", encoder={"name": "resnet18", "normalise": "none"})
    assert by_name.state_dict().keys() == with_options.state_dict().keys()
    mistakes = {
        "'backbone.encoder.normalize'. Did you mean 'normalise'": {
            "name": "resnet18",
            "normalize": 1,
        },
        "Unknown encoder 'resnt18'. Did you mean 'resnet18'": "resnt18",
        "'backbone.encoder.name' is missing": {"normalise": "none"},
        "The encoder cnn needs slices of at least 64 × 64 pixels, not 20 × 18": "cnn",
    }
    for message, encoder in mistakes.items():
        with pytest.raises(InputError, match=message):
            network("slice-set", encoder=encoder)
    with pytest.raises(InputError, match="at least 64 voxels along each axis"):
        network("slice-cnn3d")
