"""How scans were prepared, in words for the methods section of a paper."""

from braintune.dwi_recipe import DwiRecipe
from braintune.recipe import PrepareRecipe

_RULES = {
    "zscore": "z-scored within the brain",
    "minmax": "scaled to the range of the brain",
    "percentile": "scaled to the 1st and 99th percentile of the brain",
    "none": "left as they were",
}
_MAPS = {
    "fa": "fractional anisotropy",
    "md": "mean diffusivity",
    "ad": "axial diffusivity",
    "rd": "radial diffusivity",
}
_REGISTRATIONS = {
    "rigid": "a rigid registration",
    "similarity": "a registration with 7 degrees of freedom",
    "affine-9": "a registration with 9 degrees of freedom",
    "affine-12": "an affine registration",
}


def preparation_sentences(prepare: PrepareRecipe) -> str:
    """One or two sentences on how scans became arrays.

    Example:
        >>> preparation_sentences(PrepareRecipe(shape=(8, 8, 8)))  # doctest: +ELLIPSIS
        'Scans were brought to RAS orientation, 2 mm and 8 × 8 × 8 voxels, with intensities z-...'
    """
    grid = f"{prepare.spacing:g} mm and {' × '.join(str(n) for n in prepare.shape)} voxels"
    rule = _RULES[prepare.intensity]
    if prepare.dwi is not None:
        return _diffusion(prepare.dwi, grid, rule)
    return f"Scans were brought to RAS orientation, {grid}, with intensities {rule}."


def _diffusion(dwi: DwiRecipe, grid: str, rule: str) -> str:
    volumes = (
        f"all shells up to b = {dwi.max_b:g} s/mm²"
        if dwi.shells is None
        else f"the shells of b = {', '.join(f'{b:g}' for b in dwi.shells)} s/mm²"
    )
    space = (
        "RAS orientation"
        if dwi.registration == "none"
        else f"MNI152 space by {_REGISTRATIONS[dwi.registration]}"
    )
    maps = " and ".join(_MAPS[name] for name in dwi.maps)
    return (
        f"Diffusion tensors were fitted to b = 0 and {volumes} by weighted least squares (DIPY)."
        f" Maps of {maps} were brought to {space}, {grid}, their values {rule}, as the channels of"
        " one image."
    )
