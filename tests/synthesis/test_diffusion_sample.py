import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.files import read_json, write_json
from braintune.imaging.nifti import read_volume
from braintune.models.weights.tensors import read_tensors
from braintune.synthesis.diffusion import sample as sampling_room
from braintune.synthesis.diffusion.data import with_columns
from braintune.synthesis.diffusion.model import hashes, read_model, read_record
from braintune.synthesis.diffusion.recipe import DiffusionRecipe
from braintune.synthesis.diffusion.sample import SampleRecipe, sample
from braintune.synthesis.diffusion.sampling import sample_images, tidied
from braintune.synthesis.diffusion.train import Execution, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    subjects = with_columns(read_cohort(cohort_folder), cohort_folder / "truth.tsv")
    train(subjects, folder, DiffusionRecipe.read("tiny"), Execution(workers=1))
    return folder


def small(**changes: Any) -> SampleRecipe:
    return SampleRecipe.model_validate({"count": 5, "steps": 3, "guidance": 2, **changes})


def voxels(out: Path) -> dict[str, np.ndarray]:
    return {path.name: read_volume(path).data for path in sorted(out.rglob("*_T1w.nii.gz"))}


def test_samples_are_a_cohort_with_what_was_asked_for(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    made = sample(model, out, small(conditions={"age": 0.7, "sex": 1}), CPU)
    assert made.made == 5
    subjects = read_cohort(out)
    assert len(subjects) == 5
    assert subjects.exclusions == ()
    age = read_record(model).conditions[1]
    expected = age.low + 0.7 * (age.high - age.low)
    assert subjects.table["age"].astype(float).tolist() == pytest.approx([expected] * 5, rel=1e-5)
    assert subjects.table["sex"].tolist() == ["M"] * 5
    units = read_table(out / "participants.tsv")[["ventricles_unit", "brain_unit"]].astype(float)
    assert ((units >= 0) & (units <= 1)).all().all()
    volume = read_volume(out / "sub-0001" / "anat" / "sub-0001_T1w.nii.gz")
    np.testing.assert_allclose(volume.affine, read_record(model).affine)
    assert volume.data.shape == (16, 16, 16)


def test_a_sample_does_not_depend_on_its_batch(model: Path) -> None:
    """All but rounding: the same numbers alone, in another place and among others."""
    loaded = read_model(model)
    values = np.random.default_rng(0).random((4, 4), dtype=np.float32)
    options: Any = {"seed": 3, "steps": 4, "guidance": 1.5, "device": CPU}
    together = sample_images(loaded, values, [0, 1, 2, 3], **options)
    alone = sample_images(loaded, values[2:3], [2], **options)
    backwards = sample_images(loaded, values[::-1].copy(), [3, 2, 1, 0], **options)
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, backwards.flip(0), rtol=1e-4, atol=1e-5)
    other = sample_images(loaded, values[2:3], [5], **options)
    assert (other - alone).abs().max() > 0.01


