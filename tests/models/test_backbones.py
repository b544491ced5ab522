"""Every backbone of the registry keeps the contract; a new one is tested for free."""

import pytest
import torch

from braintune.errors import InputError
from braintune.fitting.precision import Precision
from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    InputShape,
    MapBackbone,
    build_backbone,
    check_options,
)

_TINY_VIT = {"patch": 8, "width": 24, "depth": 2, "heads": 3, "hidden": 32}
TINY = {
    "anatcl": {"width": 4},
    "brainiac": _TINY_VIT,
    "brainiac-resnet50": {"width": 4},
    "densenet121": {"growth": 4, "blocks": [2, 2, 2]},
    "fmcib": {"width": 4},
    "mc3-18": {"width": 4},
    "mvit-v2-s": {"width": 8, "depths": [1, 1, 1]},
    "nit": _TINY_VIT,
    "nit-many-heads": _TINY_VIT,
    "r2plus1d18": {"width": 4},
    "r3d18": {"width": 4},
    "resnet10": {"width": 4},
    "resnet18": {"width": 4},
    "resnet34": {"width": 4},
    "resnet50": {"width": 4},
    "resnet101": {"width": 2},
    "segresnet": {"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "sfcn": {"channels": [4, 8, 8]},
    "slice-cnn3d": {"channels": [4, 8, 8]},
    "slice-lstm": {"channels": [4, 8, 8]},
    "slice-set": {"encoder": {"name": "cnn", "channels": [4, 8, 8]}},
    # torch 2.13 corrupts memory in strided 1 × 1 kernels of fewer than 8 channels without AVX-512.
    "slice-set-resnet18": {"encoder": {"name": "resnet18", "width": 8}},
    "swin3d-t": {"width": 8, "depths": [2, 2], "heads": [2, 4], "window": [4, 3, 3]},
    "swinunetr": {"feature_size": 12},
    "unet": {"channels": [4, 8, 8]},
    "unetr": {"width": 24, "heads": 3, "hidden": 32, "feature_size": 4},
    "videomae": _TINY_VIT,
    "vit": _TINY_VIT,
}
# Those with a decoder.
MAPPERS = frozenset({"segresnet", "swinunetr", "unet", "unetr"})
NAMES = BACKBONES.names()


def tiny(name: str, shape: tuple[int, int, int] = (32, 64, 32), channels: int = 1) -> Backbone:
    """A small network, as tasks of one value a scan take it."""
    torch.manual_seed(0)
    backbone = build_backbone(name, InputShape(channels, shape), TINY.get(name, {}))
    if isinstance(backbone, MapBackbone):
        backbone.drop_decoder()
    return backbone


def close(first: torch.Tensor, second: torch.Tensor, tolerance: float = 1e-5) -> bool:
    """Whether outputs agree, on the scale that an untrained network gives them."""
    return bool((first - second).abs().max() <= tolerance * max(1.0, float(second.abs().max())))


@pytest.mark.parametrize("name", NAMES)
def test_images_become_features_and_every_parameter_learns(name: str) -> None:
    backbone = tiny(name)
    features = backbone(torch.randn(2, 1, 32, 64, 32))
    assert features.shape == (2, backbone.n_features)
    (features * torch.randn_like(features)).sum().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", NAMES)
def test_other_channels_and_odd_sizes(name: str) -> None:
    try:
        backbone = tiny(name, (33, 35, 39), channels=3)
    except InputError as error:
        assert "multiples of" in str(error)
        backbone = tiny(name, (64, 32, 96), channels=3)
        assert backbone(torch.randn(1, 3, 64, 32, 96)).shape[1] == backbone.n_features
    else:
        assert backbone(torch.randn(1, 3, 33, 35, 39)).shape[1] == backbone.n_features


@pytest.mark.parametrize("name", NAMES)
def test_scans_of_a_batch_do_not_mix_in_evaluation(name: str) -> None:
    backbone = tiny(name).eval()
    images = torch.randn(3, 1, 32, 64, 32)
    with torch.no_grad():
        together = backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    # Mixing changes far more; a norm over the few voxels of a coarse map makes much of rounding.
    assert close(together, alone, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_precision_and_memory_format_change_little(name: str) -> None:
    backbone = tiny(name).eval()
    images = torch.randn(2, 1, 32, 64, 32)
    with torch.no_grad():
        expected = backbone(images)
        layout = Precision("fp32", channels_last=True)
        layout.arrange_kernels(backbone)
        last = backbone(layout.arrange(images))
        with torch.autocast("cpu", torch.bfloat16):
            rough = backbone(images).float()
    assert close(expected, last, 1e-4)
    assert torch.nn.functional.cosine_similarity(expected, rough).min() > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second = tiny(name).state_dict(), tiny(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_it_exports(name: str) -> None:
    backbone = tiny(name).eval()
    images = torch.randn(1, 1, 32, 64, 32)
    exported = torch.export.export(backbone, (images,)).module()
    with torch.no_grad():
        assert close(exported(images), backbone(images))


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes(name: str) -> None:
    entry = BACKBONES.get(name)
    assert entry.summary
    assert entry.family
    with torch.device("meta"):
        network = entry.build(entry.options(), entry.published)
        head = entry.head(network) if entry.head else None
    count = sum(p.numel() for p in network.parameters())
    count += sum(p.numel() for p in head.parameters()) if head else 0
    assert count == entry.parameters
    assert isinstance(network, MapBackbone) == (name in MAPPERS)


@pytest.mark.parametrize("name", NAMES)
def test_layer_groups_part_the_parameters_from_input_to_output(name: str) -> None:
    backbone = tiny(name)
    groups = backbone.layer_groups()
    names = [key for group in groups for key in group]
    assert sorted(names) == sorted(key for key, _ in backbone.named_parameters())
    assert len(groups) >= 3
    # A change of the first group's parameters reaches the features; one of images does too.
    first = dict(backbone.named_parameters())[groups[0][0]]
    images = torch.randn(1, 1, 32, 64, 32)
    backbone.eval()
    with torch.no_grad():
        before = backbone(images)
        first += 0.1 * torch.randn_like(first)
        assert not torch.equal(backbone(images), before)


@pytest.mark.parametrize("name", sorted(MAPPERS))
def test_maps_are_as_fine_as_the_images_and_their_decoder_can_be_dropped(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, InputShape(1, (32, 64, 32)), TINY[name])
    assert isinstance(backbone, MapBackbone)
    images = torch.randn(2, 1, 32, 64, 32)
    maps = backbone.maps(images)
    assert maps.shape == (2, backbone.n_maps, 32, 64, 32)
    (maps * torch.randn_like(maps)).sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    groups = [key for group in backbone.layer_groups() for key in group]
    assert sorted(groups) == sorted(key for key, _ in backbone.named_parameters())
    backbone.eval()
    before, count = backbone(images), len(groups)
    backbone.drop_decoder()
    assert torch.equal(backbone(images), before)
    assert len(list(backbone.parameters())) < count


@pytest.mark.parametrize(("edge", "count"), [(80, 88_300_032), (96, 88_369_920), (128, 88_597_248)])
def test_vit_b16_at_the_sizes_of_the_papers(edge: int, count: int) -> None:
    with torch.device("meta"):
        network = build_backbone("vit", InputShape(1, (edge, edge, edge)), {})
    assert sum(p.numel() for p in network.parameters()) == count


def test_mistakes_name_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Unknown backbone 'resnet19'. Did you mean 'resnet18'\?"):
        build_backbone("resnet19", InputShape(1, (32, 32, 32)), {})
    with pytest.raises(InputError, match=r"'backbone.widht'. Did you mean 'width'\?"):
        check_options("resnet18", {"widht": 3})
    with pytest.raises(InputError, match="multiples of 16"):
        build_backbone("vit", InputShape(1, (30, 32, 32)), {})
    with pytest.raises(InputError, match="multiple of heads"):
        check_options("vit", {"width": 10, "heads": 3})
    with pytest.raises(InputError, match="at least 16 voxels"):
        build_backbone("resnet10", InputShape(1, (8, 32, 32)), {})


SEQUENCES = [name for name in sorted(TINY) if tiny(name).steps()]


def test_stages_are_a_sequence_where_nothing_else_passes_between_them() -> None:
    others = set(TINY) - set(SEQUENCES)
    assert others == {
        *(name for name in TINY if name.startswith("slice-")),
        *("mvit-v2-s", "swinunetr", "unetr", "segresnet", "unet"),
    }


@pytest.mark.parametrize("name", SEQUENCES)
def test_each_step_uses_its_stage_and_nothing_else(name: str) -> None:
    backbone = tiny(name).eval()
    steps, stages = backbone.steps(), backbone.stages()
    assert len(steps) == len(stages)
    x = torch.randn(2, 1, 32, 64, 32)
    expected = backbone(x)
    for step, stage in zip(steps, stages, strict=True):
        backbone.requires_grad_(False)
        for key, parameter in backbone.named_parameters():
            parameter.requires_grad_(f"{key}.".startswith(tuple(f"{part}." for part in stage)))
        own = [p for p in backbone.parameters() if p.requires_grad]
        x = step(x.detach())
        # Every parameter of the stage counts, and with the others frozen no gradient is missed.
        gradients = torch.autograd.grad(x.square().sum(), own, allow_unused=True)
        assert not [g for g in gradients if g is None]
    assert torch.equal(x, expected)
