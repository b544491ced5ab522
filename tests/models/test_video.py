"""The networks of videos against torchvision's and transformers', with the same weights."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from braintune.errors import InputError
from braintune.extras import make_torchvision_importable
from braintune.models.backbone import BACKBONES, InputShape, build_backbone, check_options
from braintune.models.stochastic_depth import StochasticDepth
from braintune.models.swin3d_windows import WindowAttention, WindowPlan
from braintune.models.videomae import positions_of, sinusoids

make_torchvision_importable()

from torchvision.models import video as reference  # noqa: E402
from torchvision.models.video.mvit import MSBlockConfig, MViT  # noqa: E402
from torchvision.models.video.swin_transformer import SwinTransformer3d  # noqa: E402

TINY = {
    "mc3-18": {"width": 4},
    "mvit-v2-s": {"width": 8, "depths": [1, 2, 1], "drop_path": 0.5},
    "r2plus1d18": {"width": 4},
    "r3d18": {"width": 4},
    "swin3d-t": {
        "width": 8,
        "depths": [2, 2],
        "heads": [2, 4],
        "window": [4, 3, 3],
        "drop_path": 0.5,
    },
    "videomae": {"patch": 4, "width": 24, "depth": 2, "heads": 3, "hidden": 32},
}
# From the reference's keys to ours; None for those that have no place.
TORCHVISION = [
    (r"(fc|head)\..*", None),
    (r".*relative_position_index", None),
    (r"pos_encoding\.class_token", "class_token"),
]
TRANSFORMERS = [
    (r"videomae\.embeddings\.patch_embeddings\.projection\.(.*)", r"patch_embed.\1"),
    (r"videomae\.encoder\.layer\.(\d+)\.layernorm_before\.(.*)", r"blocks.\1.norm1.\2"),
    (r"videomae\.encoder\.layer\.(\d+)\.layernorm_after\.(.*)", r"blocks.\1.norm2.\2"),
    (r"videomae\.encoder\.layer\.(\d+)\.attention\.output\.dense\.(.*)", r"blocks.\1.attn.proj.\2"),
    (r"videomae\.encoder\.layer\.(\d+)\.intermediate\.dense\.(.*)", r"blocks.\1.fc1.\2"),
    (r"videomae\.encoder\.layer\.(\d+)\.output\.dense\.(.*)", r"blocks.\1.fc2.\2"),
    (r"fc_norm\.(.*)", r"norm.\1"),
]


def renamed(
    state: dict[str, torch.Tensor], rules: list[tuple[str, str | None]]
) -> dict[str, torch.Tensor]:
    ours = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, key):
                new = None if replacement is None else match.expand(replacement)
                break
        else:
            new = key
        if new is not None:
            ours[new] = value
    return ours


def joined_attention(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries, keys and values of transformers' VideoMAE as one layer; keys get a bias of zero."""
    state = dict(state)
    prefix = "videomae.encoder.layer"
    depth = sum(key.endswith("attention.attention.key.weight") for key in state)
    for number in range(depth):
        parts = {
            part: state.pop(f"{prefix}.{number}.attention.attention.{part}")
            for part in ("query.weight", "key.weight", "value.weight", "query.bias", "value.bias")
        }
        weights = [parts[f"{part}.weight"] for part in ("query", "key", "value")]
        biases = [parts["query.bias"], torch.zeros_like(parts["query.bias"]), parts["value.bias"]]
        state[f"blocks.{number}.attn.qkv.weight"] = torch.cat(weights)
        state[f"blocks.{number}.attn.qkv.bias"] = torch.cat(biases)
    return state


def unlike_the_start(network: nn.Module) -> nn.Module:
    """No weight keeps a value, such as 0 or 1, that would hide its use."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif value.is_floating_point():
                value.add_(torch.randn_like(value) * 0.1)
    return network.eval()


def torchvision_network(name: str, shape: tuple[int, int, int]) -> nn.Module:
    """Torchvision's network of the same size as ours of `TINY`; the ResNets are as published."""
    if name == "mvit-v2-s":
        inputs, outputs, heads = [8, 8, 16, 16], [8, 16, 16, 32], [1, 2, 2, 4]
        strides = [(1, 4), (2, 2), (1, 2), (2, 1)]
        blocks = [
            MSBlockConfig(h, i, o, [3] * 3, [3] * 3, [1, q, q], [1, kv, kv])
            for i, o, h, (q, kv) in zip(inputs, outputs, heads, strides, strict=True)
        ]
        network = MViT(
            spatial_size=shape[1:],
            temporal_size=shape[0],
            block_setting=blocks,
            residual_pool=True,
            residual_with_cls_embed=False,
            rel_pos_embed=True,
            proj_after_attn=True,
        )
    elif name == "swin3d-t":
        network = SwinTransformer3d([2, 4, 4], 8, [2, 2], [2, 4], [4, 3, 3])
    else:
        network = getattr(reference, REFERENCES[name])()
    return network


