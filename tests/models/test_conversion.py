from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from braintune import __version__
from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.conversion import STEPS, convert, convert_state, fuse_qkv
from braintune.models.weights.loading import WeightSet, fit_weights, load_weights
from braintune.models.weights.record import Adaptation, Conversion, Source, WeightRecord
from braintune.models.weights.tensors import read_facts, read_tensors, sha256_of

OPTIONS = {"channels": [4, 8]}
SHAPE = InputShape(1, (32, 32, 32))
# As a publisher might call the layers of the tiny SFCN, beside a head.
CONVERSION = Conversion(
    container=("model", "state_dict"),
    strip="module.",
    unused=(r"head\..*",),
    rename=((r"block(\d)\.(conv|norm)\.(.*)", r"blocks.\1.\2.\3"), (r"not there", "")),
)


def record(**changes: Any) -> WeightRecord:
    values = {
        "backbone": "sfcn",
        "tag": "tiny",
        "options": OPTIONS,
        "licence": "MIT",
        "citation": "–",
        "conversion": Conversion(),
    }
    return WeightRecord(**{**values, **changes})


def published_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return build_backbone("sfcn", SHAPE, OPTIONS).state_dict()


def save_published(path: Path, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write the tiny SFCN as a publisher's checkpoint; returns its state."""
    state = {**published_state(), **changes}
    foreign = {f"module.{key}": value for key, value in state.items()}
    foreign["module.head.weight"] = torch.ones(1, 8)
    torch.save({"epoch": 1, "state_dict": foreign}, path)
    return state


MINE = record(
    conversion=Conversion(container=("state_dict",), strip="module.", unused=(r"head\..*",))
)


def test_every_rule_of_a_conversion_is_followed() -> None:
    inner = {
        "module.block0.conv.weight": torch.ones(2, 3),
        "module.block1.norm.num_batches_tracked": torch.tensor(5),
        "module.other": torch.ones(1),
        "module.head.bias": torch.ones(4),
    }
    state = convert_state(
        {"model": {"state_dict": inner, "epoch": 1}}, record(conversion=CONVERSION)
    )
    assert list(state) == ["blocks.0.conv.weight", "blocks.1.norm.num_batches_tracked", "other"]
    assert state["blocks.1.norm.num_batches_tracked"].dtype == torch.int64


def test_the_first_rule_that_matches_the_whole_key_renames() -> None:
    rename = ((r"a", "never"), (r"a(.)", r"first.\1"), (r"ab", "second"))
    assert list(
        convert_state(
            {"ab": torch.ones(1), "abc": torch.ones(1)},
            record(conversion=Conversion(rename=rename)),
        )
    ) == ["first.b", "abc"]


def test_tensors_become_float32_with_memory_of_their_own() -> None:
    base = torch.arange(6.0, dtype=torch.float64)
    document = {
        "half": torch.full((2,), 0.5, dtype=torch.float16),
        "brain": torch.full((2,), 0.5, dtype=torch.bfloat16),
        "double": base[:4],
        "turned": base.view(2, 3).T,
        "scalar": base[1],
        "whole": torch.arange(3, dtype=torch.int32),
        "flag": torch.tensor([True]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    state = convert_state(document, record())
    for key, value in document.items():
        kept = value.dtype if not value.is_floating_point() else torch.float32
        assert state[key].dtype == kept
        assert torch.equal(state[key].to(value.dtype), value)
        assert state[key].is_contiguous()
        assert not state[key].requires_grad
    storages = {value.untyped_storage().data_ptr() for value in state.values()}
    assert len(storages) == len(document)
    base.zero_()
    assert state["double"].any()


@pytest.mark.parametrize(
    ("document", "conversion", "message"),
    [
        ({"net": {}}, {"container": ("model",)}, "The checkpoint has no 'model'; there is: net."),
        (
            {"model": {"ema": {}}},
            {"container": ("model", "state_dict")},
            "model has no 'state_dict'; there is: ema.",
        ),
        ({"model": [1]}, {"container": ("model",)}, "model is a list instead of named tensors"),
        (
            {"module.a": torch.ones(1), "b": torch.ones(1)},
            {"strip": "module."},
            "do not begin with 'module.': b.",
        ),
        ({"a": torch.ones(1), "lr": 0.1}, {}, r"no plain tensor: lr \(float\)"),
        ({"a": torch.ones(2, 2).to_sparse()}, {}, r"no plain tensor: a \(Tensor\)"),
        (
            {"a.x": torch.ones(1), "b.x": torch.ones(1)},
            {"rename": ((r".\.x", "x"),)},
            "a.x and b.x of the checkpoint both become x",
        ),
        ({"a": torch.ones(1)}, {"steps": ("fuse-qvk",)}, "Did you mean 'fuse-qkv'"),
    ],
)
def test_a_checkpoint_unlike_its_record_is_refused(
    document: Any, conversion: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert_state(document, record(conversion=Conversion(**conversion)))


def test_what_is_not_taken_need_not_be_a_tensor() -> None:
    conversion = Conversion(unused=(r".*_extra_state",))
    document = {"a": torch.ones(1), "fc._extra_state": None}
    assert list(convert_state(document, record(conversion=conversion))) == ["a"]


def test_joined_attention_computes_the_same() -> None:
    torch.manual_seed(0)
    state = {f"blocks.0.attn.{name}.weight": torch.randn(4, 4) for name in "qkv"}
    state |= {f"blocks.0.attn.{name}.bias": torch.randn(4) for name in "qv"}
    fused = fuse_qkv({**state, "norm.weight": torch.ones(4)})
    assert set(fused) == {"norm.weight", "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias"}
    tokens = torch.randn(3, 4)
    qkv = F.linear(tokens, fused["blocks.0.attn.qkv.weight"], fused["blocks.0.attn.qkv.bias"])
    for name, found in zip("qkv", qkv.chunk(3, dim=-1), strict=True):
        wanted = F.linear(
            tokens, state[f"blocks.0.attn.{name}.weight"], state.get(f"blocks.0.attn.{name}.bias")
        )
        torch.testing.assert_close(found, wanted)


def test_biases_are_joined_beside_weights_that_are_one_already() -> None:
    state = {"qkv.weight": torch.ones(6, 2), "q.bias": torch.ones(2), "v.bias": torch.full((2,), 3)}
    assert fuse_qkv(state)["qkv.bias"].tolist() == [1, 1, 0, 0, 3, 3]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["x.q.weight", "x.v.weight"], "missing x.k.weight"),
        (["x.q.bias", "x.k.bias"], "missing x.v.bias"),
        (["q.weight", "k.weight", "v.weight", "qkv.weight"], "qkv.weight is there too"),
    ],
)
def test_half_an_attention_is_not_joined(keys: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fuse_qkv({key: torch.ones(2) for key in keys})


def test_a_converted_file_loads_and_tells_where_it_is_from(tmp_path: Path) -> None:
    source, out = tmp_path / "w.pth", tmp_path / "deep" / "w.safetensors"
    wanted = save_published(source)
    assert convert(source, MINE, out) == out
    found = read_tensors(out)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert read_facts(out) == {
        "record": "sfcn.tiny",
        "sha256": sha256_of(source),
        "braintune": __version__,
        "unused": "head.weight",
    }
    network = build_backbone("sfcn", SHAPE, OPTIONS)
    report = load_weights(network, WeightSet(out, MINE))
    assert report.unused == ("head.weight",)
    assert torch.equal(network.state_dict()["blocks.0.0.weight"], wanted["blocks.0.0.weight"])


def test_the_set_keeps_its_own_channels(tmp_path: Path) -> None:
    """A set of three channels is checked, and kept, as three; it is adapted when it is loaded."""
    rgb = record(
        channels=3,
        conversion=MINE.conversion,
        adaptation=Adaptation(first_layer="blocks.0.0.weight"),
    )
    save_published(tmp_path / "w.pth", **{"blocks.0.0.weight": torch.ones(4, 3, 3, 3, 3)})
    out = convert(tmp_path / "w.pth", rgb, tmp_path / "w.safetensors")
    assert read_tensors(out)["blocks.0.0.weight"].shape[1] == 3
    fitted, _ = fit_weights(build_backbone("sfcn", SHAPE, OPTIONS), WeightSet(out, rgb))
    assert fitted["blocks.0.0.weight"].unique().tolist() == [3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"channels": [4, 16]}}, r"blocks.1.0.weight is \[8, 4, 1, 1, 1\] instead of"),
        ({"options": {"channels": [4, 8, 8]}}, "missing blocks.2.0.weight"),
        ({"conversion": Conversion(container=("state_dict",), strip="module.")}, "unknown head"),
        ({"source": Source(sha256="0" * 64)}, f"sha256 should be {'0' * 64} and is [0-9a-f]{{64}}"),
        ({"source": Source(sha256="0" * 8)}, "should be 00000000 and is [0-9a-f]{8}"),
        ({"source": Source(size=7)}, "bytes instead of 7"),
    ],
)
def test_another_file_leaves_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save_published(tmp_path / "w.pth")
    other = MINE.model_copy(update=changes)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "w.pth", other, tmp_path / "out" / "w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def test_part_of_a_hash_is_enough(tmp_path: Path) -> None:
    save_published(tmp_path / "w.pth")
    known = Source(sha256=sha256_of(tmp_path / "w.pth")[:8])
    out = convert(
        tmp_path / "w.pth", MINE.model_copy(update={"source": known}), tmp_path / "w.safetensors"
    )
    assert out.is_file()


