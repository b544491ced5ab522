"""The noising process, and sampling by DDIM (Song, Meng, Ermon, ICLR 2021)."""

import torch
from monai.networks.schedulers.ddim import DDIMScheduler

from braintune.errors import InputError
from braintune.synthesis.diffusion.recipe import DenoiserRecipe


class DDIM(DDIMScheduler):
    """MONAI's scheduler with steps that lead from each of its times exactly to the next.

    MONAI's spreads the times evenly from the process's end to its beginning, but takes each step as
    if it were ``timesteps // steps`` long. The noise that is left is then not the noise that the
    next step takes for granted, and more steps make samples worse instead of better. Here, the
    times are the same and every step knows the next one.
    """

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Choose the times of sampling.

        Args:
            num_inference_steps: How many.
            device: Where the times are kept.

        Raises:
            InputError: If there are more than the noising process has.
        """
        total, count = self.num_train_timesteps, num_inference_steps
        if not 1 <= count <= total:
            raise InputError(f"Sampling takes from 1 to {total} steps, not {count}.")
        self.num_inference_steps = count
        times = torch.linspace(total - 1, 0, count).round().long().tolist()
        self.timesteps = torch.tensor(times, device=device)
        self._next = dict(zip(times, [*times[1:], None], strict=True))

    def step(  # type: ignore[override, unused-ignore]
        self, model_output: torch.Tensor, timestep: int, sample: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One deterministic step, equation 12 of the paper with its sigma being 0.

        Args:
            model_output: What the network predicts.
            timestep: One of `timesteps`.
            sample: Noisy latents at that time.

        Returns:
            The latents at the next time, and what the network takes for the clean ones.
        """
        time = int(timestep)
        following = self._next[time]
        kept = self.alphas_cumprod[time].to(sample)
        left = sample.new_tensor(1.0) if following is None else self.alphas_cumprod[following]
        left = left.to(sample)
        if self.prediction_type == "epsilon":
            clean = (sample - (1 - kept).sqrt() * model_output) / kept.sqrt()
            noise = model_output
        else:
            clean = kept.sqrt() * sample - (1 - kept).sqrt() * model_output
            noise = kept.sqrt() * model_output + (1 - kept).sqrt() * sample
        return left.sqrt() * clean + (1 - left).sqrt() * noise, clean


def noising(recipe: DenoiserRecipe) -> DDIM:
    """The noising process of a recipe.

    Example:
        >>> process = noising(DenoiserRecipe())
        >>> process.set_timesteps(4)
        >>> process.timesteps.tolist()
        [999, 666, 333, 0]
    """
    return DDIM(
        num_train_timesteps=recipe.timesteps,
        schedule="scaled_linear_beta",
        beta_start=recipe.beta_start,
        beta_end=recipe.beta_end,
        prediction_type=recipe.predicts,
        clip_sample=False,
    )