REFERENCES = {
    "mc3-18": "mc3_18",
    "mvit-v2-s": "mvit_v2_s",
    "r2plus1d18": "r2plus1d_18",
    "r3d18": "r3d_18",
    "swin3d-t": "swin3d_t",
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("r3d18", (16, 32, 32)),
        ("mc3-18", (16, 33, 35)),
        ("r2plus1d18", (17, 32, 32)),
        ("mvit-v2-s", (8, 64, 64)),
        # Not square: tables of relative positions are resized.
        ("mvit-v2-s", (6, 48, 32)),
        ("mvit-v2-s", (8, 16, 64)),
        # Whole windows, padded ones, and ones that the grid cuts down in time and in space.
        ("swin3d-t", (16, 48, 48)),
        ("swin3d-t", (19, 41, 37)),
        ("swin3d-t", (5, 48, 48)),
        ("swin3d-t", (16, 16, 40)),
    ],
)
def test_features_are_torchvisions(name: str, shape: tuple[int, int, int]) -> None:
    theirs = unlike_the_start(torchvision_network(name, shape))
    options = {} if name in ("r3d18", "mc3-18", "r2plus1d18") else TINY[name]
    ours = build_backbone(name, InputShape(3, shape), options).eval()
    ours.load_state_dict(renamed(theirs.state_dict(), TORCHVISION))
    setattr(theirs, "fc" if hasattr(theirs, "fc") else "head", nn.Identity())
    videos = torch.randn(2, 3, *shape)
    with torch.no_grad():
        expected, features = theirs(videos), ours(videos)
    assert expected.std() > 0.01
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", REFERENCES)
def test_the_published_form_has_torchvisions_weights(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(reference, REFERENCES[name])().state_dict()
        entry = BACKBONES.get(name)
        ours = entry.build(entry.options(), entry.published).state_dict()
    expected = renamed(theirs, TORCHVISION)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("name", ["mvit-v2-s", "swin3d-t"])
def test_stochastic_depth_is_published(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(reference, REFERENCES[name])()
        entry = BACKBONES.get(name)
        ours = entry.build(entry.options(), entry.published)
    expected = [m.p for m in theirs.modules() if type(m).__name__ == "StochasticDepth"]
    rates = [m.rate for m in ours.modules() if isinstance(m, StochasticDepth)]
    assert rates == pytest.approx(expected)
    assert rates[-1] > 0


def transformers_videomae(**options: object) -> nn.Module:
    import transformers

    config = transformers.VideoMAEConfig(num_labels=0, **options)
    return transformers.VideoMAEForVideoClassification(config)


def test_features_are_transformers_videomaes() -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    theirs = unlike_the_start(
        transformers_videomae(image_size=56, patch_size=4, intermediate_size=32, **sizes)
    )
    ours = build_backbone("videomae", InputShape(3, (16, 56, 56)), TINY["videomae"]).eval()
    ours.load_state_dict(renamed(joined_attention(theirs.state_dict()), TRANSFORMERS))
    videos = torch.randn(2, 3, 16, 56, 56)
    with torch.no_grad():
        expected, features = theirs(videos.transpose(1, 2)).logits, ours(videos)
    assert expected.shape == features.shape
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_videomaes_published_form_has_idle_biases_of_keys_and_else_transformers_weights() -> None:
    with torch.device("meta"):
        theirs = transformers_videomae()
        entry = BACKBONES.get("videomae")
        ours = entry.build(entry.options(), entry.published)
        expected = renamed(joined_attention(theirs.state_dict()), TRANSFORMERS)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in expected.items()
    }
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert counts[0] - counts[1] == 12 * 768


def test_the_bias_of_keys_changes_nothing() -> None:
    network = build_backbone("videomae", InputShape(1, (8, 16, 16)), TINY["videomae"]).eval()
    images = torch.randn(2, 1, 8, 16, 16)
    with torch.no_grad():
        before = network(images)
        network.get_parameter("blocks.0.attn.qkv.bias")[24:48] += 3
        assert torch.allclose(network(images), before, atol=1e-5)
        network.get_parameter("blocks.0.attn.qkv.bias")[:24] += 3
        assert not torch.allclose(network(images), before, atol=1e-3)


def test_positions_of_other_grids_are_resized_from_the_published_one() -> None:
    published = positions_of((8, 14, 14), 6)
    assert torch.equal(published[0], sinusoids(1568, 6))
    # Trilinear resizing to half is the mean of each 2 × 2 × 2 places.
    in_space = published[0].T.unflatten(1, (8, 14, 14))
    halved = F.avg_pool3d(in_space, 2).flatten(1).T
    assert torch.allclose(positions_of((4, 7, 7), 6)[0], halved, atol=1e-6)


# Where x, y and z of a scan come from, if y or z take the place of time; the others keep order.
MOVED = {"y": (0, 1, 3, 2, 4), "z": (0, 1, 3, 4, 2)}


@pytest.mark.parametrize("axis", ["y", "z"])
@pytest.mark.parametrize("name", TINY)
def test_the_axis_of_time_is_a_matter_of_turning_the_scan(name: str, axis: str) -> None:
    video = torch.randn(2, 1, 18, 20, 28)
    scan = video.permute(MOVED[axis])
    features = []
    for images, time_axis in ((video, "x"), (scan, axis)):
        torch.manual_seed(0)
        given = InputShape(1, tuple(images.shape[2:]))
        network = build_backbone(name, given, {**TINY[name], "time_axis": time_axis}).eval()
        with torch.no_grad():
            features.append(network(images))
    assert torch.allclose(features[0], features[1], atol=1e-6)


def test_tables_depend_on_the_shape_as_time_and_space() -> None:
    options = {**TINY["mvit-v2-s"], "time_axis": "z"}
    network = build_backbone("mvit-v2-s", InputShape(1, (40, 64, 10)), options)
    attention = network.get_submodule("blocks.0.attn")
    assert len(attention.rel_pos_t) == 2 * 5 - 1
    assert len(attention.rel_pos_h) == len(attention.rel_pos_w) == 2 * 16 - 1


def test_videomae_names_the_nearest_shape() -> None:
    with pytest.raises(InputError, match=r"multiples of \[16, 16, 2\].*\[96, 112, 92\]"):
        build_backbone("videomae", InputShape(1, (91, 109, 91)), {"time_axis": "z"})


def test_cut_windows_can_keep_the_true_offsets() -> None:
    bias = {}
    for offsets in ("published", "true"):
        plan = WindowPlan(width=4, heads=1, window=(2, 3, 3), shifted=False, offsets=offsets)
        torch.manual_seed(0)
        attention = WindowAttention(plan)
        whole = attention.bias((2, 3, 3), (2, 3, 3), (0, 0, 0)).view(2, 3, 3, 2, 3, 3)
        bias[offsets] = attention.bias((2, 2, 2), (2, 2, 2), (0, 0, 0)).view(2, 2, 2, 2, 2, 2)
    expected = whole[:, :2, :2, :, :2, :2]
    assert torch.equal(bias["true"], expected)
    assert not torch.equal(bias["published"], expected)


def test_stochastic_depth_drops_whole_scans_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = StochasticDepth(0.25)(torch.ones(10_000, 2, 3))
    scans = dropped.flatten(1)
    assert torch.equal(scans.amin(dim=1), scans.amax(dim=1))
    assert scans.unique().tolist() == pytest.approx([0, 4 / 3])
    assert scans.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["mvit-v2-s", "swin3d-t"])
def test_training_is_random_under_the_seed_and_evaluation_is_not(name: str) -> None:
    torch.manual_seed(0)
    network = build_backbone(name, InputShape(1, (8, 32, 32)), TINY[name])
    images = torch.randn(4, 1, 8, 32, 32)
    drawn = []
    with torch.no_grad():
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(network(images))
        network.eval()
        assert torch.equal(network(images), network(images))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])


def test_sizes_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="must be as many"):
        check_options("swin3d-t", {"depths": [2, 2]})
    with pytest.raises(InputError, match="multiple of"):
        check_options("swin3d-t", {"width": 10})
    with pytest.raises(InputError, match="multiple of heads"):
        check_options("mvit-v2-s", {"width": 10, "heads": 3})
    with pytest.raises(InputError, match="at least 16 voxels"):
        build_backbone("r3d18", InputShape(1, (8, 32, 32)), {})
