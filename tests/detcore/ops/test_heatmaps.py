"""Heatmap targets and peaks against plain loops, and what the radius rule is worth."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from detcore.ops.heatmaps import BOXES_AT_ONCE, gaussian_heatmaps, gaussian_radius, top_peaks


def moved_iou(width: float, height: float, first: float, second: float) -> float:
    """IoU of a box with the one whose corners moved outwards by `first` and `second`."""
    box = torch.tensor([[0.0, 0, width, height]])
    other = torch.tensor([[-first, -first, width + second, height + second]])
    return float(box_iou(box, other))


def original_rule(height: float, width: float, t: float) -> float:
    """CornerNet's rule in its first form, case by case."""
    total, product = height + width, height * width
    one = (total + math.sqrt(total**2 - 4 * product * (1 - t) / (1 + t))) / 2
    two = (2 * total + math.sqrt(4 * total**2 - 16 * product * (1 - t))) / 2
    three = (-2 * t * total + math.sqrt(4 * t**2 * total**2 + 16 * t * product * (1 - t))) / 2
    return min(one, two, three)


@settings(max_examples=100, deadline=None)
@given(
    width=st.floats(0.1, 100), height=st.floats(0.1, 100), t=st.sampled_from([0.3, 0.5, 0.7, 0.9])
)
def test_radius_is_the_least_of_the_original_rules_three_values(
    width: float, height: float, t: float
) -> None:
    found = gaussian_radius(torch.tensor(height).double(), torch.tensor(width).double(), t)
    assert float(found) == pytest.approx(original_rule(height, width, t), rel=1e-6, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(width=st.floats(1, 100), height=st.floats(1, 100))
def test_what_the_radius_guarantees(width: float, height: float) -> None:
    """A box grown by radius / 2.8 has an IoU of 0.7; one moved by the radius itself has less."""
    r = float(gaussian_radius(torch.tensor(height), torch.tensor(width)))
    assert moved_iou(width, height, r / 2.8, r / 2.8) == pytest.approx(0.7, abs=1e-3)
    assert moved_iou(width, height, r, r) < 0.7
    assert moved_iou(width, height, -r, r) < 0.7


def test_radius_of_a_square_by_hand() -> None:
    """10 x 10: 0.7 (sqrt(400 + 4 * 0.3 / 0.7 * 100) - 20) = 2.732; corners moved that far outwards
    leave an IoU of 100 / 15.464^2 = 0.418 instead of the 0.7 aimed at, and inwards of 0.206."""
    r = float(gaussian_radius(torch.tensor(10.0), torch.tensor(10.0)))
    assert r == pytest.approx(2.7332, abs=1e-3)
    assert moved_iou(10, 10, r, r) == pytest.approx(0.418, abs=1e-3)
    assert moved_iou(10, 10, -r, -r) == pytest.approx(0.206, abs=1e-3)


def slow_heatmaps(
    cells: Tensor,
    radius: Tensor,
    labels: Tensor,
    num_classes: int,
    size: tuple[int, int],
    spread: float,
) -> Tensor:
    target = torch.zeros(len(cells), num_classes, *size)
    for b in range(len(cells)):
        for (x, y), r, label in zip(
            cells[b].tolist(), radius[b].tolist(), labels[b].tolist(), strict=True
        ):
            if label < 0:
                continue
            sigma = (2 * r + 1) / spread
            for i in range(size[0]):
                for j in range(size[1]):
                    if abs(i - y) <= r and abs(j - x) <= r:
                        value = math.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * sigma**2))
                        target[b, label, i, j] = max(float(target[b, label, i, j]), value)
    return target


@pytest.mark.parametrize("boxes", [0, 1, 6, 2 * BOXES_AT_ONCE + 1])
@pytest.mark.parametrize("spread", [5.0, 6.0])
def test_targets_equal_a_loop(boxes: int, spread: float) -> None:
    torch.manual_seed(boxes)
    size, k = (9, 12), 3
    cells = torch.stack((torch.randint(12, (2, boxes)), torch.randint(9, (2, boxes))), dim=-1)
    radius = torch.rand(2, boxes) * 4
    labels = torch.randint(-1, k, (2, boxes))
    labels[1] = -1  # an image without boxes
    found = gaussian_heatmaps(cells, radius, labels, k, size, spread)
    torch.testing.assert_close(found, slow_heatmaps(cells, radius, labels, k, size, spread))
    assert found[1].eq(0).all()
    for (x, y), label in zip(cells[0].tolist(), labels[0].tolist(), strict=True):
        assert label < 0 or found[0, label, y, x] == 1


def test_a_bell_by_hand() -> None:
    """Radius 1 with spread 6 is sigma 0.5: exp(-2) beside the cell and exp(-4) across from it;
    nothing two cells away."""
    cells, labels = torch.tensor([[[2, 1]]]), torch.tensor([[0]])
    found = gaussian_heatmaps(cells, torch.ones(1, 1), labels, 1, (4, 5), 6.0)[0, 0]
    a, b = math.exp(-2), math.exp(-4)
    expected = [[0, b, a, b, 0], [0, a, 1, a, 0], [0, b, a, b, 0], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("count", [3, 20, 1000])
def test_peaks_equal_a_loop(count: int) -> None:
    torch.manual_seed(0)
    heat = torch.rand(2, 3, 6, 7) + 0.01
    scores, labels, cells = top_peaks(heat, count)
    assert scores.shape == (2, min(count, 3 * 6 * 7))
    for b in range(2):
        expected = []
        for k in range(3):
            for i in range(6):
                for j in range(7):
                    near = heat[b, k, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
                    if heat[b, k, i, j] == near.max():
                        expected.append((float(heat[b, k, i, j]), k, i * 7 + j))
        expected.sort(reverse=True)
        found = zip(scores[b].tolist(), labels[b].tolist(), cells[b].tolist(), strict=True)
        assert [f for f in found if f[0] > 0] == expected[:count]
