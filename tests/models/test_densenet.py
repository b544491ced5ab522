"""DenseNet-121 in 3D against MONAI's, and its names against torchvision's."""

import re

import pytest
import torch
from monai.networks import nets

from braintune.errors import InputError
from braintune.extras import make_torchvision_importable
from braintune.models.backbone import BACKBONES, InputShape, build_backbone


def test_monais_weights_give_monais_features() -> None:
    torch.manual_seed(0)
    options = {"growth": 4, "blocks": [2, 3, 2]}
    network = build_backbone("densenet121", InputShape(2, (40, 33, 35)), options).eval()
    reference = nets.DenseNet(3, 2, 5, init_features=8, growth_rate=4, block_config=(2, 3, 2))
    reference.eval()
    ours_alone, monais_alone = network.load_state_dict(reference.state_dict(), strict=False)
    assert ours_alone == []
    assert monais_alone == ["class_layers.out.weight", "class_layers.out.bias"]
    images = torch.randn(2, 2, 40, 33, 35)
    with torch.no_grad():
        features = network(images)
        assert features.min() >= 0
        head = reference.get_submodule("class_layers.out")
        assert torch.allclose(head(features), reference(images), atol=1e-5)


def test_torchvisions_names_need_one_rule() -> None:
    make_torchvision_importable()
    from torchvision.models import densenet121

    with torch.device("meta"):
        network = build_backbone("densenet121", BACKBONES.get("densenet121").published, {})
        flat = densenet121().state_dict()
    renamed = {
        re.sub(r"(denselayer\d+)\.(norm|conv)", r"\1.layers.\2", key): value
        for key, value in flat.items()
        if not key.startswith("classifier.")
    }
    deep = network.state_dict()
    assert sorted(renamed) == sorted(deep)
    for key, value in deep.items():
        channels = value.shape[:2] if "conv0" not in key else value.shape[:1]
        assert renamed[key].shape[: len(channels)] == channels, key
        assert value.dim() == renamed[key].dim() + (value.dim() == 5), key


@pytest.mark.parametrize("edge", [29, 32])
def test_the_smallest_images(edge: int) -> None:
    options = {"growth": 2, "blocks": [1, 1, 1, 1]}
    network = build_backbone("densenet121", InputShape(1, (edge, edge, edge)), options).eval()
    assert network(torch.randn(1, 1, edge, edge, edge)).isfinite().all()
    with pytest.raises(InputError, match="at least 29 voxels"):
        build_backbone("densenet121", InputShape(1, (28, 32, 32)), options)
