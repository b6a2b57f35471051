"""Learning-rate schedules against torch's own schedulers and hand-made values."""

import pytest
import torch

from detcore.config.schema import CosineSchedule, StepSchedule
from detcore.schedule import learning_rate


def torch_rates(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_step_schedule_equals_multistep_lr():
    schedule = StepSchedule(milestones=(2 / 3, 5 / 6), gamma=0.1)
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones=[80, 100], gamma=0.1), 120
    )
    assert [learning_rate(schedule, 0.02, s, 120) for s in range(120)] == pytest.approx(expected)


def test_cosine_schedule_equals_cosine_annealing_lr():
    schedule = CosineSchedule(floor=1e-4)
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=1e-4), 50
    )
    assert [learning_rate(schedule, 0.02, s, 50) for s in range(50)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", [StepSchedule(warmup_steps=4), CosineSchedule(warmup_steps=4)])
def test_warmup_rises_linearly_and_meets_the_base_rate(schedule):
    rates = [learning_rate(schedule, 0.02, s, 100) for s in range(5)]
    assert rates == pytest.approx([0.005, 0.010, 0.015, 0.020, 0.020])


def test_the_reports_schedule():
    """120k steps, 0.02 to 80k, 0.002 to 100k, 0.0002 to the end (seed report, base config)."""
    schedule = StepSchedule(milestones=(80 / 120, 100 / 120), warmup_steps=1000)
    at = {500: 0.01002, 999: 0.02, 79_999: 0.02, 80_000: 0.002, 99_999: 0.002, 100_000: 0.0002}
    for step, rate in at.items():
        assert learning_rate(schedule, 0.02, step, 120_000) == pytest.approx(rate)


def test_a_base_rate_below_the_floor_is_kept():
    assert learning_rate(CosineSchedule(floor=1.0), 0.02, 70, 100) == pytest.approx(0.02)
