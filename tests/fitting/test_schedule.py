"""Learning rates against their formulas and against torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from braintune.fitting.schedule import lr_factor


@given(
    total=st.integers(2, 300),
    power=st.floats(0.1, 5),
    warmup=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_a_polynomial_is_what_is_left_to_a_power(total: int, power: float, warmup: float) -> None:
    rising = max(1, round(warmup * total)) if warmup else 0
    for step in range(total):
        left = (total - step) / (total - rising) if total > rising else 1.0
        expected = (step + 1) / rising if step < rising else left**power
        assert lr_factor(step, total, warmup, "polynomial", power) == pytest.approx(expected)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.3), (100, 0.25), (7, 0.5), (50, 0.9)])
def test_one_cycle_is_torchs(total: int, warmup: float) -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=total, pct_start=warmup, cycle_momentum=False
    )
    for step in range(total):
        expected = optimiser.param_groups[0]["lr"]
        assert lr_factor(step, total, warmup, "one-cycle") == pytest.approx(expected, rel=1e-6)
        optimiser.step()
        if step < total - 1:
            reference.step()


@given(total=st.integers(1, 60), warmup=st.floats(0.01, 0.95))
def test_one_cycle_rises_once_and_falls_once(total: int, warmup: float) -> None:
    factors = [lr_factor(step, total, warmup, "one-cycle") for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
