"""The recipe of a latent diffusion model, and three that come with braintune."""

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from braintune.errors import InputError, nearest
from braintune.recipe import PrepareRecipe, Section, override
from braintune.registry import parse

# Bounds that keep a hostile recipe from building a network that no machine can hold.
_MOST_LEVELS, _MOST_CHANNELS, _MOST_BLOCKS = 6, 2048, 8
Count = Field(ge=1, le=_MOST_CHANNELS)
Conditions = dict[str, str]


def _check_channels(channels: tuple[int, ...], groups: int) -> None:
    for wide in channels:
        if not 1 <= wide <= _MOST_CHANNELS:
            msg = f"channels must be from 1 to {_MOST_CHANNELS}"
            raise ValueError(msg)
        if wide % groups:
            msg = f"channels {wide} is no multiple of norm_groups {groups}"
            raise ValueError(msg)


class OptimisationRecipe(Section):
    """How one of the two networks is trained.

    Attributes:
        steps: Updates.
        batch_size: Scans an update.
        lr: Peak learning rate of Adam, after a linear warm-up over 5 % of the steps; it falls to 0
            along a cosine.
        ema: Decay of the moving average of the weights that is kept in the end; None keeps the last
            weights.
    """

    steps: int = Field(1000, ge=1)
    batch_size: int = Field(4, ge=1)
    lr: PositiveFloat = 1e-3
    ema: float | None = Field(None, gt=0, lt=1)


class AutoencoderRecipe(Section):
    """The autoencoder, MONAI's `AutoencoderKL`.

    Attributes:
        channels: Of each level; each level but the first halves the grid.
        latent_channels: Channels of the latents.
        res_blocks: Residual blocks a level.
        norm_groups: Groups of the norms; every number of channels is a multiple.
        kl: Weight of the Kullback–Leibler divergence, summed over a scan's latents, beside the mean
            absolute error.
        train: Its optimisation.
    """

    channels: tuple[int, ...] = Field((8, 16, 32), min_length=1, max_length=_MOST_LEVELS)
    latent_channels: int = Field(4, ge=1, le=64)
    res_blocks: int = Field(1, ge=1, le=_MOST_BLOCKS)
    norm_groups: int = Field(8, ge=1)
    kl: NonNegativeFloat = 1e-6
    train: OptimisationRecipe = OptimisationRecipe(steps=1800, batch_size=2, lr=1e-3)

    @model_validator(mode="after")
    def _right_channels(self) -> Self:
        _check_channels(self.channels, self.norm_groups)
        return self


class DenoiserRecipe(Section):
    """The denoiser of latents, MONAI's `DiffusionModelUNet`.

    The conditions enter it twice: as channels beside the noisy latents, and by cross-attention
    (Pinaya et al. 2022, section 2.2).

    Attributes:
        channels: Of each level; each level but the first halves the grid.
        attention: Which levels attend.
        head_channels: Channels of an attention head of each level.
        res_blocks: Residual blocks a level.
        norm_groups: Groups of the norms; every number of channels is a multiple.
        resblock_updown: Whether residual blocks change the resolution, or plain layers.
        upcast_attention: Whether attention is computed in float32 in any precision.
        predicts: What the network predicts: the noise, or the velocity of Salimans and Ho (2022).
        timesteps: Steps of the noising process.
        beta_start: Variance of the noise that the first step adds.
        beta_end: Of the last; the square roots between them lie on a line.
        drop: Share of training steps' scans whose conditions are hidden, by which guidance learns
            what scans without conditions look like; 0 allows no guidance.
        train: Its optimisation.
    """

    channels: tuple[int, ...] = Field((48, 96), min_length=1, max_length=_MOST_LEVELS)
    attention: tuple[bool, ...] = (False, True)
    head_channels: tuple[NonNegativeInt, ...] = (0, 96)
    res_blocks: int = Field(1, ge=1, le=_MOST_BLOCKS)
    norm_groups: int = Field(16, ge=1)
    resblock_updown: bool = True
    upcast_attention: bool = False
    predicts: Literal["epsilon", "v_prediction"] = "v_prediction"
    timesteps: int = Field(1000, ge=2, le=100_000)
    beta_start: float = Field(0.0015, gt=0, lt=1)
    beta_end: float = Field(0.0205, gt=0, lt=1)
    drop: float = Field(0.1, ge=0, lt=1)
    train: OptimisationRecipe = OptimisationRecipe(steps=2000, batch_size=8, lr=1e-3, ema=0.995)

    @model_validator(mode="after")
    def _right_levels(self) -> Self:
        _check_channels(self.channels, self.norm_groups)
        if not len(self.channels) == len(self.attention) == len(self.head_channels):
            msg = "channels, attention and head_channels must have one entry a level"
            raise ValueError(msg)
        for wide, attends, head in zip(
            self.channels, self.attention, self.head_channels, strict=True
        ):
            # The middle block attends at the last level, whatever 'attention' says.
            if attends and (head == 0 or wide % head):
                msg = (
                    f"head_channels {head} must divide the {wide} channels of a level that attends"
                )
                raise ValueError(msg)
        if self.head_channels[-1] == 0 or self.channels[-1] % self.head_channels[-1]:
            msg = "the last of head_channels must divide the last of channels: the middle attends"
            raise ValueError(msg)
        return self


