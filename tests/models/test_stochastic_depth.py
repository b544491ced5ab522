"""Whole branches of residual blocks are dropped in training, and in nothing else."""

import pytest
import torch
from torch import nn

from braintune.errors import InputError
from braintune.extras import make_torchvision_importable
from braintune.fitting.network import make_network, outline
from braintune.models.resnet import BasicBlock
from braintune.models.stochastic_depth import StochasticDepth, set_stochastic_depth
from braintune.tasks.task import make_task
from conftest import tiny_recipe
from models.test_backbones import tiny

# How many residual blocks the tiny networks have.
BLOCKS = {
    "resnet10": 4,
    "resnet18": 8,
    "resnet50": 16,
    "r3d18": 8,
    "vit": 2,
    "nit": 2,
    "videomae": 2,
    "mvit-v2-s": 3,
    "swin3d-t": 4,
    "swinunetr": 8,
}


def rates_of(network: nn.Module) -> list[float]:
    return [m.rate for m in network.modules() if isinstance(m, StochasticDepth)]


@pytest.mark.parametrize("name", BLOCKS)
def test_rates_rise_over_the_blocks_and_evaluation_stays(name: str) -> None:
    plain, dropping = tiny(name).eval(), tiny(name).eval()
    assert set_stochastic_depth(dropping, 0.5) == BLOCKS[name]
    rates = sorted(set(rates_of(dropping)))
    expected = [0.5 * n / (BLOCKS[name] - 1) for n in range(BLOCKS[name])]
    assert rates == pytest.approx(expected)
    assert rates_of(dropping) == sorted(rates_of(dropping))
    images = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        assert torch.equal(dropping(images), plain(images))
    assert dropping.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet10", "vit", "swin3d-t"])
def test_training_is_random_under_the_seed(name: str) -> None:
    network = tiny(name, (32, 32, 32))
    set_stochastic_depth(network, 0.7)
    drawn = []
    with torch.no_grad():
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(network.train()(torch.ones(6, 1, 32, 32, 32)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_dropped_branch_leaves_the_shortcut() -> None:
    block = BasicBlock(2, 2, 1, 1, None).train()
    block.stochastic_depth.rate = 0.5
    images = torch.rand(40, 2, 3, 3, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        outputs = block(images)
    left = [torch.equal(out, image) for out, image in zip(outputs, images, strict=True)]
    assert 8 < sum(left) < 32


def test_libraries_networks_have_it_too() -> None:
    make_torchvision_importable()
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(num_channels=1, hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 2, 1])
    network = ConvNextModel(config)
    keys = list(network.state_dict())
    assert set_stochastic_depth(network, 0.4) == 5
    assert rates_of(network) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert list(network.state_dict()) == keys


def test_a_recipe_sets_it_and_networks_without_blocks_refuse() -> None:
    recipe = tiny_recipe(
        task={"kind": "regression", "target": "age"},
        backbone={"name": "resnet10", "width": 4},
        train={"drop_path": 0.3},
    )
    task = make_task(recipe.task)
    assert rates_of(make_network(recipe, task)) == pytest.approx([0, 0.1, 0.2, 0.3])
    other = tiny_recipe(task={"kind": "regression", "target": "age"}, train={"drop_path": 0.3})
    with pytest.raises(InputError, match="train.drop_path drops branches"):
        outline(other, task)
    published = tiny("mvit-v2-s")
    assert max(rates_of(published)) == 0.2
    set_stochastic_depth(published, 0.0)
    assert max(rates_of(published)) == 0