def test_stopped_sampling_goes_on_and_gives_the_same_scans(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample(model, tmp_path / "whole", small(), CPU)
    written = 0
    real = sampling_room.write_volume

    def write(*arguments: Any) -> None:
        nonlocal written
        if written == 3:
            raise KeyboardInterrupt
        written += 1
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sampling_room, "write_volume", write)
        with pytest.raises(KeyboardInterrupt):
            sample(model, tmp_path / "cut", small(), CPU)
    assert not (tmp_path / "cut" / "participants.tsv").exists()
    resumed = sample(model, tmp_path / "cut", small(batch_size=1), CPU)
    assert resumed.made == 2
    whole, cut = voxels(tmp_path / "whole"), voxels(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for name, image in whole.items():
        # A voxel may round to the other side in a batch of another size.
        assert np.abs(image - cut[name]).max() <= 1
    assert sample(model, tmp_path / "cut", small(), CPU).made == 0
    with pytest.raises(InputError, match="another model or recipe"):
        sample(model, tmp_path / "cut", small(seed=1), CPU)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conditions": {"age": 1.2}}, r"must be in \[0, 1\]"),
        ({"conditions": {"icv": 0.2}}, "no condition 'icv'"),
        ({"steps": 1001}, "at most 1000"),
    ],
)
def test_wrong_asks_write_nothing(
    change: dict[str, Any], words: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        sample(model, tmp_path / "samples", small(**change), CPU)
    assert not (tmp_path / "samples").exists()


def test_guidance_needs_a_model_that_saw_hidden_conditions(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    document = read_json(folder / "model.json")
    document["recipe"]["denoiser"]["drop"] = 0
    write_json(folder / "model.json", document)
    with pytest.raises(InputError, match="guidance=1"):
        sample(folder, tmp_path / "samples", small(), CPU)
    assert sample(folder, tmp_path / "samples", small(guidance=1, count=1), CPU).made == 1


def test_a_model_comes_back_from_the_disk_as_it_was(model: Path) -> None:
    loaded = read_model(model)
    assert not loaded.autoencoder.training
    assert not loaded.denoiser.training
    for name, network in (
        ("autoencoder.safetensors", loaded.autoencoder),
        ("denoiser.safetensors", loaded.denoiser.unet),
    ):
        state, saved = network.state_dict(), read_tensors(model / name)
        assert all(torch.equal(state[key], saved[key]) for key in saved)
    assert loaded.seen is not None
    assert len(loaded.seen) == loaded.record.trained_on == 29
    # What only an unfinished training needs is gone.
    assert [path.name for path in (model / "work").iterdir()] == ["identity.json"]


def spoil_hash(folder: Path) -> str:
    (folder / "denoiser.safetensors").write_bytes(b"other")
    return "is not the file"


def spoil_key(folder: Path) -> str:
    path = folder / "denoiser.safetensors"
    state = read_tensors(path)
    state["more"] = state.pop("conv_in.conv.bias")
    save_file(state, path)
    rehash(folder)
    return "conv_in.conv.bias is missing, more is unknown"


def spoil_shape(folder: Path) -> str:
    path = folder / "autoencoder.safetensors"
    state = read_tensors(path)
    save_file({key: value[:1].clone() for key, value in state.items()}, path)
    rehash(folder)
    return "instead of"


def spoil_numbers(folder: Path) -> str:
    path = folder / "denoiser.safetensors"
    state = read_tensors(path)
    state["conv_in.conv.bias"][0] = float("nan")
    save_file(state, path)
    rehash(folder)
    return "no finite number in conv_in.conv.bias"


def spoil_pickle(folder: Path) -> str:
    torch.save({"weight": torch.zeros(1)}, folder / "denoiser.safetensors")
    rehash(folder)
    return "no safetensors"


def rehash(folder: Path) -> None:
    change_record(folder, sha256=hashes(folder, *read_json(folder / "model.json")["sha256"]))


def change_record(folder: Path, **changes: Any) -> None:
    write_json(folder / "model.json", {**read_json(folder / "model.json"), **changes})


def path_escape(folder: Path) -> str:
    change_record(folder, sha256={"../../secret": "0"})
    return "no right record"


def no_hash(folder: Path) -> str:
    change_record(folder, sha256={})
    return "tells no hash"


def huge(folder: Path) -> str:
    recipe = read_json(folder / "model.json")["recipe"]
    recipe["denoiser"]["channels"] = [10**9, 10**9]
    change_record(folder, recipe=recipe)
    return "no right record"


def bad_scale(folder: Path) -> str:
    (folder / "model.json").write_text(
        json.dumps({**read_json(folder / "model.json"), "scale": float("inf")})
    )
    return "no right record"


def flat_affine(folder: Path) -> str:
    change_record(folder, affine=[[0, 0, 0, 0]] * 4)
    return "can't be inverted"


def other_conditions(folder: Path) -> str:
    change_record(folder, conditions=read_json(folder / "model.json")["conditions"][:2])
    return "other conditions"


def bad_seen(folder: Path) -> str:
    text = (folder / "seen.tsv").read_text()
    (folder / "seen.tsv").write_text(text.replace("age_unit", "age"))
    rehash(folder)
    return "must hold a column age_unit"


def unfinished(folder: Path) -> str:
    (folder / "model.json").unlink()
    return "no finished model"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_hash,
        spoil_key,
        spoil_shape,
        spoil_numbers,
        spoil_pickle,
        path_escape,
        no_hash,
        huge,
        bad_scale,
        flat_affine,
        other_conditions,
        bad_seen,
        unfinished,
    ],
)
def test_spoilt_models_are_refused(spoil: Any, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    words = spoil(folder)
    with pytest.raises(InputError, match=words):
        read_model(folder)


def test_the_background_is_emptied_and_the_dark_inside_kept() -> None:
    image = np.full((12, 12, 12), 0.01, dtype=np.float32)
    image[2:10, 2:10, 2:10] = 0.8
    image[5:7, 5:7, 5:7] = -0.02  # fluid within
    image[0, 0, 0] = 0.5  # a speck
    tidy = tidied(image)
    assert tidy[0, 0, 0] == tidy[1, 5, 5] == 0
    assert (tidy[2:10, 2:10, 2:10] > 0).all()
    assert tidy[5, 5, 5] == pytest.approx(1e-3)
    assert tidy[3, 3, 3] == np.float32(0.8)
    assert not tidied(np.full((4, 4, 4), -1.0)).any()
