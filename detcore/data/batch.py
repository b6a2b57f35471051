"""What the loader hands to the detector.

Shape legend: B images, M boxes of the fullest image (at least 1), H and W the padded size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class Batch:
    images: torch.Tensor  # B x 3 x H x W uint8 RGB, padded right and below with the mean colour
    sizes: torch.Tensor  # B x 2 int64: height and width of the valid part
    boxes: (
        torch.Tensor
    )  # B x M x 4 float32: x1 y1 x2 y2 in pixels of the padded input; rows without a box are 0
    labels: torch.Tensor  # B x M int64: class 0..K-1, -1 in rows without a box
    image_ids: torch.Tensor  # B int64: COCO image ids
    scales: torch.Tensor  # B x 2 float32: (y, x) factors from original pixels to input pixels

    def to(self, device: torch.device) -> Batch:
        return Batch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})

    def pin_memory(self) -> Batch:
        return Batch(**{k: v.pin_memory() for k, v in vars(self).items()})
