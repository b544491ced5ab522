import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.synthesis.diffusion.networks import build_autoencoder, build_denoiser, computes_bf16
from braintune.synthesis.diffusion.recipe import PRESETS, DiffusionRecipe


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_networks_of_their_shapes(preset: str) -> None:
    recipe = DiffusionRecipe.read(preset)
    with torch.device("meta"):
        autoencoder, denoiser = build_autoencoder(recipe), build_denoiser(recipe)
        latents, _ = autoencoder.encode(torch.zeros(1, 1, *recipe.prepare.shape))
        context = torch.zeros(1, 1, len(recipe.conditions))
        predicted = denoiser(latents, torch.zeros(1), context)
    assert latents.shape[1:] == predicted.shape[1:] == recipe.latent_shape
    assert autoencoder.decode(latents).shape[2:] == recipe.prepare.shape


@given(st.lists(st.integers(1, 200), min_size=3, max_size=3))
def test_shapes_that_do_not_fit_are_refused_with_the_nearest_that_does(shape: list[int]) -> None:
    change = f"prepare.shape={shape}"
    if all(n % 8 == 0 for n in shape):
        assert list(DiffusionRecipe.read("small", [change]).prepare.shape) == shape
        return
    with pytest.raises(InputError, match="the nearest is") as error:
        DiffusionRecipe.read("small", [change])
    text = str(error.value).split("the nearest is [")[1].split("]")[0]
    nearest = [int(n) for n in text.split(",")]
    assert all(n % 8 == 0 for n in nearest)
    assert all(abs(a - b) <= 4 or a == 8 for a, b in zip(nearest, shape, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("autoencoder.channels=[6,16]", "multiple of norm_groups"),
        ("autoencoder.channels=[1000000]", "from 1 to 2048"),
        ("denoiser.attention=[true]", "one entry a level"),
        ("denoiser.head_channels=[0,7]", "divide"),
        ("denoiser.head_channels=[0,0]", "divide"),
        ("prepare.intensity=zscore", r"\[0, 1\]"),
        ("denoiser.train.step=3", "Did you mean 'denoiser.train.steps'|Did you mean 'steps'"),
        ("denoiser.drop=1", "less than 1"),
    ],
)
def test_wrong_recipes_are_refused(change: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        DiffusionRecipe.read("small", [change])


def test_unknown_presets_are_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'small'"):
        DiffusionRecipe.read("smal")


def test_conditions_are_replaced_as_a_whole() -> None:
    recipe = DiffusionRecipe.read("tiny", ["conditions={age: age}"])
    assert recipe.conditions == {"age": "age"}


def test_grids_smaller_than_kernels_compute_in_float32() -> None:
    deep = DiffusionRecipe.read("small", ["prepare.shape=[16,16,16]"])
    assert deep.deepest == 2
    assert not computes_bf16(deep, torch.device("cpu"))
    assert computes_bf16(DiffusionRecipe.read("small", ["precision=bf16"]), torch.device("cpu"))
