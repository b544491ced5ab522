"""Encoders against other implementations of the same networks, with the same weights."""

import re

import pytest
import torch
from torch import nn

from braintune.extras import import_extra
from braintune.models.encoders.encoder import EncoderChoice, SliceShape, build_encoder
from braintune.models.encoders.photograph_encoder import PhotographEncoder

State = dict[str, torch.Tensor]


def ours(name: str, edge: int, **options: object) -> PhotographEncoder:
    """An encoder whose weights are all random, so that none of them hides."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderChoice(name=name, **options), SliceShape(3, edge, edge))
    assert isinstance(encoder, PhotographEncoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return encoder.eval()


def timms(name: str, **sizes: object) -> nn.Module:
    timm = import_extra("timm", "encoders")
    return timm.create_model(name, pretrained=False, num_classes=0, **sizes).eval()


def agree(encoder: nn.Module, reference: nn.Module, edge: int) -> bool:
    images = torch.randn(2, 3, edge, edge)
    with torch.no_grad():
        expected = reference(images)
        return torch.allclose(encoder(images), expected, atol=1e-5 * float(expected.abs().max()))


def renamed(state: State, rules: dict[str, str]) -> State:
    """A state with the keys of another implementation."""
    for pattern, name in rules.items():
        state = {re.sub(pattern, name, key): value for key, value in state.items()}
    return state


def fused(state: State, block: str) -> torch.Tensor:
    """Queries, keys and values as one weight."""
    return torch.cat([state.pop(f"{block}.{part}_proj.weight") for part in "qkv"])


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_are_torchvisions_with_its_keys(name: str) -> None:
    encoder = ours(name, 80)
    for buffer in encoder.buffers():
        if buffer.is_floating_point():
            buffer += 0.5 * torch.rand_like(buffer)
    reference = getattr(import_extra("torchvision.models", "encoders"), name)().eval()
    reference.fc = nn.Identity()
    reference.load_state_dict(encoder.network.state_dict(), strict=True)
    assert agree(encoder, reference, 80)


def test_convnext_is_timms() -> None:
    widths, depths = [8, 16, 24, 32], [1, 1, 2, 1]
    encoder = ours("convnext-tiny", 80, widths=widths, depths=depths)
    rules = {
        r"^embeddings.patch_embeddings": "stem.0",
        r"^embeddings.layernorm": "stem.1",
        r"^encoder.": "",
        r"downsampling_layer": "downsample",
        r"layers": "blocks",
        r"layer_scale_parameter": "gamma",
        r"dwconv": "conv_dw",
        r"pwconv": "mlp.fc",
        r"^layernorm": "head.norm",
        r"layernorm": "norm",
    }
    reference = timms("convnext_tiny", dims=widths, depths=depths)
    reference.load_state_dict(renamed(encoder.network.state_dict(), rules))
    assert agree(encoder, reference, 80)


def test_dinov2_is_timms() -> None:
    # The size at which neither interpolates positions: there they differ on purpose.
    encoder = ours("dinov2-small", 518, width=24, depth=2, heads=3)
    rules = {
        r"^embeddings.cls_token": "cls_token",
        r"^embeddings.position_embeddings": "pos_embed",
        r"^embeddings.patch_embeddings.projection": "patch_embed.proj",
        r"^encoder.layer": "blocks",
        r"layer_scale(\d).lambda1": r"ls\1.gamma",
        r"attention.o_proj": "attn.proj",
        r"^layernorm": "norm",
    }
    state = renamed(encoder.network.state_dict(), rules)
    for number in range(2):
        block = f"blocks.{number}"
        state[f"{block}.attn.qkv.weight"] = fused(state, f"{block}.attention")
        biases = [state.pop(f"{block}.attention.{part}_proj.bias") for part in "qkv"]
        state[f"{block}.attn.qkv.bias"] = torch.cat(biases)
    reference = timms("vit_small_patch14_dinov2", embed_dim=24, depth=2, num_heads=3)
    reference.load_state_dict(state)
    assert agree(encoder, reference, 518)


def test_dinov3_is_timms() -> None:
    encoder = ours("dinov3-small", 80, width=24, depth=2, heads=3)
    rules = {
        r"^embeddings.cls_token": "cls_token",
        r"^embeddings.register_tokens": "reg_token",
        r"^embeddings.patch_embeddings": "patch_embed.proj",
        r"^model.layer": "blocks",
        r"layer_scale(\d).lambda1": r"gamma_\1",
        r"attention.o_proj": "attn.proj",
        r"attention.([qv])_proj.bias": r"attn.\1_bias",
        r"mlp.up_proj": "mlp.fc1",
        r"mlp.down_proj": "mlp.fc2",
    }
    state = renamed(encoder.network.state_dict(), rules)
    for number in range(2):
        block = f"blocks.{number}"
        state[f"{block}.attn.qkv.weight"] = fused(state, f"{block}.attention")
    # timm averages patches unless told to take the class token.
    sizes = {"embed_dim": 24, "depth": 2, "num_heads": 3, "global_pool": "token"}
    reference = timms("vit_small_patch16_dinov3_qkvb", **sizes)
    reference.load_state_dict(state)
    assert agree(encoder, reference, 80)


@pytest.mark.parametrize("name", ["dinov2-small", "dinov3-small"])
def test_transformers_answer_a_padded_slice_as_the_library_does(name: str) -> None:
    encoder = ours(name, 45, width=24, depth=2, heads=3)
    slices = torch.randn(2, 3, 45, 37)
    patch = {"dinov2-small": 14, "dinov3-small": 16}[name]
    height, width = (patch * -(-n // patch) for n in (45, 37))
    rows = (torch.arange(height) - (height - 45) // 2).clamp(0, 44)
    columns = (torch.arange(width) - (width - 37) // 2).clamp(0, 36)
    with torch.no_grad():
        library = encoder.network(pixel_values=slices[:, :, rows][:, :, :, columns])
        assert torch.allclose(encoder(slices), library.pooler_output, atol=1e-6)
