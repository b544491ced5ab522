from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.console import progress
from braintune.errors import InputError
from braintune.files import read_lines
from braintune.imaging.preparation import PreparedScan
from braintune.models.weights.tensors import read_tensors
from braintune.synthesis.diffusion import loop, train
from braintune.synthesis.diffusion.autoencoder_training import autoencoder_losses
from braintune.synthesis.diffusion.chance import batch_rows, generator
from braintune.synthesis.diffusion.data import TrainingData, training_data, with_columns
from braintune.synthesis.diffusion.ddim import noising
from braintune.synthesis.diffusion.denoiser_training import denoiser_losses
from braintune.synthesis.diffusion.loop import DivergedError, Places, Stage, train_stage
from braintune.synthesis.diffusion.model import read_record
from braintune.synthesis.diffusion.networks import (
    HIDDEN,
    ConditionedDenoiser,
    build_autoencoder,
    build_denoiser,
)
from braintune.synthesis.diffusion.recipe import DiffusionRecipe, OptimisationRecipe

RECIPE = DiffusionRecipe.read("tiny")
FILES = ("autoencoder.safetensors", "denoiser.safetensors")


@pytest.fixture(scope="module")
def data(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return training_data(cohort(cohort_folder), RECIPE, tmp_path_factory.mktemp("store"), 1)


def quick(data: TrainingData) -> train.Execution:
    return train.Execution(workers=1, checkpoint_every=0.0, store=data.store.path)


def cohort(folder: Path) -> Cohort:
    return with_columns(read_cohort(folder), folder / "truth.tsv")


class StoppedError(Exception):
    pass


def stop_after(updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the training die in the middle of an update, as a killed process does."""
    done = 0
    real = loop._update

    def update(*arguments: object) -> float:
        nonlocal done
        if done == updates:
            raise StoppedError
        done += 1
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_update", update)


@pytest.fixture(scope="module")
def whole(
    cohort_folder: Path, data: TrainingData, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A training that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "model"
    train.train(cohort(cohort_folder), out, RECIPE, quick(data))
    return out


@pytest.mark.parametrize("updates", [2, 4, 6])
def test_a_killed_training_goes_on_to_the_same_weights(
    updates: int,
    whole: Path,
    data: TrainingData,
    cohort_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subjects, execution = cohort(cohort_folder), quick(data)
    with monkeypatch.context() as patch:
        stop_after(updates, patch)
        with pytest.raises(StoppedError):
            train.train(subjects, tmp_path / "cut", RECIPE, execution)
    resumed = train.train(subjects, tmp_path / "cut", RECIPE, execution)
    assert resumed == read_record(whole)
    for name in FILES:
        first, second = (read_tensors(folder / name) for folder in (whole, tmp_path / "cut"))
        assert all(torch.equal(first[key], second[key]) for key in first)
    histories = [read_lines(folder / "denoiser.jsonl") for folder in (whole, tmp_path / "cut")]
    assert histories[0] == histories[1]


def test_a_folder_of_another_recipe_is_refused(
    whole: Path, data: TrainingData, cohort_folder: Path, tmp_path: Path
) -> None:
    subjects = cohort(cohort_folder)
    with pytest.raises(InputError, match="another recipe or cohort"):
        train.train(subjects, whole, DiffusionRecipe.read("tiny", ["seed=1"]), quick(data))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("important")
    with pytest.raises(InputError, match="is not empty"):
        train.train(subjects, tmp_path / "full", RECIPE, quick(data))


def test_held_out_subjects_are_not_trained_on_and_scale_nothing(
    cohort_folder: Path, data: TrainingData
) -> None:
    assert set(data.trained) & set(data.held_out) == set()
    assert len(data.trained) + len(data.held_out) == 32
    assert len(data.held_out) == 3
    ages = cohort(cohort_folder).table["age"].astype(float).to_numpy()
    age = data.conditions[1]
    assert (age.low, age.high) == (ages[data.trained].min(), ages[data.trained].max())
    assert 0 <= data.values.min() <= data.values.max() <= 1
    assert set(data.values[:, 0]) == {0.0, 1.0}


def test_scans_without_a_condition_are_left_out_with_the_reason(
    cohort_folder: Path, tmp_path: Path
) -> None:
    subjects = cohort(cohort_folder)
    subjects.table.loc[3, "age"] = None
    found = training_data(subjects, RECIPE, tmp_path / "store", 1)
    assert list(found.excluded.values()) == ["without a value of every condition"]
    with pytest.raises(InputError, match=r"no column 'ventricles_ml'.*--table"):
        training_data(read_cohort(cohort_folder), RECIPE, tmp_path / "other", 1)


def test_a_bad_number_stops_names_scan_and_step_and_keeps_the_checkpoint(
    cohort_folder: Path, tmp_path: Path
) -> None:
    store, out = tmp_path / "store", tmp_path / "model"
    recipe = DiffusionRecipe.read("tiny", ["autoencoder.train.steps=40"])
    subjects = cohort(cohort_folder)
    found = training_data(subjects, recipe, store, 1)
    step, victim = 5, found.scan_ids[int(found.trained[batch_rows(0, 5, len(found.trained), 2)[1]])]
    order = [batch_rows(0, s, len(found.trained), 2) for s in range(5)]
    assert victim not in {found.scan_ids[found.trained[row]] for rows in order for row in rows}
    facts = found.store.facts(victim)
    broken = np.full(found.store.shape, np.nan, dtype=np.float16)
    scan = PreparedScan(broken, facts.affine, facts.brain_ml, facts.voxels)
    found.store.write(victim, scan, facts.source)
    execution = train.Execution(workers=1, checkpoint_every=0.0, store=store)
    with pytest.raises(DivergedError, match=f"step {step + 1}, on {victim}") as error:
        train.train(subjects, out, recipe, execution)
    assert error.value.exit_status == 1
    kept = read_tensors(out / "work" / "autoencoder.checkpoint.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
    assert kept["adam.0.step"] == step


def test_a_gradient_that_is_no_number_stops_too(tmp_path: Path) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)

    def losses(step: int) -> torch.Tensor:
        # The root of 0 is 0, its slope is infinite.
        return (network.weight * 1.0).abs().sqrt().flatten()

    stage = Stage("denoiser", network, losses, lambda _step: ["sub-9"], OptimisationRecipe(steps=2))
    places = Places(tmp_path / "c.safetensors", tmp_path / "h.jsonl", 0.0)
    with progress("", 2) as bar, pytest.raises(DivergedError, match=r"gradient.*sub-9.*no check"):
        train_stage(stage, places, nullcontext, bar)
    assert float(network.weight.detach()) == 0.0


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    places = Places(tmp_path / "c.safetensors", tmp_path / "h.jsonl", 0.0)

    def stage(width: int) -> Stage:
        network = nn.Linear(width, 1)

        def losses(step: int) -> torch.Tensor:
            return network(torch.ones(1, width))[:, 0] ** 2

        return Stage("x", network, losses, lambda _step: ["s"], OptimisationRecipe(steps=1))

    with progress("", 2) as bar:
        train_stage(stage(2), places, nullcontext, bar)
        with pytest.raises(InputError, match="of another network"):
            train_stage(stage(3), places, nullcontext, bar)
        places.checkpoint.write_bytes(b"\x80\x04pickle")
        with pytest.raises(InputError, match="no safetensors"):
            train_stage(stage(2), places, nullcontext, bar)


def test_every_epoch_shows_every_row_once() -> None:
    rows = [row for step in range(9) for row in batch_rows(3, step, 6, 2)]
    for start in range(0, 18, 6):
        assert sorted(rows[start : start + 6]) == list(range(6))
    assert rows[:6] != rows[6:12]
    assert {batch_rows(0, 0, 3, 7).count(row) for row in range(3)} == {2, 3}


def test_the_moving_average_is_what_is_kept(tmp_path: Path) -> None:
    """Against the recursion written out, with the start that forgets faster."""
    network = nn.Linear(1, 1, bias=False)
    seen: list[float] = []

    def losses(step: int) -> torch.Tensor:
        seen.append(float(network.weight.detach()))
        return (network.weight[0] - 3) ** 2

    recipe = OptimisationRecipe(steps=6, lr=0.5, ema=0.3)
    stage = Stage("x", network, losses, lambda _step: ["s"], recipe)
    places = Places(tmp_path / "c.safetensors", tmp_path / "h.jsonl", 0.0)
    with progress("", 6) as bar:
        train_stage(stage, places, nullcontext, bar)
    last = float(read_tensors(places.checkpoint)["network.weight"])
    average = seen[0]
    for step, weight in enumerate([*seen[1:], last]):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert float(network.weight.detach()) == pytest.approx(average, rel=1e-5)


def test_the_autoencoder_is_trained_on_error_and_divergence() -> None:
    torch.manual_seed(0)
    network = build_autoencoder(RECIPE)
    images, noise = torch.rand(2, 1, 16, 16, 16), torch.randn(2, *RECIPE.latent_shape)
    found = autoencoder_losses(network, images, noise, kl=0.01)
    mean, deviation = network.encode(images)
    from torch.distributions import Normal, kl_divergence

    divergence = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).flatten(1).sum(1)
    error = (network.decode(mean + deviation * noise) - images).abs().flatten(1).mean(1)
    torch.testing.assert_close(found, error + 0.01 * divergence, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_the_denoiser_is_trained_on_what_it_predicts(predicts: str) -> None:
    """A network that answers the truth has no loss; one that answers 0 has the target's square."""
    recipe = DiffusionRecipe.read("tiny", [f"denoiser.predicts={predicts}"]).denoiser
    process = noising(recipe)
    chance = generator(5)
    clean, noise = (torch.randn(3, 2, 4, 4, 4, generator=chance) for _ in range(2))
    times = torch.tensor([0, 400, 999])
    kept = process.alphas_cumprod[times][:, None, None, None, None]
    target = noise if predicts == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * clean
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def answer(value: torch.Tensor) -> Callable[..., torch.Tensor]:
        def network(x: torch.Tensor, timesteps: torch.Tensor, context: object) -> torch.Tensor:
            torch.testing.assert_close(x, noisy)
            assert torch.equal(timesteps, times)
            return value

        return network

    context = torch.zeros(3, 1, 1)
    right, silent = (
        denoiser_losses(answer(v), process, clean, noise, times, context)  # type: ignore[arg-type]
        for v in (target, torch.zeros_like(target))
    )
    torch.testing.assert_close(right, torch.zeros(3), atol=1e-9, rtol=0)
    torch.testing.assert_close(silent, target.square().flatten(1).mean(1))


def planted_denoiser(steps: int) -> ConditionedDenoiser:
    """Trained on latents that are as bright as their condition, which is hidden now and then."""
    recipe = DiffusionRecipe.read("tiny", ["conditions={age: age}"])
    torch.manual_seed(0)
    network = build_denoiser(recipe)
    process = noising(recipe.denoiser)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(steps):
        chance = generator(9, step)
        condition = torch.rand(8, 1, 1, generator=chance)
        clean = 2 * condition[..., None, None] - 1 + torch.zeros(8, 2, 4, 4, 4)
        clean = clean + 0.05 * torch.randn(clean.shape, generator=chance)
        noise = torch.randn(clean.shape, generator=chance)
        times = torch.randint(1000, (8,), generator=chance)
        hidden = torch.rand(8, 1, 1, generator=chance) < 0.15
        context = condition.masked_fill(hidden, HIDDEN)
        loss = denoiser_losses(network, process, clean, noise, times, context).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def test_a_trained_denoiser_obeys_its_condition_and_guidance_sharpens_it() -> None:
    from monai.inferers.inferer import DiffusionInferer

    network = planted_denoiser(110)
    process = noising(RECIPE.denoiser)
    process.set_timesteps(10)
    noise = torch.randn(5, 2, 4, 4, 4, generator=generator(10))
    asked = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])

    def brightness(guidance: float | None) -> np.ndarray:
        made = DiffusionInferer(process).sample(
            noise,
            network,  # type: ignore[arg-type]
            conditioning=asked[:, None, None],
            verbose=False,
            cfg=guidance,
            cfg_fill_value=HIDDEN,
        )
        assert isinstance(made, torch.Tensor)
        return made.flatten(1).mean(1).numpy()

    plain = brightness(None)
    assert np.corrcoef(asked, plain)[0, 1] > 0.95
    assert np.abs(plain - (2 * asked.numpy() - 1)).max() < 0.4
    guided = brightness(2.0)
    slopes = [np.polyfit(asked, made, 1)[0] for made in (plain, guided)]
    assert slopes[1] > slopes[0]


def test_conditions_reach_the_output_as_channels_and_by_attention() -> None:
    torch.manual_seed(0)
    network = build_denoiser(RECIPE)
    for name, parameter in network.named_parameters():
        # What MONAI starts at zero, so that at the start nothing goes through.
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1, generator=generator(len(name)))
    x, times = torch.randn(1, 2, 8, 8, 8), torch.tensor([500])
    context = torch.rand(1, 1, 4, requires_grad=True)
    network(x, times, context).square().sum().backward()
    assert context.grad is not None
    assert (context.grad != 0).all()
    channels = torch.rand(1, 4, 8, 8, 8)
    both = torch.cat([x, channels], dim=1)
    with torch.no_grad():
        first, second = (
            network.unet(both, timesteps=times, context=c) for c in (context, context + 0.5)
        )
        third = network.unet(torch.cat([x, channels + 0.5], dim=1), times, context)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, third)