class DiffusionRecipe(Section):
    """A latent diffusion model of scans (Rombach et al. 2022; Pinaya et al. 2022).

    Attributes:
        prepare: How scans become arrays, in [0, 1].
        conditions: Name of each condition → column of the cohort, in the networks' order.
        autoencoder: The autoencoder and its training.
        denoiser: The denoiser and its training.
        held_out: Share of subjects that are not trained on, but used to look at the training.
        precision: ``auto`` is ``bf16`` where the hardware computes in bfloat16, else ``fp32``.
        seed: The same seed and device give the same weights.

    Example:
        >>> DiffusionRecipe().latent_shape
        (4, 10, 12, 10)
    """

    prepare: PrepareRecipe = PrepareRecipe(spacing=4, shape=(40, 48, 40), intensity="percentile")
    conditions: Conditions = Field(
        {"sex": "sex", "age": "age", "ventricles": "ventricles_ml", "brain": "brain_ml"},
        min_length=1,
        max_length=64,
    )
    autoencoder: AutoencoderRecipe = AutoencoderRecipe()
    denoiser: DenoiserRecipe = DenoiserRecipe()
    held_out: float = Field(0.1, ge=0, lt=0.5)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _shape_fits(self) -> Self:
        step, shape = self.multiple, self.prepare.shape
        if any(n % step for n in shape):
            fitting = [max(step, step * round(n / step)) for n in shape]
            msg = (
                f"prepare.shape {list(shape)} must be multiples of {step}, by which the two"
                f" networks shrink it; the nearest is {fitting}"
            )
            raise ValueError(msg)
        if self.prepare.intensity not in {"percentile", "minmax"}:
            msg = "prepare.intensity must be percentile or minmax, which give values in [0, 1]"
            raise ValueError(msg)
        if self.prepare.dwi is not None:
            msg = "the generator makes scans of one channel; leave prepare.dwi out"
            raise ValueError(msg)
        return self

    @property
    def factor(self) -> int:
        """How many voxels make one latent along an axis."""
        return int(2 ** (len(self.autoencoder.channels) - 1))

    @property
    def multiple(self) -> int:
        """Every axis of the shape is a multiple of this."""
        return self.factor * int(2 ** (len(self.denoiser.channels) - 1))

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape of a scan's latents, (channels, x, y, z)."""
        x, y, z = (n // self.factor for n in self.prepare.shape)
        return (self.autoencoder.latent_channels, x, y, z)

    @property
    def deepest(self) -> int:
        """The smallest edge of any grid that a network computes on."""
        return min(self.prepare.shape) // self.multiple

    @classmethod
    def read(cls, preset: str, overrides: list[str] | None = None) -> Self:
        """A preset, changed by ``section.key=value`` overrides.

        Raises:
            InputError: If the preset is unknown, or an override is wrong.

        Example:
            >>> DiffusionRecipe.read("small", ["denoiser.train.steps=10"]).denoiser.train.steps
            10
        """
        if preset not in PRESETS:
            msg = f"Unknown preset {preset!r}.{nearest(preset, PRESETS)}"
            raise InputError(f"{msg} Available: {', '.join(PRESETS)}.")
        values = cls.model_validate(PRESETS[preset]).model_dump(mode="json")
        for text in overrides or []:
            if text.startswith("conditions="):
                values["conditions"] = {}
            override(values, text)
        return parse(cls, values, "")


# What each preset says beside the defaults. `brain-ldm` has the sizes of the bundle's published
# configs/inference.json; its numbers of training are a start of ours, none are published there.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "prepare": {"spacing": 12.0, "shape": [16, 16, 16], "intensity": "percentile"},
        "autoencoder": {
            "channels": [4, 8],
            "latent_channels": 2,
            "norm_groups": 2,
            "train": {"steps": 4, "batch_size": 2, "lr": 1e-3},
        },
        "denoiser": {
            "channels": [8, 8],
            "head_channels": [0, 8],
            "norm_groups": 4,
            "train": {"steps": 4, "batch_size": 2, "lr": 1e-3, "ema": 0.9},
        },
        "precision": "fp32",
    },
    "small": {},
    "brain-ldm": {
        "prepare": {"spacing": 1.0, "shape": [160, 224, 160], "intensity": "minmax"},
        "autoencoder": {
            "channels": [64, 128, 128, 128],
            "latent_channels": 3,
            "res_blocks": 2,
            "norm_groups": 32,
            "train": {"steps": 100_000, "batch_size": 1, "lr": 5e-5},
        },
        "denoiser": {
            "channels": [256, 512, 768],
            "attention": [False, True, True],
            "head_channels": [0, 512, 768],
            "res_blocks": 2,
            "norm_groups": 32,
            "upcast_attention": True,
            "predicts": "epsilon",
            "train": {"steps": 300_000, "batch_size": 8, "lr": 2.5e-5, "ema": 0.9999},
        },
    },
}
