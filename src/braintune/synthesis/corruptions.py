"""Prepared scans made worse by fixed amounts, to see how much of it a network bears.

What a scanner or a person would do to the raw scan is done to the prepared one: its intensities are
lifted so that the brain's darkest voxel is 0, changed, and scaled anew as preparation does. Chance
comes from each scan's own seed, and at a greater amount the same thing happens more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from braintune.imaging.acquisition import along_axes, blur_matrix, ghost_matrix
from braintune.imaging.intensity import RULES
from braintune.models.slice_dropping import drop_slices
from braintune.recipe import PrepareRecipe
from braintune.synthesis.deformation import smooth_noise

Image = npt.NDArray[np.float16]
# The standard deviation of a Gaussian in units of its full width at half maximum.
_SIGMA_PER_FWHM = 1 / 2.355
# Over how many millimetres a bias field varies, as that of simulated scanners.
_BIAS_MM = 70.0
# Lines of k-space in a period of motion.
_FEWEST_GHOSTS, _MOST_GHOSTS = 3, 10


@dataclass(frozen=True)
class Setting:
    """What a corruption may need to know besides its amount.

    Attributes:
        spacing: Voxel size in millimetres.
        chance: The scan's own source of chance, the same at every amount.
    """

    spacing: float
    chance: torch.Generator


Change = Callable[[torch.Tensor, float, Setting], torch.Tensor]


@dataclass(frozen=True)
class Corruption:
    """One way to make a scan worse.

    Attributes:
        name: Its key in metrics.json.
        label: What people read.
        unit: What the amounts are.
        amounts: Five, rising; 0 would change nothing.
        change: From a lifted image of shape (x, y, z), 0 outside the brain, an amount and a setting
            to the worse image.
    """

    name: str
    label: str
    unit: str
    amounts: tuple[float, ...]
    change: Change


def corrupt(
    image: Image, corruption: Corruption, amount: float, recipe: PrepareRecipe, seed: int
) -> Image:
    """Make a prepared scan worse.

    Args:
        image: Of shape (channels, x, y, z), 0 outside the brain.
        corruption: How.
        amount: How much; 0 changes nothing but by rounding.
        recipe: How the scan was prepared.
        seed: The same seed and amount give the same image; all channels change alike.

    Returns:
        A new image of the same shape.
    """
    changed = []
    for channel in image.astype(np.float32):
        brain = channel != 0
        if not brain.any():
            changed.append(channel)
            continue
        # Raw intensities begin at 0; preparation may have moved them below it.
        lowest = 0.0 if recipe.intensity == "none" else float(channel[brain].min())
        lifted = torch.from_numpy(np.where(brain, channel - lowest, 0))
        setting = Setting(recipe.spacing, torch.Generator().manual_seed(seed))
        worse = corruption.change(lifted, amount, setting).numpy()
        kept = _moved(brain, corruption, amount, setting, seed)
        changed.append(RULES[recipe.intensity](worse, kept))
    return np.stack(changed).astype(np.float16)


def _moved(
    brain: npt.NDArray[np.bool_],
    corruption: Corruption,
    amount: float,
    setting: Setting,
    seed: int,
) -> npt.NDArray[np.bool_]:
    """Which voxels are brain in the worse image: the same ones, unless the head was turned."""
    if corruption.change is not _rotation:
        return brain
    again = Setting(setting.spacing, torch.Generator().manual_seed(seed))
    turned = _rotation(torch.from_numpy(brain.astype(np.float32)), amount, again).numpy() >= 0.5
    return turned if turned.any() else brain


def _noise(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    """Rician noise, as magnitude images have."""
    deviation = amount * _bright(image)
    real, imaginary = (torch.randn(image.shape, generator=setting.chance) for _ in range(2))
    return torch.hypot(image + deviation * real, deviation * imaginary)


def _bias(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    """A smooth field that multiplies; the amount is the standard deviation of its log."""
    shape = (image.shape[0], image.shape[1], image.shape[2])
    field = smooth_noise(shape, _BIAS_MM / setting.spacing, setting.chance, channels=1)[0]
    return image * torch.exp(amount * field)


def _blur(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    sigma = amount * _SIGMA_PER_FWHM / setting.spacing
    return _along(image, [blur_matrix(n, sigma) for n in image.shape])


def _ghosting(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    """Periodic motion along one axis; values below 0, which no scanner gives, become positive."""
    axis = int(torch.randint(3, (1,), generator=setting.chance))
    ghosts = int(torch.randint(_FEWEST_GHOSTS, _MOST_GHOSTS + 1, (1,), generator=setting.chance))
    matrix = ghost_matrix(image.shape[axis], ghosts, amount)
    return _along(image, [matrix if number == axis else None for number in range(3)]).abs()


def _contrast(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    """Intensities bent by an exponent whose log is plus or minus the amount."""
    sign = 1 if bool(torch.rand(1, generator=setting.chance) < 0.5) else -1
    brightest = image.max().clamp_min(1e-6)
    return (image / brightest) ** float(np.exp(sign * amount)) * brightest


def _slices(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    """Axial slices at random places that are 0."""
    if amount == 0:
        return image
    scan = image[None, None]
    return drop_slices(scan, "z", 1 - amount, "random", "zeros", setting.chance)[0, 0]


def _rotation(image: torch.Tensor, amount: float, setting: Setting) -> torch.Tensor:
    """The head turned about an axis of any direction."""
    axis = F.normalize(torch.randn(3, generator=setting.chance), dim=0)
    x, y, z = np.deg2rad(amount) * axis
    skew = torch.zeros(3, 3)
    skew[0, 1], skew[0, 2], skew[1, 2] = -z, y, -x
    half = torch.tensor([(n - 1) / 2 for n in image.shape])
    grids = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in image.shape], indexing="ij")
    places = (torch.stack(grids, dim=-1) * half) @ torch.linalg.matrix_exp(skew - skew.T).T
    # grid_sample wants the last axis first.
    sampled = F.grid_sample(
        image[None, None], (places / half).flip(-1)[None], mode="bilinear", align_corners=True
    )
    return sampled[0, 0]


def _along(image: torch.Tensor, matrices: list[npt.NDArray[np.float64] | None]) -> torch.Tensor:
    return along_axes(image[None, None], [matrices])[0, 0]


def _bright(image: torch.Tensor) -> float:
    """What is bright in a brain, such as white matter of T1w scans: 95 % of it are darker."""
    return float(np.quantile(image[image > 0].numpy(), 0.95)) if bool((image > 0).any()) else 0.0


CORRUPTIONS = (
    Corruption("noise", "noise", "share of bright tissue", (0.02, 0.05, 0.1, 0.15, 0.2), _noise),
    Corruption("bias_field", "bias field", "SD of its log", (0.1, 0.2, 0.3, 0.4, 0.5), _bias),
    Corruption("blur", "blur", "mm, full width at half maximum", (2.0, 4.0, 6.0, 8.0, 10.0), _blur),
    Corruption("ghosting", "ghosting", "radians of phase", (0.2, 0.4, 0.6, 0.8, 1.0), _ghosting),
    Corruption(
        "contrast", "contrast", "log of the exponent", (0.1, 0.2, 0.3, 0.45, 0.6), _contrast
    ),
    Corruption("missing_slices", "missing slices", "share", (0.05, 0.1, 0.2, 0.3, 0.5), _slices),
    Corruption("rotation", "rotation", "degrees", (5.0, 10.0, 15.0, 20.0, 30.0), _rotation),
)