def test_the_published_file_is_not_replaced(tmp_path: Path) -> None:
    save_published(tmp_path / "w.pth")
    before = sha256_of(tmp_path / "w.pth")
    with pytest.raises(InputError, match="would replace"):
        convert(tmp_path / "w.pth", MINE, tmp_path / "x" / ".." / "w.pth")
    assert sha256_of(tmp_path / "w.pth") == before
    with pytest.raises(InputError, match="none.pth does not exist"):
        convert(tmp_path / "none.pth", MINE, tmp_path / "w.safetensors")


def test_cubes_from_rows_compute_what_the_linear_layer_did() -> None:
    from monai.networks.blocks.patchembedding import PatchEmbeddingBlock

    for channels, edge in ((1, 4), (2, 4), (3, 2)):
        theirs = PatchEmbeddingBlock(channels, (8, 12, 8), (edge,) * 3, 12, 3, "perceptron")
        state = {key: v for key, v in theirs.state_dict().items() if "patch_embeddings" in key}
        cubes = STEPS["cubes-from-rows"](state)
        assert sorted(cubes) == ["patch_embeddings.bias", "patch_embeddings.weight"]
        images = torch.randn(2, channels, 8, 12, 8)
        expected = theirs.patch_embeddings(images)
        kernel = cubes["patch_embeddings.weight"]
        assert kernel.shape == (12, channels, edge, edge, edge)
        tokens = torch.nn.functional.conv3d(
            images, kernel, cubes["patch_embeddings.bias"], stride=edge
        )
        assert torch.allclose(tokens.flatten(2).transpose(1, 2), expected, atol=1e-5)
