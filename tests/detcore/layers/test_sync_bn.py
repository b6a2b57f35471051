"""Synchronised batch norm in two real processes against batch norm of both batches in one."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detcore.config import schema
from detcore.distributed import Gang, process_group
from detcore.layers.norm_act import build_norm_act
from tests.detcore.layers.helpers import randomise

CFG = schema.SyncBatchNorm(act="swish", eps=1e-3, momentum=0.3)
STEPS = [  # batch, height, width of rank 0 and of rank 1
    ((2, 5, 4), (1, 3, 2)),
    ((1, 1, 1), (3, 2, 7)),
    ((1, 1, 1), (1, 1, 1)),
]


def maps(step: int) -> list[Tensor]:
    """One map a rank, far apart in mean and spread."""
    torch.manual_seed(step)
    return [
        torch.randn(b, 3, h, w, dtype=torch.double) * (1 + 2 * rank) + 5 * rank
        for rank, (b, h, w) in enumerate(STEPS[step])
    ]


def in_a_row(x: Tensor) -> Tensor:
    """B x C x H x W -> 1 x C x 1 x B H W."""
    return x.transpose(0, 1).reshape(1, x.shape[1], 1, -1)


def rank_of_two(rank: int, folder: Path) -> None:
    """Each rank does both: its part in the gang, and the whole by itself."""
    torch.set_num_threads(1)
    with process_group(Gang(rank, 2, rank), folder / "meeting", "cpu", timeout_s=300):
        torch.manual_seed(7)
        layer = randomise(build_norm_act(CFG, 3)).double()
        alone = nn.BatchNorm2d(3, eps=CFG.eps, momentum=CFG.momentum).double()
        alone.load_state_dict(layer.state_dict())
        for step in range(len(STEPS)):
            both = maps(step)
            x = both[rank].requires_grad_()
            y = layer(x)
            row = torch.cat([in_a_row(m) for m in both], dim=3).detach().requires_grad_()
            expected = nn.functional.silu(alone(row))
            sizes = [m[:, 0].numel() for m in both]
            torch.testing.assert_close(in_a_row(y), expected.split(sizes, dim=3)[rank])

            slope = torch.randn_like(expected)  # the same on both ranks
            mine = slope.split(sizes, dim=3)[rank]
            ours = torch.autograd.grad((in_a_row(y) * mine).sum(), [x, layer.weight, layer.bias])
            theirs = torch.autograd.grad((expected * slope).sum(), [row, alone.weight, alone.bias])
            torch.testing.assert_close(in_a_row(ours[0]), theirs[0].split(sizes, dim=3)[rank])
            for gradient, whole in zip(ours[1:], theirs[1:], strict=True):
                dist.all_reduce(gradient)
                torch.testing.assert_close(gradient, whole)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[name], value)

        # evaluation asks nobody: a rank may do it alone
        if rank == 0:
            torch.testing.assert_close(layer.eval()(x), nn.functional.silu(alone.eval()(x)))

        wide = (1 + 0.05 * torch.randn(1, 3, 8, 8 + rank)).bfloat16()
        layer = build_norm_act(CFG, 3)
        y = layer(wide)
        assert y.dtype == torch.bfloat16
        assert layer.running_mean.dtype == torch.float32
        torch.testing.assert_close(y.float(), layer(wide.float()), rtol=1e-2, atol=1e-2)


def test_two_ranks_with_unequal_maps_are_batch_norm_of_all_values(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank_of_two, args=(tmp_path,), nprocs=2)


def test_a_gang_of_one_is_batch_norm() -> None:
    torch.manual_seed(0)
    sync, plain = (
        build_norm_act(kind(momentum=0.3), 3) for kind in (schema.SyncBatchNorm, schema.BatchNorm)
    )
    for size in ((2, 3, 4, 4), (1, 3, 1, 1)):
        x = torch.randn(size)
        assert torch.equal(sync(x), plain(x))
    for name, value in plain.state_dict().items():
        assert torch.equal(sync.state_dict()[name], value)
