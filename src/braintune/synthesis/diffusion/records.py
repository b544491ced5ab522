"""Published latent diffusion models: where they are, and what their networks are."""

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from braintune.errors import InputError, nearest
from braintune.imaging.grid import ras_grid
from braintune.models.weights.record import Conversion, Source, WeightRecord
from braintune.synthesis.diffusion.conditions import Condition
from braintune.synthesis.diffusion.recipe import DiffusionRecipe


class PublishedFile(BaseModel):
    """One file of a published model.

    Attributes:
        weights: Where it is, and how its keys become those of MONAI's network of today.
        md5: Its hash, as the publisher gives it; it finds a damaged file, not a forged one.
        parameters: How many numbers it holds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: WeightRecord
    md5: str
    parameters: PositiveInt


class PublishedModel(BaseModel):
    """A published model.

    Attributes:
        name: What commands call it.
        recipe: Its networks; the numbers of its training mean nothing here.
        conditions: Its conditions, in the networks' order.
        affine: From voxels of its scans to world millimetres.
        scale: By which its latents are multiplied.
        autoencoder: The file of the autoencoder.
        denoiser: The file of the denoiser.
        source: The repository and commit that tell all this.
        quirks: What else one must know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recipe: DiffusionRecipe
    conditions: tuple[Condition, ...]
    affine: list[list[float]]
    scale: float
    autoencoder: PublishedFile
    denoiser: PublishedFile
    source: str
    quirks: tuple[str, ...]


def _unit(name: str, column: str) -> Condition:
    return Condition(name=name, column=column, kind="unknown")


_BUNDLE = (
    "https://github.com/Project-MONAI/model-zoo/tree/17e7879cb1b464912fdc47c8cff6a5497f7cdc36"
    "/models/brain_image_synthesis_latent_diffusion_model"
)
_CITATION = "Pinaya et al. 2022, arXiv 2209.07162"


def _file(
    part: str, drive: str, md5: str, parameters: int, rename: tuple[str, str]
) -> PublishedFile:
    """A file of the bundle, saved by the library that MONAI's networks were in before."""
    weights = WeightRecord(
        backbone="brain-ldm",
        tag=part,
        source=Source(url=f"https://drive.google.com/uc?export=download&id={drive}"),
        licence="Apache-2.0",
        citation=_CITATION,
        cohorts=("UK Biobank",),
        conversion=Conversion(rename=(rename,)),
    )
    return PublishedFile(weights=weights, md5=md5, parameters=parameters)


_NATURAL_UNITS = (
    "what an age or a volume of 0 and of 1 stands for is not published; sex 0 and 1 are taken for"
    " female and male, as UK Biobank codes them"
)
_WORLD = (
    "where its voxels lie in the world is not published: scans are written on a grid in RAS around"
    " the origin"
)
_HASHES_AND_LICENCE = (
    "the publisher tells the files' MD5 alone, and no licence file was read beside them: the model"
    " zoo's own licence is Apache-2.0"
)
_QUIRKS = (
    _NATURAL_UNITS,
    _WORLD,
    "its scans are whole heads that UniRes aligned, with intensities in [0, 1]",
    "it was trained without hidden conditions, so it takes no guidance",
    _HASHES_AND_LICENCE,
)

BRAIN_LDM = PublishedModel(
    name="brain-ldm",
    recipe=DiffusionRecipe.read("brain-ldm", ["denoiser.drop=0"]),
    conditions=(
        Condition(name="sex", column="sex", kind="two", words=("F", "M")),
        _unit("age", "age"),
        _unit("ventricles", "ventricles_ml"),
        _unit("brain", "brain_ml"),
    ),
    affine=ras_grid((160, 224, 160), 1.0, np.zeros(3)).affine.tolist(),
    scale=1.0,
    autoencoder=_file(
        "autoencoder",
        "1CZHwxHJWybOsDavipD0EorDPOo_mzNeX",
        "329e97b3085643ff235f11f049856242",
        13_766_248,
        (r"(decoder\.blocks\.\d+)\.conv\.(conv\.(?:weight|bias))", r"\1.postconv.\2"),
    ),
    denoiser=_file(
        "denoiser",
        "1XO-ak93ZuOcGTCpgRtqgIeZq3dG5ExN6",
        "21c3047556fb671caf0556f1cce6ef22",
        553_168_899,
        (r"(.*\.transformer_blocks\.\d+\.attn[12])\.to_out\.0\.(\w+)", r"\1.out_proj.\2"),
    ),
    source=_BUNDLE,
    quirks=_QUIRKS,
)

PUBLISHED = {BRAIN_LDM.name: BRAIN_LDM}


def find_published(name: str) -> PublishedModel:
    """A published model by its name.

    Raises:
        InputError: If there is none such.

    Example:
        >>> find_published("brain-ldm").recipe.latent_shape
        (3, 20, 28, 20)
    """
    if name not in PUBLISHED:
        msg = f"Unknown published model {name!r}.{nearest(name, PUBLISHED)}"
        raise InputError(f"{msg} Available: {', '.join(PUBLISHED)}.")
    return PUBLISHED[name]
