"""DropBlock (Ghiasi et al. 2018): squares of a map set to 0 in training.

Shape legend: B batch, C channels, H x W map, k side of a square.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detcore.config import schema
from detcore.layers.progress import Scheduled


class DropBlock(Scheduled):
    """B x C x H x W in and out, dtype kept; the identity outside training and at progress 0.

    A seed falls on each cell at which a whole k x k square fits with the probability

        gamma = (1 - keep) H W / (k^2 (H - k + 1) (W - k + 1)),  keep = 1 - drop * progress

    (the paper's equation 1 and its linear schedule), independently for every sample, cell and
    channel (the paper's better form; one mask for all channels is its other). The square around a
    seed becomes 0 and what is left is divided by its share, cells kept over cells of the whole
    tensor, which the gradient takes as a constant. Squares overlap, so that a little more
    than `keep` is left.

    On a map smaller than the square k is the largest odd number that fits (neither the report nor
    the paper says what happens there: P5 of a small image). `progress` stays a tensor all the way,
    so the host does not wait. When nothing is kept (a 1 x 1 map) the output is 0 and finite.
    """

    def __init__(self, cfg: schema.DropBlock) -> None:
        super().__init__()
        self.size, self.drop = cfg.size, cfg.drop

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return x
        return x * self.scaled_mask(x)

    @torch.no_grad()
    def scaled_mask(self, x: Tensor) -> Tensor:
        """For each value of x: 0 where it is dropped, else cells / cells kept; in x's dtype."""
        height, width = x.shape[-2:]
        size = min(self.size, height, width)
        size -= 1 - size % 2
        rows, columns = height - size + 1, width - size + 1
        gamma = self.drop * self.progress * (height * width / (size**2 * rows * columns))
        seeds = torch.rand(*x.shape[:2], rows, columns, device=x.device) < gamma
        # seed (i, j) stands for the square with its corner there; k - 1 more cells on each side let
        # the max filter spread it over the square
        padded = F.pad(seeds.float(), [size - 1] * 4)
        mask = 1 - F.max_pool2d(padded, size, stride=1)
        kept = mask.mean().clamp(min=1 / mask.numel())
        return (mask / kept).to(x.dtype)

    def extra_repr(self) -> str:
        return f"size={self.size}, drop={self.drop}"
