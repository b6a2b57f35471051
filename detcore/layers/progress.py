"""Layers whose behaviour changes over a run."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scheduled(nn.Module):
    """Knows how much of the run is done: `progress`, a scalar tensor from 0 to 1, no part of a
    checkpoint (the training loop sets it anew at every step). A tensor and not a number, so that a
    compiled layer is not compiled again at every step."""

    progress: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def set_progress(self, fraction: float) -> None:
        self.progress.fill_(fraction)
