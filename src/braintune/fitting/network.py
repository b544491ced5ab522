"""A recipe made into a network: backbone, weights, adapter and head, and its audit without data."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from braintune.adapters import adapter as adapters
from braintune.adapters.adapter import adapt
from braintune.adapters.counting import ParameterAudit, audit_parameters
from braintune.adapters.watching import watch
from braintune.errors import InputError
from braintune.models import backbone as backbones
from braintune.models.backbone import InputShape, MapBackbone, build_backbone
from braintune.models.stochastic_depth import set_stochastic_depth
from braintune.models.weights.loading import find_weights, load_backbone
from braintune.recipe import Recipe
from braintune.registry import parse
from braintune.tasks.head import HeadOptions
from braintune.tasks.task import AnyTask, Task, make_any_task


class Network(nn.Module):
    """A backbone and a task's head.

    Attributes:
        backbone: From images to features.
        head: From features, or maps, to the task's outputs.
    """

    def __init__(self, backbone: backbones.Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, outputs)."""
        outputs: torch.Tensor = self.head(self.backbone(images))
        return outputs

    def reset_head(self, task: Task) -> None:
        """Put a new head in the place of the old one, for another task on the same backbone."""
        device = next(self.backbone.parameters()).device
        self.head = task.head(self.backbone.n_features).to(device)


class MapNetwork(Network):
    """A backbone with a decoder, and a head that every voxel's vector passes through.

    Attributes:
        coarse_heads: With deep supervision, one head for each coarser map of the decoder.
    """

    def __init__(
        self, backbone: backbones.MapBackbone, head: nn.Module, coarse_heads: list[nn.Module]
    ) -> None:
        super().__init__(backbone, head)
        self.coarse_heads = nn.ModuleList(coarse_heads)

    def forward(self, images: torch.Tensor) -> Any:
        """From (batch, channels, x, y, z) to (batch, outputs, x, y, z).

        A network that trains under deep supervision gives a list: those of the finest map first,
        then those of the coarser ones.
        """
        backbone = self.backbone
        assert isinstance(backbone, MapBackbone)
        if not (self.training and len(self.coarse_heads)):
            return self.head(backbone.maps(images))
        caught: dict[str, torch.Tensor] = {}
        names = [name for name, _ in backbone.coarser_maps()]
        hooks = [
            backbone.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, output, name=name: caught.update({name: output})
            )
            for name in names
        ]
        try:
            finest = self.head(backbone.maps(images))
        finally:
            for hook in hooks:
                hook.remove()
        coarse = [head(caught[n]) for head, n in zip(self.coarse_heads, names, strict=True)]
        return [finest, *coarse]


def input_shape(recipe: Recipe) -> InputShape:
    """What a recipe's preparation gives its network."""
    return InputShape(recipe.prepare.channels, make_any_task(recipe.task).input_shape(recipe))


def make_network(recipe: Recipe, task: AnyTask) -> Network:
    """Make the network that a recipe describes, with its weights loaded and its adapter in place.

    Raises:
        InputError: If a name, an option or the shape does not fit, or the weights do not load.
    """
    chosen = recipe.backbone
    backbone = load_backbone(chosen.name, input_shape(recipe), chosen.weights, chosen.options)
    return _assemble(backbone, recipe, task)


def _assemble(backbone: backbones.Backbone, recipe: Recipe, task: AnyTask) -> Network:
    """Adapter and head around a backbone, of which tasks of one value a scan need no decoder."""
    if task.reads_maps and not isinstance(backbone, MapBackbone):
        msg = (
            f"{recipe.backbone.name} gives no label maps: it has no decoder. Take unet, segresnet,"
            " swinunetr or unetr."
        )
        raise InputError(msg)
    new = _parameters_that_weights_lack(backbone, recipe)
    if isinstance(backbone, MapBackbone) and not task.reads_maps:
        backbone.drop_decoder()
    if recipe.train.drop_path is not None:
        set_stochastic_depth(backbone, recipe.train.drop_path)
    adapt(backbone, recipe.adapter.name, recipe.adapter.options)
    for parameter in new:
        # What starts at random must be learnt, whatever the adapter freezes.
        parameter.requires_grad_(True)
    if isinstance(backbone, MapBackbone) and task.reads_maps:
        return MapNetwork(backbone, task.head(backbone.n_maps), _coarse_heads(backbone, task))
    return Network(backbone, _make_head(backbone.n_features, recipe, task))


