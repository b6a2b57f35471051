"""The threshold that ATSS and its relatives give to each box.

Shape legend: B batch, M boxes of the fullest image, N anchors looked at.
"""

from __future__ import annotations

from torch import Tensor


def mean_plus_deviation(iou: Tensor, among: Tensor, correction: int) -> Tensor:
    """iou B x M x N, among B x M x N bool -> B x M: mean + standard deviation of the values in
    `among`, dividing by their number less `correction` (one value: deviation 0); 0 without any.

    Measured from the largest value, so that a threshold which equals that value in exact arithmetic
    (one candidate, two, all alike, half and half) equals it in float32 too. Such sets are common,
    and whether their best anchor is positive must not hang on rounding.
    """
    count = among.sum(dim=-1).float()
    divisor = count.clamp(min=1.0)
    top = iou.masked_fill(~among, 0.0).amax(dim=-1)
    below = (iou - top[..., None]).masked_fill(~among, 0.0)
    mean = below.sum(dim=-1) / divisor
    spread = (below - mean[..., None]).masked_fill(~among, 0.0).square().sum(dim=-1)
    deviation = (spread / (count - correction).clamp(min=1.0)).sqrt()
    return top + (mean + deviation)
