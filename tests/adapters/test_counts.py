"""Adapters cost what the papers say, to the last parameter."""

import pytest
import torch
from torch import nn

from braintune.adapters.adapter import adapt
from braintune.adapters.counting import audit_parameters
from braintune.models.backbone import Backbone, InputShape, build_backbone


def fmcib(options: dict[str, object]) -> tuple[Backbone, list[str]]:
    """FMCIB with LoRA, without memory, and the names of what was adapted."""
    with torch.device("meta"):
        network = build_backbone("fmcib", InputShape(1, (50, 50, 50)), {})
        return network, adapt(network, "lora", options)


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16])
def test_lora_on_all_convolutions_of_fmcib(rank: int) -> None:
    network, names = fmcib({"rank": rank})
    assert len(names) == 53
    assert all(isinstance(network.get_submodule(name).base, nn.Conv3d) for name in names)
    assert audit_parameters(network).trainable == 294_871 * rank


def test_the_first_paper() -> None:
    """Kao et al. 2025: 1.64 M train with the head, over 113 times fewer than in full tuning."""
    network, _ = fmcib({"rank": 2})
    with torch.device("meta"):
        head = nn.Sequential(nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, 2))
    audit = audit_parameters(network, head)
    assert audit.trainable_parts == {"backbone": 0, "adapter": 589_742, "head": 1_049_346}
    assert audit.trainable == 1_639_088
    full = audit.parts["backbone"] + audit.parts["head"]
    assert full == 185_527_170
    assert round(full / audit.trainable, 1) == 113.2


@pytest.mark.parametrize("rank", [1, 2])
def test_lora_on_the_wide_kernels_of_fmcib_alone(rank: int) -> None:
    """The second convolution of each bottleneck is the one of 3×3×3."""
    network, names = fmcib({"rank": rank, "layers": "conv2$"})
    assert len(names) == 16
    kernels = {network.get_submodule(name).base.kernel_size for name in names}
    assert kernels == {(3, 3, 3)}
    assert audit_parameters(network).trainable == 211_456 * rank
