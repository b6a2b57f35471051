"""The divisor of the losses, by hand; over several ranks see test_train.py."""

import pytest
import torch

from detcore.distributed import Gang
from detcore.losses.normaliser import LossNormaliser


def divisors(kind: str, counts: list[float]) -> list[float]:
    normaliser = LossNormaliser(kind)
    return [normaliser(torch.tensor(n), Gang()).item() for n in counts]


@pytest.mark.parametrize("kind", ["rank", "gang"])
def test_own_count_and_never_below_one(kind):
    assert divisors(kind, [7.0, 0.0, 3.0]) == [7.0, 1.0, 3.0]


def test_running_mean_starts_at_the_first_count():
    # 8; 0.9 * 8 + 0.1 * 18 = 9; 0.9 * 9 + 0.1 * 1 (an empty batch counts as 1) = 8.2
    assert divisors("running", [8.0, 18.0, 0.0]) == pytest.approx([8.0, 9.0, 8.2])


def test_running_mean_is_saved_with_the_model():
    first = LossNormaliser("running")
    first(torch.tensor(8.0), Gang())
    second = LossNormaliser("running")
    second.load_state_dict(first.state_dict())
    assert second(torch.tensor(18.0), Gang()).item() == pytest.approx(9.0)


def test_divisors_of_earlier_steps_stay_what_they_were():
    normaliser = LossNormaliser("running")
    first = normaliser(torch.tensor(8.0), Gang())
    normaliser(torch.tensor(100.0), Gang())
    assert first.item() == 8.0