def _coarse_heads(backbone: MapBackbone, task: AnyTask) -> list[nn.Module]:
    """A head for each coarser map, if the task is learnt on them too."""
    if not task.deep_supervision:
        return []
    maps = backbone.coarser_maps()
    if not maps:
        msg = "This backbone offers no coarser maps. Set 'task: {deep_supervision: false}'."
        raise InputError(msg)
    return [task.head(channels) for _, channels in maps]


def _make_head(n_features: int, recipe: Recipe, task: AnyTask) -> nn.Module:
    """The task's head, below which a hidden layer is put if the adapter stands for one."""
    options = parse(HeadOptions, recipe.task.options.get("head", {}), "task.head")
    wanted = adapters.ADAPTERS.get(recipe.adapter.name).head_kind
    if wanted in (None, options.kind):
        return task.head(n_features)
    return nn.Sequential(
        nn.Linear(n_features, options.hidden), nn.ReLU(), task.head(options.hidden)
    )


def _parameters_that_weights_lack(
    backbone: backbones.Backbone, recipe: Recipe
) -> list[nn.Parameter]:
    weights = find_weights(recipe.backbone.name, recipe.backbone.weights)
    patterns = weights.adaptation.new if weights else ()
    return [
        parameter
        for name, parameter in backbone.named_parameters()
        if any(re.fullmatch(pattern, name) for pattern in patterns)
    ]


def outline(recipe: Recipe, task: AnyTask) -> Network:
    """The network without memory for its parameters: fit to count and check, not to compute.

    Raises:
        InputError: If a name, an option or the shape does not fit.
    """
    chosen = recipe.backbone
    backbones.check_options(chosen.name, chosen.options)
    adapters.check_options(recipe.adapter.name, recipe.adapter.options)
    with torch.device("meta"):
        backbone = build_backbone(chosen.name, input_shape(recipe), chosen.options)
        return _assemble(backbone, recipe, task)


def blank_images(recipe: Recipe) -> torch.Tensor:
    """What the outline is shown: one scan without memory for its voxels."""
    shape = input_shape(recipe)
    return torch.empty(1, shape.channels, *shape.shape, device="meta")


@dataclass(frozen=True)
class RecipeAudit:
    """What a recipe costs, without data.

    Attributes:
        parameters: Counts by part.
        memory: Bytes that training needs: parameters, gradients and optimiser, activations.
        published: Parameters of the backbone in its published form, for comparison.
    """

    parameters: ParameterAudit
    memory: dict[str, int]
    published: int


def audit_recipe(recipe: Recipe, task: AnyTask | None = None) -> RecipeAudit:
    """Count the parameters of a recipe and estimate the memory that training takes.

    Args:
        recipe: The recipe.
        task: Its task, if it is known from data already; else as the recipe tells it.
    """
    network = outline(recipe, task or make_any_task(recipe.task))
    counts = audit_parameters(network.backbone, network.head)
    memory = {
        "parameters": 4 * counts.total,
        # A gradient and Adam's two moments for each parameter that trains.
        "gradients_and_optimiser": 12 * counts.trainable,
        "activations": recipe.train.batch_size * _activation_bytes(network, recipe),
    }
    published = backbones.BACKBONES.get(recipe.backbone.name).parameters
    return RecipeAudit(counts, memory, published)


def _activation_bytes(network: Network, recipe: Recipe) -> int:
    """Bytes of what the layers put out for one scan in float32; kept for the backward pass."""
    total = 0

    def count(_name: str, _layer: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * 4

    watch(network, blank_images(recipe), count)
    return total
