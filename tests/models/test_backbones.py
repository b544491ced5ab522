"""Every backbone of the registry keeps the contract; a new one is tested for free."""

import pytest
import torch

from braintune.errors import InputError
from braintune.models.backbone import BACKBONES, InputShape, build_backbone, check_options

TINY = {
    "resnet10": {"width": 4},
    "resnet18": {"width": 4},
    "resnet50": {"width": 4},
    "sfcn": {"channels": [4, 8, 8]},
    "vit": {"patch": 8, "width": 24, "depth": 2, "heads": 3, "hidden": 32},
}
PARAMETERS = {
    "resnet10": 14_355_520,
    "resnet18": 32_986_176,
    "resnet50": 46_155_072,
    "sfcn": 2_950_336,
    "vit": 88_369_920,
}
NAMES = BACKBONES.names()


def tiny(name: str, shape: tuple[int, int, int] = (32, 40, 32), channels: int = 1):
    torch.manual_seed(0)
    return build_backbone(name, InputShape(channels, shape), TINY.get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_images_become_features_and_every_parameter_learns(name: str) -> None:
    backbone = tiny(name)
    features = backbone(torch.randn(2, 1, 32, 40, 32))
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
        backbone = tiny(name, (40, 32, 48), channels=3)
        assert backbone(torch.randn(1, 3, 40, 32, 48)).shape[1] == backbone.n_features
    else:
        assert backbone(torch.randn(1, 3, 33, 35, 39)).shape[1] == backbone.n_features


@pytest.mark.parametrize("name", NAMES)
def test_scans_of_a_batch_do_not_mix_in_evaluation(name: str) -> None:
    backbone = tiny(name).eval()
    images = torch.randn(3, 1, 32, 40, 32)
    with torch.no_grad():
        together = backbone(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_precision_and_memory_format_change_little(name: str) -> None:
    backbone = tiny(name).eval()
    images = torch.randn(2, 1, 32, 40, 32)
    with torch.no_grad():
        expected = backbone(images)
        last = backbone.to(memory_format=torch.channels_last_3d)(
            images.contiguous(memory_format=torch.channels_last_3d)
        )
        with torch.autocast("cpu", torch.bfloat16):
            rough = backbone(images).float()
    assert torch.allclose(expected, last, atol=1e-4)
    assert torch.nn.functional.cosine_similarity(expected, rough).min() > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    first, second = tiny(name).state_dict(), tiny(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_it_exports(name: str) -> None:
    backbone = tiny(name).eval()
    images = torch.randn(1, 1, 32, 40, 32)
    exported = torch.export.export(backbone, (images,)).module()
    with torch.no_grad():
        assert torch.allclose(exported(images), backbone(images), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes(name: str) -> None:
    entry = BACKBONES.get(name)
    assert entry.summary
    assert entry.family
    with torch.device("meta"):
        network = entry.build(entry.options(), entry.published)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


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
