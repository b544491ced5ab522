"""A network is a backbone and a head, which can be changed for another task."""

import pytest
import torch

from braintune.fitting.network import Network, make_network
from braintune.models.backbone import BACKBONES
from braintune.recipe import TaskRecipe
from braintune.tasks.task import make_task
from conftest import tiny_recipe
from models.test_backbones import tiny


@pytest.mark.parametrize("name", BACKBONES.names())
def test_a_new_head_leaves_any_backbone_as_it_is(name: str) -> None:
    backbone = tiny(name)
    two = make_task(TaskRecipe(kind="classification", target="dx", classes=2))
    network = Network(backbone, two.head(backbone.n_features)).eval()
    images = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        features = backbone(images)
        assert network(images).shape == (1, 2)
        network.reset_head(make_task(TaskRecipe(kind="regression", target="age")))
        assert network(images).shape == (1, 1)
        assert torch.equal(network.backbone(images), features)


def test_a_network_with_a_decoder_is_fitted_without_it() -> None:
    recipe = tiny_recipe(backbone={"name": "unet", "channels": [4, 8, 8]}, adapter={"name": "full"})
    network = make_network(recipe, make_task(TaskRecipe(kind="regression", target="age")))
    network(torch.randn(2, 1, *recipe.prepare.shape)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
