"""Networks with a decoder against MONAI's, and the U-Net against its published description."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import (
    BACKBONES,
    InputShape,
    MapBackbone,
    build_backbone,
    check_options,
)
from braintune.models.swinunetr import SwinUNETR, SwinUNETROptions

SHAPE = (32, 64, 32)
TINY: dict[str, dict[str, Any]] = {
    "segresnet": {"init_filters": 8, "blocks_down": [1, 2, 1], "blocks_up": [2, 1]},
    "swinunetr": {"feature_size": 12},
    "unet": {"channels": [2, 4, 6]},
    "unetr": {"width": 24, "heads": 3, "hidden": 32, "feature_size": 4},
}
NAMES = sorted(TINY)


def ours(name: str, channels: int = 2, shape: tuple[int, int, int] = SHAPE) -> MapBackbone:
    torch.manual_seed(0)
    network = build_backbone(name, InputShape(channels, shape), TINY[name])
    assert isinstance(network, MapBackbone)
    return network.eval()


@dataclass(frozen=True)
class Reference:
    """MONAI's network, its head, its features by its own parts, and what we leave out."""

    network: nn.Module
    head: str
    features: Callable[[torch.Tensor], torch.Tensor]
    idle: str = " "


def monais(name: str) -> Reference:
    torch.manual_seed(1)
    if name == "swinunetr":
        swin = nets.SwinUNETR(2, 3, feature_size=12)
        return Reference(
            swin, "out.conv.conv", lambda x: swin.encoder10(swin.swinViT(x)[-1]).mean((2, 3, 4))
        )
    if name == "unetr":
        unetr = nets.UNETR(2, 3, SHAPE, 4, 24, 32, 3)
        return Reference(
            unetr, "out.conv.conv", lambda x: unetr.vit(x)[0].mean(1), "norm_cross_attn"
        )
    segresnet = nets.SegResNet(
        init_filters=8, in_channels=2, blocks_down=(1, 2, 1), blocks_up=(2, 1), dropout_prob=0.2
    )
    return Reference(
        segresnet, "conv_final.2.conv", lambda x: segresnet.encode(x)[0].mean((2, 3, 4))
    )


@pytest.mark.parametrize("name", ["segresnet", "swinunetr", "unetr"])
def test_monais_weights_give_monais_maps_and_features(name: str) -> None:
    network, reference = ours(name), monais(name)
    reference.network.eval()
    # Every weight of MONAI's has its place under its own name, but for the head.
    ours_alone, monais_alone = network.load_state_dict(reference.network.state_dict(), strict=False)
    assert ours_alone == []
    assert all(key.startswith(reference.head) or reference.idle in key for key in monais_alone)
    images = torch.randn(2, 2, *SHAPE)
    with torch.no_grad():
        head = reference.network.get_submodule(reference.head)
        assert torch.allclose(head(network.maps(images)), reference.network(images), atol=1e-5)
        assert torch.allclose(network(images), reference.features(images), atol=1e-5)


def described_unet(weights: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """The maps of a 3D U-Net of three levels, in the words of the paper."""

    def level(x: torch.Tensor, name: str) -> torch.Tensor:
        for first in (0, 3):
            key = f"{name}.{first + 1}"
            x = F.conv3d(x, weights[f"{name}.{first}.weight"], padding=1)
            mean, variance = weights[f"{key}.running_mean"], weights[f"{key}.running_var"]
            x = (x - mean.view(-1, 1, 1, 1)) / (variance.view(-1, 1, 1, 1) + 1e-5).sqrt()
            scale, bias = weights[f"{key}.weight"], weights[f"{key}.bias"]
            x = F.relu(x * scale.view(-1, 1, 1, 1) + bias.view(-1, 1, 1, 1))
        return x

    fine = level(images, "encoder.0")
    middle = level(F.max_pool3d(fine, 2), "encoder.1")
    coarse = level(F.max_pool3d(middle, 2), "encoder.2")
    up = F.conv_transpose3d(coarse, weights["upsample.0.weight"], stride=2)
    middle = level(torch.cat([middle, up], 1), "decoder.0")
    up = F.conv_transpose3d(middle, weights["upsample.1.weight"], stride=2)
    return level(torch.cat([fine, up], 1), "decoder.1")


def test_unet_is_as_described() -> None:
    network = ours("unet")
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dim() == 1:  # norms, which are idle at the start
                value.uniform_(0.5, 1.5)
        images = torch.randn(2, 2, *SHAPE)
        expected = described_unet(network.state_dict(), images)
        assert torch.allclose(network.maps(images), expected, atol=1e-5)


def test_unet_takes_odd_sizes() -> None:
    network = ours("unet", shape=(9, 13, 11))
    maps = network.maps(torch.randn(1, 2, 9, 13, 11))
    assert maps.shape == (1, network.n_maps, 9, 13, 11)


def test_unet_norms_by_choice() -> None:
    images = torch.randn(2, 1, 8, 8, 8)
    images[1] *= 9
    for norm, mixes in (("batch", True), ("instance", False), ("group", False)):
        network = build_backbone(
            "unet", InputShape(1, (8, 8, 8)), {"channels": [4, 8], "norm": norm}
        )
        network.train()
        assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-5) != mixes


