"""Every encoder of 2D slices keeps the contract; a new one is tested for free."""

from typing import Any

import pytest
import torch

from braintune.errors import InputError
from braintune.fitting.precision import Precision
from braintune.models.encoders.encoder import (
    ENCODERS,
    EncoderChoice,
    SliceEncoder,
    SliceShape,
    build_encoder,
)
from braintune.models.encoders.photograph_encoder import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    whole_patches,
)

_TINY_DINO: dict[str, Any] = {"width": 24, "depth": 2, "heads": 3}
TINY: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [4, 8, 8]},
    "convnext-tiny": {"widths": [4, 8, 8, 12], "depths": [1, 1, 2, 1]},
    "dinov2-base": _TINY_DINO,
    "dinov2-small": _TINY_DINO,
    "dinov3-base": _TINY_DINO,
    "dinov3-small": _TINY_DINO,
    "resnet18": {"width": 8},
    "resnet34": {"width": 8},
    "resnet50": {"width": 8},
    "timm": {"model": "test_resnet"},
    "transformers": {
        "model_type": "vit",
        "config": {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 32,
            "image_size": [48, 40],
            "patch_size": 8,
        },
    },
}
# Of the published form; those of the DINO transformers lack the token of masked pre-training.
PARAMETERS = {
    "cnn": 994_368,
    "convnext-tiny": 27_820_128,
    "dinov2-base": 86_580_480 - 768,
    "dinov2-small": 22_056_576 - 384,
    "dinov3-base": 85_660_416 - 768,
    "dinov3-small": 21_596_544 - 384,
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
}
NAMES = ENCODERS.names()


def tiny(name: str, given: SliceShape | None = None) -> SliceEncoder:
    """A small network of the same build."""
    torch.manual_seed(0)
    choice = EncoderChoice(name=name, **TINY.get(name, {}))
    return build_encoder(choice, given or SliceShape(1, 48, 40))


@pytest.mark.parametrize("name", NAMES)
def test_slices_become_features_and_every_parameter_learns(name: str) -> None:
    encoder = tiny(name)
    features = encoder(torch.randn(3, 1, 48, 40))
    assert features.shape == (3, encoder.n_features)
    (features * torch.randn_like(features)).sum().backward()
    assert [key for key, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_slices_do_not_mix_and_layout_and_precision_change_little(name: str) -> None:
    encoder = tiny(name).eval()
    slices = torch.randn(3, 1, 48, 40)
    with torch.no_grad():
        together = encoder(slices)
        alone = torch.cat([encoder(one[None]) for one in slices])
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(slices).float()
        Precision("fp32", channels_last=True).arrange_kernels(encoder)
        last = encoder(slices)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, last, atol=1e-4)
    assert torch.nn.functional.cosine_similarity(together, rough).min() > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_stages_part_the_parameters(name: str) -> None:
    encoder = tiny(name)
    keys = [key for key, _ in encoder.named_parameters()]
    parted = [
        key
        for stage in encoder.stages()
        for key in keys
        if key in stage or key.startswith(tuple(f"{part}." for part in stage))
    ]
    assert sorted(parted) == sorted(keys)
    assert len(encoder.stages()) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights_and_it_exports(name: str) -> None:
    encoder, twin = tiny(name).eval(), tiny(name)
    state = twin.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    slices = torch.randn(2, 1, 48, 40)
    exported = torch.export.export(encoder, (slices,)).module()
    with torch.no_grad():
        assert torch.allclose(exported(slices), encoder(slices), atol=1e-5)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderChoice(name=name), SliceShape(1, 96, 80))
        slices = torch.empty(2, 1, 96, 80)
    assert sum(p.numel() for p in encoder.parameters()) == PARAMETERS[name]
    assert encoder.eval()(slices).shape == (2, encoder.n_features)


PHOTOGRAPHIC = [name for name in NAMES if name != "cnn"]


@pytest.mark.parametrize("name", PHOTOGRAPHIC)
def test_a_grey_slice_is_the_same_slice_in_three_channels(name: str) -> None:
    grey, colour = tiny(name).eval(), tiny(name, SliceShape(3, 48, 40)).eval()
    slices = torch.randn(2, 1, 48, 40)
    with torch.no_grad():
        assert torch.allclose(grey(slices), colour(slices.repeat(1, 3, 1, 1)), atol=1e-6)
    other = tiny(name, SliceShape(2, 48, 40))
    assert other(torch.randn(2, 2, 48, 40)).shape == (2, other.n_features)


