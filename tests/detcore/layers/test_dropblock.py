"""DropBlock: how much it drops, against its formula over many draws, and what it drops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from detcore.config import schema
from detcore.layers.dropblock import DropBlock
from tests.detcore.detectors.sync import NoHostWait


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(size: int, drop: float, progress: float = 1.0) -> DropBlock:
    layer = DropBlock(schema.DropBlock(size=size, drop=drop))
    layer.set_progress(progress)
    return layer


def dropped(layer: DropBlock, *shape: int) -> Tensor:
    """Which cells of ones come out as 0."""
    return layer(torch.ones(shape)) == 0


def kept_probability(size: int, drop: float, height: int, width: int) -> Tensor:
    """Of each cell of a map: no seed in any of the squares that contain it, counted one by one."""
    gamma = drop * height * width / (size**2 * (height - size + 1) * (width - size + 1))
    squares = torch.zeros(height, width)
    for top in range(height - size + 1):
        for left in range(width - size + 1):
            squares[top : top + size, left : left + size] += 1
    return (1 - gamma) ** squares


@pytest.mark.parametrize(
    ("size", "height", "width"), [(5, 14, 11), (3, 3, 8), (7, 7, 7), (1, 4, 4)]
)
def test_every_cell_is_kept_as_often_as_its_squares_say(size: int, height: int, width: int) -> None:
    """4096 maps; each cell's frequency within 5 standard errors (for all cells together this fails
    in fewer than 1 of 10,000 seeds)."""
    drop, progress, maps = 0.4, 0.75, 4096
    kept = 1 - dropped(build(size, drop, progress), 64, 64, height, width).float().mean(dim=(0, 1))
    expected = kept_probability(size, drop * progress, height, width)
    error = (expected * (1 - expected) / maps).sqrt()
    assert ((kept - expected).abs() <= 5 * error).all()


def test_kept_share_of_the_reports_setting() -> None:
    """Squares of 7, drop 0.1, on a P4 of 36 x 48: a little more than 0.9 is kept, as squares
    overlap. The bound is 5 standard errors over 1024 independent maps."""
    share = 1 - dropped(build(7, 0.1), 8, 128, 36, 48).float().mean(dim=(2, 3)).flatten()
    error = float(share.std()) / len(share) ** 0.5
    expected = float(kept_probability(7, 0.1, 36, 48).mean())
    assert abs(float(share.mean()) - expected) < 5 * error
    assert 0.9 < expected < 0.9 + 0.1**2


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
def test_schedule_is_linear(progress: float) -> None:
    """Single cells cannot overlap: the share that is dropped is drop * progress, within 5 standard
    errors."""
    cells = 200_000
    share = float(dropped(build(1, 0.6, progress), 1, 1, 500, 400).float().mean())
    expected = 0.6 * progress
    assert abs(share - expected) <= 5 * (expected * (1 - expected) / cells) ** 0.5


def test_samples_and_channels_have_masks_of_their_own() -> None:
    """The dropped share of 1000 maps pairwise: |correlation| of independent ones is below
    5 / sqrt(1000); of copies it would be 1."""
    share = dropped(build(3, 0.3), 1000, 2, 9, 9).float().mean(dim=(2, 3))
    between_channels = torch.corrcoef(share.T)[0, 1]
    between_samples = torch.corrcoef(share.view(500, 2, 2)[..., 0].T)[0, 1]
    assert abs(between_channels) < 5 / 1000**0.5
    assert abs(between_samples) < 5 / 500**0.5


@pytest.mark.parametrize(("size", "drop"), [(3, 0.02), (5, 0.3)])
def test_what_is_dropped_is_whole_squares(size: int, drop: float) -> None:
    """A cell is dropped exactly when it lies in a size x size square of dropped cells inside the
    map."""
    height, width = 9, 11
    single = 0
    for holes in dropped(build(size, drop), 8, 8, height, width).flatten(0, 1):
        covered = torch.zeros_like(holes)
        for top in range(height - size + 1):
            for left in range(width - size + 1):
                square = (slice(top, top + size), slice(left, left + size))
                if holes[square].all():
                    covered[square] = True
        assert torch.equal(covered, holes)
        single += int(holes.sum()) == size**2
    assert single > 0


def test_what_is_kept_is_multiplied_by_cells_over_cells_kept() -> None:
    x = torch.rand(4, 3, 12, 10) + 0.5
    y = build(5, 0.3)(x)
    kept = y != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(y, x * kept * (kept.numel() / kept.sum()))


def test_the_mean_of_a_map_is_kept() -> None:
    """Exactly for a constant; for any other within 5 standard errors over 400 draws, and 1 % for
    the mean of a ratio being taken as the ratio of the means."""
    layer = build(3, 0.3)
    torch.testing.assert_close(layer(torch.ones(2, 4, 9, 9)).mean(), torch.tensor(1.0))
    x = torch.zeros(2, 4, 9, 9)
    x[..., 2:7, 2:7] = torch.randn(2, 4, 5, 5) + 1  # away from the border, where less is dropped
    means = torch.stack([layer(x).sum() for _ in range(400)])
    inner = kept_probability(3, 0.3, 9, 9)
    expected = x.sum() * inner[4, 4] / inner.mean()
    assert abs(means.mean() - expected) < 5 * means.std() / 400**0.5 + 0.01 * expected.abs()


def test_gradient_is_the_mask_times_the_scale() -> None:
    layer = build(3, 0.3)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = layer(x)
    weight = torch.randn_like(x)
    (gradient,) = torch.autograd.grad((y * weight).sum(), [x])
    torch.testing.assert_close(gradient, weight * (y / x).detach())
    assert (gradient == 0).any()


def test_identity_in_evaluation_at_the_start_and_without_drop() -> None:
    x = torch.randn(2, 3, 9, 9)
    assert build(3, 0.5).eval()(x) is x
    assert build(3, 0.0)(x) is x
    assert torch.equal(build(3, 0.5, progress=0.0)(x), x)


@pytest.mark.parametrize(
    ("shape", "side"),
    [((7, 7), 7), ((6, 40), 5), ((5, 5), 5), ((4, 4), 3), ((2, 9), 1), ((1, 1), 1)],
)
def test_small_maps_take_the_largest_odd_square_that_fits(
    shape: tuple[int, int], side: int
) -> None:
    holes = dropped(build(7, 0.05), 64, 64, *shape)
    sizes = holes.sum(dim=(2, 3)).unique().tolist()
    assert sizes[:2] == [0, side**2]


def test_nothing_kept_is_finite() -> None:
    layer = build(7, 0.99)
    x = torch.randn(1, 1, 1, 1, requires_grad=True)
    outputs = [layer(x) for _ in range(50)]
    (gradient,) = torch.autograd.grad(torch.stack(outputs).sum(), [x])
    assert any(float(y.detach()) == 0 for y in outputs)
    assert all(torch.isfinite(y).all() for y in outputs)
    assert torch.isfinite(gradient).all()


def test_bf16_keeps_its_dtype() -> None:
    x = torch.ones(4, 8, 16, 16, dtype=torch.bfloat16)
    y = build(3, 0.2)(x)
    assert y.dtype == torch.bfloat16
    assert abs(float(y.float().mean()) - 1) < 2**-8  # the scale is rounded once


def test_no_host_wait_and_no_second_compilation_as_the_run_goes_on() -> None:
    layer = build(3, 0.4)
    x = torch.randn(2, 3, 9, 9)
    with NoHostWait():
        layer.set_progress(0.5)
        layer(x)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for progress in (0.1, 0.6, 1.0):
        layer.set_progress(progress)
        torch.manual_seed(7)
        expected = layer(x)
        torch.manual_seed(7)
        torch.testing.assert_close(compiled(x), expected)
    assert counter.frame_count == 1


def test_progress_is_no_part_of_a_checkpoint() -> None:
    assert build(3, 0.4).state_dict() == {}
