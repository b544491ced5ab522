"""The published bundle by its layout: keys, shapes and counts, without its gigabytes.

Its checkpoints were written by the library that MONAI's networks were in before. Their keys follow
from MONAI's own conversion of them, `load_old_state_dict`, which is also the reference here.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from braintune.errors import InputError
from braintune.models.weights.conversion import convert_state
from braintune.synthesis.diffusion.convert import convert
from braintune.synthesis.diffusion.model import demand_fits, read_model
from braintune.synthesis.diffusion.networks import build_autoencoder, build_denoiser
from braintune.synthesis.diffusion.recipe import DiffusionRecipe
from braintune.synthesis.diffusion.records import BRAIN_LDM, PublishedModel, find_published
from braintune.synthesis.diffusion.sample import SampleRecipe, sample

FILES = (BRAIN_LDM.autoencoder, BRAIN_LDM.denoiser)
# The same levels, blocks and attention, far narrower and on a small grid.
NARROW = [
    "prepare.shape=[32,32,32]",
    "autoencoder.channels=[2,4,4,4]",
    "autoencoder.norm_groups=2",
    "denoiser.channels=[4,8,8]",
    "denoiser.head_channels=[0,8,8]",
    "denoiser.norm_groups=4",
    "denoiser.drop=0",
]


def networks(recipe: DiffusionRecipe) -> tuple[nn.Module, nn.Module]:
    return build_autoencoder(recipe), build_denoiser(recipe).unet


def old_name(key: str) -> str:
    key = re.sub(r"(decoder\.blocks\.\d+)\.postconv\.", r"\1.conv.", key)
    return re.sub(r"(attn[12])\.out_proj\.", r"\1.to_out.0.", key)


@pytest.mark.parametrize("part", [0, 1])
def test_published_keys_and_shapes_are_those_of_the_networks(part: int) -> None:
    with torch.device("meta"):
        network = networks(BRAIN_LDM.recipe)[part]
    published = {old_name(k): tuple(v.shape) for k, v in network.state_dict().items()}
    assert len(published) == len(network.state_dict())
    # Names alone go through the conversion, each with a number that finds its shape again.
    numbers = {key: torch.tensor([float(i)]) for i, key in enumerate(published)}
    converted = convert_state(numbers, FILES[part].weights)
    shapes = list(published.values())
    found = {key: shapes[int(value)] for key, value in converted.items()}
    demand_fits(found, network, Path("published"))
    assert sum(parameter.numel() for parameter in network.parameters()) == FILES[part].parameters


@pytest.mark.parametrize(("part", "megabytes"), [(0, "55.1"), (1, "2212.7")])
def test_published_counts_are_those_of_the_published_sizes(part: int, megabytes: str) -> None:
    """The hub lists 55.1 MB and 2.21 GB of float32."""
    assert f"{FILES[part].parameters * 4 / 1e6:.1f}" == megabytes


@pytest.mark.parametrize("part", [0, 1])
def test_conversion_is_the_one_that_monai_does(part: int) -> None:
    torch.manual_seed(0)
    recipe = DiffusionRecipe.read("brain-ldm", NARROW)
    source, target = networks(recipe)[part], networks(recipe)[part]
    old = {old_name(k): torch.randn_like(v) for k, v in source.state_dict().items()}
    converted = convert_state(dict(old), FILES[part].weights)
    target.load_old_state_dict(dict(old))  # type: ignore[operator]
    reference = target.state_dict()
    assert converted.keys() == reference.keys()
    assert all(torch.equal(converted[key], reference[key]) for key in reference)


def test_the_record_says_what_the_bundle_says() -> None:
    recipe = BRAIN_LDM.recipe
    assert recipe.prepare.shape == (160, 224, 160)
    assert recipe.latent_shape == (3, 20, 28, 20)
    assert [condition.name for condition in BRAIN_LDM.conditions] == list(recipe.conditions)
    assert list(recipe.conditions) == ["sex", "age", "ventricles", "brain"]
    with torch.device("meta"):
        unet = build_denoiser(recipe).unet
    assert (unet.in_channels, unet.out_channels) == (7, 3)
    assert find_published("brain-ldm") is BRAIN_LDM
    with pytest.raises(InputError, match="Available: brain-ldm"):
        find_published("nothing")


@pytest.fixture
def narrow(tmp_path: Path) -> tuple[PublishedModel, Path, Path]:
    """A published model of small networks, with its checkpoints as torch writes them."""
    torch.manual_seed(0)
    recipe = DiffusionRecipe.read("brain-ldm", NARROW)
    files: dict[str, Any] = {}
    for name, network in zip(("autoencoder", "denoiser"), networks(recipe), strict=True):
        path = tmp_path / f"{name}.pt"
        state = {old_name(k): v + 0.01 for k, v in network.state_dict().items()}
        torch.save(state, path)
        known = getattr(BRAIN_LDM, name)
        files[name] = known.model_copy(
            update={"md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}
        )
    published = BRAIN_LDM.model_copy(update={"recipe": recipe, **files})
    return published, tmp_path / "autoencoder.pt", tmp_path / "denoiser.pt"


def test_a_published_model_becomes_one_that_samples(
    narrow: tuple[PublishedModel, Path, Path], tmp_path: Path
) -> None:
    record = convert(*narrow, tmp_path / "model")
    assert record.licence == "Apache-2.0"
    old = torch.load(narrow[2], weights_only=True)
    model = read_model(tmp_path / "model")
    state = model.denoiser.unet.state_dict()
    assert all(torch.equal(state[key], old[old_name(key)]) for key in state)
    ask = SampleRecipe(count=1, steps=2, conditions={"age": 0.1})
    made = sample(tmp_path / "model", tmp_path / "samples", ask, torch.device("cpu"))
    # Nobody told what an age of 0.1 is in years.
    assert "age" not in made.table
    assert made.table["age_unit"].tolist() == ["0.10000"]
    assert made.table["sex"].isin(["F", "M"]).all()
    assert not (tmp_path / "samples" / "seen.tsv").exists()


def test_other_files_are_refused_and_nothing_is_written(
    narrow: tuple[PublishedModel, Path, Path], tmp_path: Path
) -> None:
    published, autoencoder, denoiser = narrow
    with pytest.raises(InputError, match="MD5 should be"):
        convert(published, denoiser, autoencoder, tmp_path / "model")
    with pytest.raises(InputError, match=r"does not exist.*drive\.google"):
        convert(published, autoencoder, tmp_path / "gone.pt", tmp_path / "model")
    same = published.model_copy(update={"denoiser": published.autoencoder})
    with pytest.raises(InputError, match="does not fit the network"):
        convert(same, autoencoder, autoencoder, tmp_path / "model")
    assert not (tmp_path / "model").exists()