def test_colours_are_normalised_as_imagenets() -> None:
    plain = tiny("resnet18").eval()
    torch.manual_seed(0)
    choice = EncoderChoice(name="resnet18", width=8, normalise="imagenet")
    normalised = build_encoder(choice, SliceShape(1, 48, 40)).eval()
    slices = torch.rand(2, 1, 48, 40)
    by_hand = [(slices - m) / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    with torch.no_grad():
        expected = plain(torch.cat(by_hand, dim=1))
        assert torch.allclose(normalised(slices), expected, atol=1e-6)
    two = build_encoder(choice, SliceShape(2, 48, 40))
    with pytest.raises(InputError, match="1 or 3 image channels, not 2"):
        two(torch.rand(1, 2, 48, 40))


def test_slices_are_enlarged_to_whole_patches_around_them() -> None:
    images = torch.randn(1, 2, 30, 14)
    whole = whole_patches(images, 14)
    assert whole.shape == (1, 2, 42, 14)
    assert torch.equal(whole[:, :, 6:36], images)
    assert torch.equal(whole[:, :, 0], images[:, :, 0])
    assert torch.equal(whole[:, :, -1], images[:, :, -1])
    assert whole_patches(whole, 14) is whole


@pytest.mark.parametrize("name", ["dinov2-small", "dinov3-small"])
def test_transformers_see_the_whole_of_any_slice(name: str) -> None:
    encoder = tiny(name, SliceShape(1, 45, 37)).eval()
    slices = torch.randn(1, 1, 45, 37)
    corner = slices.clone()
    corner[..., -1, -1] += 5
    with torch.no_grad():
        assert not torch.allclose(encoder(slices), encoder(corner))


def test_mistakes_name_the_nearest() -> None:
    given = SliceShape(1, 48, 40)
    mistakes = {
        "resnet19": ({}, r"Unknown encoder 'resnet19'. Did you mean 'resnet18'\?"),
        "resnet18": ({"widht": 2}, r"'backbone.encoder.widht'. Did you mean 'width'\?"),
        "cnn": ({}, "cnn needs slices of at least 64 × 64 pixels, not 48 × 40"),
        "dinov2-small": ({"heads": 5}, "multiple of four times the heads 5"),
        "timm": ({"model": "resnet19"}, r"'resnet19' is unknown. Did you mean 'resnet\w+'\?"),
        "transformers": ({"model_type": "swim"}, r"Did you mean 'swin'\?"),
    }
    for name, (options, message) in mistakes.items():
        with pytest.raises(InputError, match=message):
            build_encoder(EncoderChoice(name=name, **options), given)


def test_networks_of_a_library_that_do_not_suit_say_why() -> None:
    given = SliceShape(1, 48, 40)
    vit = {"model": "test_vit"}
    with pytest.raises(InputError, match="can't take slices of 48 × 40.*dynamic_img_size"):
        build_encoder(EncoderChoice(name="timm", **vit), given)
    remedy = {"arguments": {"dynamic_img_size": True, "dynamic_img_pad": True}}
    assert build_encoder(EncoderChoice(name="timm", **vit, **remedy), given).n_features == 64
    with pytest.raises(InputError, match="could not be built"):
        build_encoder(EncoderChoice(name="timm", **vit, arguments={"colour": 1}), given)
    with pytest.raises(InputError, match="takes input_ids and not images alone"):
        build_encoder(EncoderChoice(name="transformers", model_type="clip"), given)
    square = {**TINY["transformers"]["config"], "image_size": 32}
    with pytest.raises(InputError, match=r"can't take slices of 48 × 40.*image_size"):
        build_encoder(EncoderChoice(name="transformers", model_type="vit", config=square), given)
    # A hub's name would be looked up in the network.
    with pytest.raises(InputError, match="is unknown"):
        build_encoder(EncoderChoice(name="timm", model="hf-hub:timm/resnet18"), given)
    with pytest.raises(InputError, match="no known network of images"):
        build_encoder(EncoderChoice(name="transformers", model_type="timm_backbone"), given)


@pytest.mark.parametrize("name", ["convnext-tiny", "dinov2-small", "dinov3-small", "timm"])
def test_a_missing_library_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("braintune.extras.find_spec", lambda _library: None)
    with pytest.raises(InputError, match=r"pip install 'braintune\[encoders\]'"):
        tiny(name)
