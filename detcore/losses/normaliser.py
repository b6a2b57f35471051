"""What the summed losses are divided by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detcore.config import schema
from detcore.distributed import Gang


class LossNormaliser(nn.Module):
    """The divisor of one forward pass, from the positive anchors of this rank (a scalar tensor).

    `rank`: this rank's own count, as the report had it. An image with few positives then weighs
    more the fewer images share its rank, so the batch per GPU changes the objective.
    `gang`: the mean count over the ranks: however the images are shared out over ranks, the
    gradient is the same.
    `running`: a running mean of the gang's count (momentum 0.9, as in detectron2's RetinaNet), so
    that every box weighs nearly the same whichever images it meets in its batch.

    Never below one positive in the whole gang. No host sync; one collective for `gang` and
    `running`.
    """

    mean: Tensor

    def __init__(self, kind: schema.Normaliser) -> None:
        super().__init__()
        self.kind = kind
        if kind == "running":
            self.register_buffer("mean", torch.zeros(()))  # 0: nothing seen yet

    def forward(self, num_pos: Tensor, gang: Gang) -> Tensor:
        if self.kind == "rank":
            return num_pos.clamp(min=1)
        count = gang.mean_(num_pos.clone()).clamp(min=1 / gang.world)
        if self.kind == "gang":
            return count
        count = count.clamp(min=1)
        self.mean.copy_(torch.where(self.mean == 0, count, 0.9 * self.mean + 0.1 * count))
        return self.mean.clone()
