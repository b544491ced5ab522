"""The ways to bring a cohort's scans to a network, each set up as its own documentation says.

All give batches of shape (batch, 1, x, y, z), and all but the .nii.gz reader z-scored brains. All
give float32 but a bare prepared store, which is float16 until it is on the device. All augment in
like ways: a left-right flip, rotation, scale, shift, gain, offset and noise, and for "standard" an
elastic deformation, gamma and a bias field as well. MONAI and TorchIO get the number of workers
that serves them best.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from braintune.imaging.augment import STRENGTHS, Strength, augment
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from measuring import Contender

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Material:
    """What all contenders read.

    Attributes:
        scans: The source files, .nii.gz, in RAS.
        store: The same scans, prepared.
        shape: Of the prepared scans.
        batch: Scans a batch.
        workspace: A folder for the caches of others.
        passes: How often an epoch goes through the scans.
    """

    scans: list[Path]
    store: PreparedStore
    shape: Shape
    batch: int
    workspace: Path
    passes: int = 1

    @property
    def epoch(self) -> list[Path]:
        """The scans of an epoch."""
        return self.scans * self.passes

    @property
    def rows(self) -> list[list[int]]:
        """The rows of each batch of an epoch."""
        numbers = torch.arange(len(self.scans)).repeat(self.passes)
        return [rows.tolist() for rows in numbers.split(self.batch)]


def stored(material: Material) -> Contender:
    """A prepared store, read ahead by a thread; batches are float16, to be cast on the device."""
    loader = ScanLoader(material.store, [path.name for path in material.scans])
    rows = material.rows
    return Contender("braintune", lambda: sum(len(batch) for batch in loader.batches(rows)))


def ours(material: Material, strength: Strength | None) -> Contender:
    """The same, cast to float32 on the processor, and augmented in batches."""
    loader = ScanLoader(material.store, [path.name for path in material.scans])
    rows = material.rows

    def epoch() -> int:
        count = 0
        for batch, numbers in zip(loader.batches(rows), rows, strict=True):
            images = batch.float()
            if strength is not None:
                images = augment(images, numbers, strength)
            count += len(images)
        return count

    return Contender("braintune" if strength else "braintune, float32", epoch)


def raw(material: Material) -> Contender:
    """Nibabel reads every .nii.gz file again; nothing is prepared."""

    def epoch() -> int:
        count = 0
        for numbers in material.rows:
            images = [nib.load(material.scans[number]) for number in numbers]
            volumes = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
            count += len(torch.from_numpy(np.stack(volumes))[:, None])
        return count

    return Contender("nibabel .nii.gz", epoch)


def monai(material: Material, strength: Strength | None, kind: str, workers: int) -> Contender:
    """MONAI's persistent (on disk) or cache (in memory) dataset with its dictionary transforms."""
    import monai.data as md
    from monai import transforms as mt

    steps = [
        mt.LoadImaged("image"),
        mt.EnsureChannelFirstd("image"),
        mt.Orientationd("image", axcodes="RAS", labels=None),
        mt.NormalizeIntensityd("image", nonzero=True),
        mt.ResizeWithPadOrCropd("image", material.shape),
        mt.EnsureTyped("image", track_meta=False),
    ]
    transform = mt.Compose([*steps, *_monai_augmentation(material.shape, strength)])
    items = [{"image": str(path)} for path in material.epoch]
    if kind == "PersistentDataset":
        data = md.PersistentDataset(items, transform, material.workspace / "monai")
    else:
        data = md.CacheDataset(items, transform, progress=False)
    batches = md.DataLoader(
        data,
        batch_size=material.batch,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return Contender(f"MONAI {kind}", _count(batches, lambda batch: batch["image"]))


def _monai_augmentation(shape: Shape, strength: Strength | None) -> list[object]:
    from monai import transforms as mt

    if strength is None:
        return []
    geometry = {
        "prob": 1.0,
        "rotate_range": [np.deg2rad(strength.rotate)] * 3,
        "scale_range": [strength.scale] * 3,
        "translate_range": [strength.shift * n for n in shape],
        "mode": "bilinear",
        "padding_mode": "zeros",
    }
    steps: list[object] = [mt.RandFlipd("image", prob=strength.flip, spatial_axis=0)]
    if strength.elastic:
        steps.append(
            mt.Rand3DElasticd(
                "image",
                sigma_range=(5, 7),
                magnitude_range=(50, 100),
                spatial_size=shape,
                **geometry,
            )
        )
    else:
        steps.append(mt.RandAffined("image", spatial_size=shape, cache_grid=True, **geometry))
    if strength.gamma:
        gamma = (float(np.exp(-strength.gamma)), float(np.exp(strength.gamma)))
        steps.append(mt.RandAdjustContrastd("image", prob=1.0, gamma=gamma))
    if strength.bias:
        steps.append(mt.RandBiasFieldd("image", prob=1.0, coeff_range=(0, strength.bias)))
    return [
        *steps,
        mt.RandScaleIntensityd("image", prob=1.0, factors=strength.gain),
        mt.RandShiftIntensityd("image", prob=1.0, offsets=strength.offset),
        mt.RandGaussianNoised("image", prob=1.0, std=strength.noise),
    ]


def torchio(material: Material, strength: Strength | None, workers: int) -> Contender:
    """TorchIO reads prepared scans; it has no cache, so these are uncompressed NIfTI files."""
    import torchio as tio

    folder = material.workspace / "torchio"
    folder.mkdir(exist_ok=True)
    subjects = []
    for path in material.epoch:
        plain = folder / path.name.removesuffix(".gz")
        if not plain.exists():
            prepared = material.store.read(path.name)[0].astype(np.float32)
            nib.save(nib.Nifti1Image(prepared, np.eye(4)), plain)
        subjects.append(tio.Subject(image=tio.ScalarImage(plain)))
    steps = _torchio_augmentation(strength)
    data = tio.SubjectsDataset(subjects, transform=tio.Compose(steps) if steps else None)
    batches = tio.SubjectsLoader(
        data,
        batch_size=material.batch,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return Contender("TorchIO", _count(batches, lambda batch: batch["image"][tio.DATA]))


def _torchio_augmentation(strength: Strength | None) -> list[object]:
    import torchio as tio

    if strength is None:
        return []
    steps: list[object] = [
        tio.RandomFlip(axes=(0,), flip_probability=strength.flip),
        tio.RandomAffine(
            scales=strength.scale,
            degrees=strength.rotate,
            translation=3,
            default_pad_value=0,
        ),
    ]
    if strength.elastic:
        steps.append(tio.RandomElasticDeformation(num_control_points=7, max_displacement=2))
    if strength.gamma:
        steps.append(tio.RandomGamma(log_gamma=strength.gamma))
    if strength.bias:
        steps.append(tio.RandomBiasField(coefficients=strength.bias))
    return [*steps, tio.RandomNoise(std=(strength.noise, strength.noise))]


def _count(batches: Iterable[Any], image_of: Callable[[Any], torch.Tensor]) -> Callable[[], int]:
    def epoch() -> int:
        count = 0
        for batch in batches:
            image = image_of(batch)
            if image.dtype != torch.float32 or image.ndim != 5:
                raise TypeError(f"a batch of {image.dtype} with {image.ndim} axes")
            count += len(image)
        return count

    return epoch


def line_up(material: Material, augmentation: str) -> list[list[Contender]]:
    """Groups of contenders; of each group the fastest counts."""
    strength = STRENGTHS[augmentation]
    workers: Sequence[int] = (0, 2)
    groups = [[ours(material, strength)]]
    if strength is None:
        groups = [[stored(material)], [ours(material, None)], [raw(material)]]
    groups += [
        [monai(material, strength, kind, n) for n in workers]
        for kind in ("PersistentDataset", "CacheDataset")
    ]
    groups.append([torchio(material, strength, n) for n in workers])
    return groups
