"""The vision transformers against MONAI's and against the published descriptions."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets

from braintune.models.backbone import InputShape, build_backbone
from braintune.models.vit import ViT

SHAPE = (16, 24, 32)
SIZES = {"patch": 8, "width": 24, "depth": 3, "heads": 4, "hidden": 40}
IMAGES = InputShape(1, SHAPE)


def network(name: str, **options: object) -> ViT:
    torch.manual_seed(3)
    backbone = build_backbone(name, IMAGES, {**SIZES, **options})
    assert isinstance(backbone, ViT)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return backbone.eval()


def monais(state: dict[str, torch.Tensor], class_token: bool, qkv_bias: bool) -> nets.ViT:
    """MONAI's transformer with our weights: queries, keys and values lie in the same order."""
    reference = nets.ViT(
        1,
        SHAPE,
        (8, 8, 8),
        hidden_size=24,
        mlp_dim=40,
        num_layers=3,
        num_heads=4,
        proj_type="conv",
        classification=class_token,
        qkv_bias=qkv_bias,
    )
    renamed = {}
    for key, value in state.items():
        key = key.replace("patch_embed", "patch_embedding.patch_embeddings")
        key = key.replace("attn.proj", "attn.out_proj")
        key = key.replace("fc1", "mlp.linear1").replace("fc2", "mlp.linear2")
        renamed[key] = value
    positions = renamed.pop("pos_embed")
    if class_token:
        # MONAI gives the class token no position: its own token takes the sum of both.
        renamed["cls_token"] = renamed["cls_token"] + positions[:, :1]
        positions = positions[:, 1:]
    renamed["patch_embedding.position_embeddings"] = positions
    missing, unexpected = reference.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all("norm_cross_attn" in key or "classification_head" in key for key in missing)
    return reference.eval()


@pytest.mark.parametrize(
    ("name", "class_token", "bias"), [("vit", True, True), ("brainiac", False, False)]
)
def test_vit_and_brainiac_are_monais_network(name: str, class_token: bool, bias: bool) -> None:
    backbone = network(name)
    reference = monais(backbone.state_dict(), class_token, bias)
    for module in [*backbone.modules(), *reference.modules()]:
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    images = torch.randn(2, 1, *SHAPE)
    with torch.no_grad():
        features = backbone(images)
        reference.classification = False
        if class_token:
            embedded = reference.patch_embedding(images)
            tokens = torch.cat([reference.cls_token.expand(2, -1, -1), embedded], dim=1)
            for block in reference.blocks:
                tokens = block(tokens)
            expected = reference.norm(tokens)[:, 0]
        else:
            expected = reference(images)[0][:, 0]
    assert torch.allclose(features, expected, atol=1e-5)


def neuroimage_transformer(
    state: dict[str, torch.Tensor], images: torch.Tensor, heads: int
) -> torch.Tensor:
    """The network of the Neuroimage Transformer, step by step and scan by scan.

    Blocks of 8³ voxels are flattened and projected; a class token goes first; learned positions are
    added; each layer is norm, attention without biases of queries, keys and values, shortcut, norm,
    perceptron with GELU, shortcut; the class token's norm is what the head gets.
    """
    features = []
    for scan in images:
        tokens = [state["cls_token"][0, 0]]
        kernel = state["patch_embed.weight"].flatten(1)
        for x in range(0, scan.shape[1], 8):
            for y in range(0, scan.shape[2], 8):
                for z in range(0, scan.shape[3], 8):
                    cube = scan[:, x : x + 8, y : y + 8, z : z + 8].reshape(-1)
                    tokens.append(kernel @ cube + state["patch_embed.bias"])
        hidden = torch.stack(tokens) + state["pos_embed"][0]
        for number in range(3):
            hidden = layer(state, f"blocks.{number}", hidden, heads)
        features.append(F.layer_norm(hidden[0], [24], state["norm.weight"], state["norm.bias"]))
    return torch.stack(features)


def layer(
    state: dict[str, torch.Tensor], key: str, hidden: torch.Tensor, heads: int
) -> torch.Tensor:
    def normed(which: str) -> torch.Tensor:
        return F.layer_norm(
            hidden, [24], state[f"{key}.{which}.weight"], state[f"{key}.{which}.bias"]
        )

    queries, keys, values = (normed("norm1") @ state[f"{key}.attn.qkv.weight"].T).chunk(3, dim=-1)
    size = 24 // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = queries[:, part] @ keys[:, part].T / size**0.5
        mixed.append(scores.softmax(dim=-1) @ values[:, part])
    projected = torch.cat(mixed, dim=-1) @ state[f"{key}.attn.proj.weight"].T
    hidden = hidden + projected + state[f"{key}.attn.proj.bias"]
    inner = F.gelu(normed("norm2") @ state[f"{key}.fc1.weight"].T + state[f"{key}.fc1.bias"])
    return hidden + inner @ state[f"{key}.fc2.weight"].T + state[f"{key}.fc2.bias"]


@pytest.mark.parametrize(("name", "heads"), [("nit", 4), ("nit-many-heads", 8)])
def test_nit_is_the_published_description(name: str, heads: int) -> None:
    backbone = network(name, heads=heads)
    images = torch.randn(2, 1, *SHAPE)
    with torch.no_grad():
        expected = neuroimage_transformer(backbone.state_dict(), images, heads)
        assert torch.allclose(backbone(images), expected, atol=1e-5)


def test_nit_starts_as_published() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("nit", InputShape(1, (64, 64, 64)), {})
    assert isinstance(backbone, ViT)
    assert abs(float(backbone.pos_embed.detach().std()) - 1) < 0.02
    assert abs(float(backbone.cls_token.detach().std()) - 1) < 0.2
    assert not any(key.endswith("qkv.bias") for key in backbone.state_dict())
