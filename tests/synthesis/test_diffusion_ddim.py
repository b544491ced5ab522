"""DDIM where everything is known: data from a Gaussian, whose best noise predictor has a formula.

For x₀ ~ N(m, s²), noisy latents have variance v = a s² + 1 − a, the expected noise is
√(1−a)(x − √a m)/v, and the exact flow keeps (x − √a m)/√v the same, so that it ends in
m + s (x − √a m)/√v.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.networks.schedulers.ddim import DDIMScheduler
from torch import nn

from braintune.errors import InputError
from braintune.synthesis.diffusion.ddim import DDIM, noising
from braintune.synthesis.diffusion.recipe import DenoiserRecipe

MEAN, SPREAD = 0.7, 0.4
RECIPE = DenoiserRecipe(predicts="epsilon")
VELOCITY = DenoiserRecipe(predicts="v_prediction")


def kept(process: DDIMScheduler) -> np.ndarray:
    return process.alphas_cumprod.double().numpy()


def best_noise(x: np.ndarray, a: float) -> np.ndarray:
    return np.sqrt(1 - a) * (x - np.sqrt(a) * MEAN) / (a * SPREAD**2 + 1 - a)


def start() -> torch.Tensor:
    return torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def run(process: DDIMScheduler, steps: int, predict: Callable[..., torch.Tensor]) -> np.ndarray:
    process.set_timesteps(steps)
    x = start()
    for time in process.timesteps:
        x, _ = process.step(predict(x, kept(process)[time]), time, x)
    return x.numpy()


def noise_of(x: torch.Tensor, a: float) -> torch.Tensor:
    return torch.from_numpy(best_noise(x.numpy(), a))


def velocity_of(x: torch.Tensor, a: float) -> torch.Tensor:
    noise = noise_of(x, a)
    clean = (x - np.sqrt(1 - a) * noise) / np.sqrt(a)
    return np.sqrt(a) * noise - np.sqrt(1 - a) * clean


def brute_force(steps: int, total: int = 1000) -> np.ndarray:
    """Equation 12 of the paper, one line after the other, from the last time to the first."""
    a = kept(noising(RECIPE))
    times = [int(np.round((total - 1) * (1 - i / max(steps - 1, 1)))) for i in range(steps)]
    x = start().numpy()
    for i, time in enumerate(times):
        following = a[times[i + 1]] if i + 1 < steps else 1.0
        noise = best_noise(x, a[time])
        clean = (x - np.sqrt(1 - a[time]) * noise) / np.sqrt(a[time])
        x = np.sqrt(following) * clean + np.sqrt(1 - following) * noise
    return x


def exact() -> np.ndarray:
    a = kept(noising(RECIPE))[-1]
    x = start().numpy()
    return MEAN + SPREAD * (x - np.sqrt(a) * MEAN) / np.sqrt(a * SPREAD**2 + 1 - a)


@pytest.mark.parametrize("steps", [1, 7, 30, 50])
def test_steps_are_those_of_the_paper(steps: int) -> None:
    reference = brute_force(steps)
    np.testing.assert_allclose(run(noising(RECIPE), steps, noise_of), reference, atol=1e-5)
    np.testing.assert_allclose(run(noising(VELOCITY), steps, velocity_of), reference, atol=1e-5)


def test_many_steps_reach_the_exact_flow_and_monais_own_do_not() -> None:
    truth = exact()
    ours = np.abs(run(noising(RECIPE), 300, noise_of) - truth).max()
    assert ours < 0.04
    theirs = DDIMScheduler(
        schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0205, clip_sample=False
    )
    assert np.abs(run(theirs, 300, noise_of) - truth).max() > 3 * ours


@pytest.mark.parametrize("steps", [0, 1001])
def test_more_steps_than_times_are_refused(steps: int) -> None:
    with pytest.raises(InputError, match="from 1 to 1000"):
        noising(RECIPE).set_timesteps(steps)


def test_guidance_moves_along_the_difference_that_conditions_make() -> None:
    """A network of two known answers: guidance g gives u + g (c − u) at every step."""
    from monai.inferers.inferer import LatentDiffusionInferer

    class Known(nn.Module):
        def forward(
            self, x: torch.Tensor, timesteps: object, context: torch.Tensor
        ) -> torch.Tensor:
            assert timesteps is not None
            hidden = (context < 0).all(dim=2)[:, :, None, None, None]
            return torch.where(hidden, 0.2 * x, 0.2 * x + 0.1 * context[..., None, None])

    class Identity(nn.Module):
        def decode_stage_2_outputs(self, z: torch.Tensor) -> torch.Tensor:
            return z

    noise = torch.randn(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    context = torch.tensor([0.3, 0.9])[:, None, None]
    for guidance in (0.0, 1.0, 2.5):
        process = noising(RECIPE)
        process.set_timesteps(4)
        made = LatentDiffusionInferer(process).sample(
            noise, Identity(), Known(), conditioning=context, verbose=False, cfg=guidance
        )
        expected = noise
        for time in process.timesteps:
            answer = 0.2 * expected + guidance * 0.1 * context[..., None, None]
            expected, _ = DDIM.step(process, answer, time, expected)
        torch.testing.assert_close(made, expected)
