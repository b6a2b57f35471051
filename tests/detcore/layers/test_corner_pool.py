"""Corner pools against plain loops over cells."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from detcore.layers.corner_pool import CORNER_POOLS, Direction, exact_pool, sliding_pool

DIRECTIONS: tuple[Direction, ...] = ("top", "left", "bottom", "right")
STEP = {"top": (1, 0), "left": (0, 1), "bottom": (-1, 0), "right": (0, -1)}
"""Where the exact pool looks from a cell: (rows, columns)."""


def distinct(*shape: int) -> Tensor:
    """Values of both signs, no two less than 0.1 apart, so that a maximum has a derivative."""
    count = torch.Size(shape).numel()
    torch.manual_seed(0)
    return ((torch.randperm(count) - count // 2).double() / 10 + 0.03).view(shape)


def loop(x: Tensor, step: tuple[int, int], window: int | None) -> Tensor:
    """Walk from each cell along `step`, to the border or over `window` cells, zeros beyond it."""
    out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for i in range(height):
        for j in range(width):
            best = x[..., i, j]
            for n in range(1, window or max(height, width)):
                row, column = i + n * step[0], j + n * step[1]
                if 0 <= row < height and 0 <= column < width:
                    best = torch.maximum(best, x[..., row, column])
                elif window:
                    best = best.clamp(min=0)
            out[..., i, j] = best
    return out


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_exact_pool_equals_a_loop_to_the_border(direction: Direction) -> None:
    x = distinct(2, 3, 6, 9)
    assert torch.equal(exact_pool(x, direction), loop(x, STEP[direction], None))


def test_exact_pools_by_hand() -> None:
    x = torch.tensor([[[[1.0, 3, 2], [4, -1, 0]]]])
    assert exact_pool(x, "top")[0, 0].tolist() == [[4, 3, 2], [4, -1, 0]]
    assert exact_pool(x, "bottom")[0, 0].tolist() == [[1, 3, 2], [4, 3, 2]]
    assert exact_pool(x, "left")[0, 0].tolist() == [[3, 3, 2], [4, 0, 0]]
    assert exact_pool(x, "right")[0, 0].tolist() == [[1, 3, 3], [4, 4, 4]]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [(2, 2, 9, 7), (1, 1, 2, 3)], ids=["map", "below the window"])
def test_sliding_pool_equals_a_loop_whose_rows_run_the_wrong_way(
    direction: Direction, shape: tuple[int, ...]
) -> None:
    """The report's form: left and right look as the exact pools do, top and bottom the other
    way."""
    x = distinct(*shape)
    rows, columns = STEP[direction]
    assert torch.equal(sliding_pool(x, direction, 4), loop(x, (-rows, columns), 4))


@pytest.mark.parametrize(("kind", "window"), [("maxpool", 11), ("maxpool_v2", 13)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_bright_cell_shines_as_far_as_the_window(
    kind: str, window: int, direction: Direction
) -> None:
    x = torch.zeros(1, 1, 41, 41)
    x[0, 0, 20, 20] = 1
    lit = CORNER_POOLS[kind](x, direction)[0, 0]
    rows, columns = STEP[direction]
    expected = torch.zeros(41, 41)
    for n in range(window):  # who looks one way sees what lies the other way from the light
        expected[20 + n * rows, 20 - n * columns] = 1
    assert torch.equal(lit, expected)


@pytest.mark.parametrize("kind", ["exact", "maxpool"])
def test_centre_pooling_takes_the_whole_neighbourhood(kind: str) -> None:
    """Both directions in turn: the exact pools give the maximum of the column or row, the sliding
    ones that of the 21 cells round the cell, wrong way or not."""
    x = distinct(1, 2, 30, 26)
    pool = CORNER_POOLS[kind]
    column = pool(pool(x, "top"), "bottom")
    row = pool(pool(x, "left"), "right")
    if kind == "exact":
        assert torch.equal(column, x.amax(-2, keepdim=True).expand_as(x))
        assert torch.equal(row, x.amax(-1, keepdim=True).expand_as(x))
    else:
        assert torch.equal(column[..., 12, 4], x[..., 2:23, 4].amax(-1))
        assert torch.equal(row[..., 4, 12], x[..., 4, 2:23].amax(-1))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("pool", [exact_pool, partial(sliding_pool, window=3)])
def test_gradient(pool: object, direction: Direction) -> None:
    x = distinct(1, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: pool(v, direction), x)  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", list(CORNER_POOLS))
def test_the_dtype_and_the_values_are_kept(kind: str, dtype: torch.dtype) -> None:
    x = distinct(1, 3, 5, 6).to(dtype).to(memory_format=torch.channels_last)
    for direction in DIRECTIONS:
        y = CORNER_POOLS[kind](x, direction)
        assert y.dtype == dtype
        assert torch.equal(y.double(), CORNER_POOLS[kind](x.double(), direction))
