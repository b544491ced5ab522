"""A network is a backbone and a head, which can be changed for another task."""

import torch

from braintune.fitting.network import make_network
from braintune.recipe import TaskRecipe
from braintune.tasks.task import make_task
from conftest import tiny_recipe


def test_a_new_head_leaves_the_backbone_as_it_is() -> None:
    recipe = tiny_recipe()
    network = make_network(
        recipe, make_task(TaskRecipe(kind="classification", target="dx", classes=3))
    )
    images = torch.randn(2, 1, *recipe.prepare.shape)
    network.eval()
    with torch.no_grad():
        features = network.backbone(images)
        assert network(images).shape == (2, 3)
        network.reset_head(make_task(TaskRecipe(kind="regression", target="age")))
        assert network(images).shape == (2, 1)
        assert torch.equal(network.backbone(images), features)


def test_a_network_with_a_decoder_is_fitted_without_it() -> None:
    recipe = tiny_recipe(backbone={"name": "unet", "channels": [4, 8, 8]}, adapter={"name": "full"})
    network = make_network(recipe, make_task(TaskRecipe(kind="regression", target="age")))
    network(torch.randn(2, 1, *recipe.prepare.shape)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