@pytest.mark.parametrize("name", NAMES)
def test_scans_do_not_mix_in_maps_and_layouts_do_not_matter(name: str) -> None:
    network, images = ours(name), torch.randn(2, 2, *SHAPE)
    with torch.no_grad():
        together = network.maps(images)
        alone = torch.cat([network.maps(image[None]) for image in images])
        last = network.to(memory_format=torch.channels_last_3d).maps(
            images.contiguous(memory_format=torch.channels_last_3d)
        )
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, last, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_maps_export(name: str) -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = ours(name)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network.maps(images)

    whole, images = Maps().eval(), torch.randn(1, 2, *SHAPE)
    exported = torch.export.export(whole, (images,)).module()
    with torch.no_grad():
        assert torch.allclose(exported(images), whole(images), atol=1e-5)


def test_swin_checkpointing_changes_memory_alone() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = SwinUNETR(SwinUNETROptions(feature_size=12, checkpointing=checkpointing), 1)
        network(torch.ones(1, 1, *SHAPE).cumsum(3)).square().sum().backward()
        gradients.append(
            [p.grad for key, p in network.named_parameters() if key.startswith("swinViT")]
        )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_swin_options_mean_what_monais_mean() -> None:
    network = SwinUNETR(
        SwinUNETROptions(
            feature_size=12,
            depths=(1, 2, 1, 1),
            dropout=0.1,
            attention_dropout=0.2,
            path_dropout=0.3,
        ),
        channels=1,
    )
    reference = nets.SwinUNETR(
        1,
        1,
        feature_size=12,
        depths=(1, 2, 1, 1),
        drop_rate=0.1,
        attn_drop_rate=0.2,
        dropout_path_rate=0.3,
    )

    def rates(module: nn.Module) -> list[tuple[str, float]]:
        found = []
        for key, part in module.named_modules():
            rate = getattr(part, "p", getattr(part, "drop_prob", None))
            if rate is not None:
                found.append((key, round(rate, 6)))
        return found

    assert rates(network) == rates(reference)
    assert len(rates(network)) == 1 + 5 * 3 + 4  # the first block is never skipped


def test_published_swin_has_36_linear_layers() -> None:
    with torch.device("meta"):
        network = build_backbone("swinunetr", BACKBONES.get("swinunetr").published, {})
    encoder = network.get_submodule("swinViT")
    assert sum(isinstance(module, nn.Linear) for module in encoder.modules()) == 36
    assert sum(p.numel() for p in encoder.parameters()) == 8_062_002


def test_mistakes() -> None:
    with pytest.raises(InputError, match=r"multiples of 32.*\[96, 96, 64\]"):
        build_backbone("swinunetr", InputShape(1, (91, 109, 70)), {})
    with pytest.raises(InputError, match="at least 64 voxels along one axis"):
        build_backbone("swinunetr", InputShape(1, (32, 32, 32)), {})
    with pytest.raises(InputError, match="stage 1: width 10 must be a multiple of heads 3"):
        check_options("swinunetr", {"feature_size": 10})
    with pytest.raises(InputError, match="multiples of 16"):
        build_backbone("unetr", InputShape(1, (24, 32, 32)), {})
    with pytest.raises(InputError, match="width 10 must be a multiple of heads 12"):
        check_options("unetr", {"width": 10})
    with pytest.raises(InputError, match="blocks_up needs 3 levels"):
        check_options("segresnet", {"blocks_up": [1, 1]})
    with pytest.raises(InputError, match="multiples of 8"):
        build_backbone("segresnet", InputShape(1, (30, 32, 32)), {})
    with pytest.raises(InputError, match="at least 8 voxels"):
        build_backbone("unet", InputShape(1, (6, 32, 32)), {})


def test_monai_is_imported_only_to_build() -> None:
    code = (
        "import sys; from braintune.models.backbone import BACKBONES;"
        "assert 'swinunetr' in BACKBONES.names(); print('monai' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
