"""The wiring of CenterNet's branches, written out with bare convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.heads.centernet import CenterNetHead
from detcore.layers.corner_pool import CORNER_POOLS

NONE = schema.NoNorm()


def head(pooling: str) -> CenterNetHead:
    torch.manual_seed(0)
    cfg = schema.CenterNet(norm_act=NONE, pooling=pooling)  # type: ignore[arg-type]
    built = CenterNetHead(cfg, 8, 3)
    for p in built.parameters():
        nn.init.normal_(p, std=0.3)  # biases too
    return built


def after(state: dict[str, Tensor], name: str, x: Tensor, relu: bool, dilation: int = 1) -> Tensor:
    """The convolution `name`, alone or with a ReLU."""
    name = name + ".conv" if f"{name}.conv.weight" in state else name
    weight = state[f"{name}.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    y = F.conv2d(x, weight, state[f"{name}.bias"], padding=padding, dilation=dilation)
    return y.relu() if relu else y


@pytest.mark.parametrize("pooling", list(CORNER_POOLS))
@pytest.mark.parametrize(("corner", "down", "across"), [(0, "top", "left"), (1, "bottom", "right")])
def test_a_corner_branch_is_its_formula(pooling: str, corner: int, down: str, across: str) -> None:
    """y1 = D(c(a(x) + A(b(x)))), y2 = A(c'(a'(x) + D(b'(x)))), out = e(N(d(y1 + y2)) + N(s(x))),
    with D the pool down (up for bottom-right) and A the pool across."""
    branch = head(pooling).branches[corner]
    state, x = branch.state_dict(), torch.randn(2, 8, 15, 14)
    v2, pool = pooling == "maxpool_v2", CORNER_POOLS[pooling]
    dilation, summed = 2 if v2 else 1, torch.zeros(())
    for path, first, last in (("vertical", across, down), ("horizontal", down, across)):
        look = after(state, f"{path}.look", x, v2, dilation)
        direct = after(state, f"{path}.direct", x, v2, dilation)
        seen = direct + pool(look, first)  # type: ignore[arg-type]
        summed = summed + pool(after(state, f"{path}.joint", seen, v2), last)  # type: ignore[arg-type]
    merged = after(state, "merge.pooled", summed, True) + after(state, "merge.shortcut", x, True)
    torch.testing.assert_close(branch(x), after(state, "merge.out", merged, False))


@pytest.mark.parametrize("pooling", ["exact", "maxpool"])
def test_the_centre_branch_pools_columns_and_rows(pooling: str) -> None:
    branch = head(pooling).branches[2]
    state, x = branch.state_dict(), torch.randn(2, 8, 9, 8)  # 11 cells either way are the whole map
    column, row = after(state, "column", x, False), after(state, "row", x, False)
    column, row = column.amax(2, keepdim=True), row.amax(3, keepdim=True)
    if pooling == "maxpool":  # zeros beyond the border
        column, row = column.relu(), row.relu()
    summed = column.expand(-1, -1, 9, -1) + row.expand(-1, -1, -1, 8)
    merged = after(state, "merge.pooled", summed, True) + after(state, "merge.shortcut", x, True)
    torch.testing.assert_close(branch(x), after(state, "merge.out", merged, False))


def test_every_output_is_read_off_its_own_branch() -> None:
    """A branch put out silences its own predictors and no others."""
    built = head("exact")
    x = torch.randn(1, 8, 6, 7)
    before = built(x)
    for i in range(3):
        handle = built.branches[i].register_forward_hook(lambda _, __, y: y * 0)
        maps = built(x)
        handle.remove()
        for j in range(3):
            assert (j == i) != torch.equal(maps.heatmaps[:, j], before.heatmaps[:, j])
            assert (j == i) != torch.equal(maps.offsets[:, j], before.offsets[:, j])
            assert j == 2 or (j == i) != torch.equal(maps.tags[:, j], before.tags[:, j])


@pytest.mark.parametrize("pooling", ["exact", "maxpool_v2"])
def test_one_graph(pooling: str) -> None:
    built, x = head(pooling), torch.randn(1, 8, 6, 7)
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    for mine, other in zip(compiled(x), built(x), strict=True):
        torch.testing.assert_close(mine, other)
