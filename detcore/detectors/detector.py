"""What all detectors share: the pyramid of maps, and what the training loop and the evaluation ask
of a detector.

Shape legend: B batch, M boxes of the fullest image, N detections of an image, C channels of a map.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from detcore.backbones import build_backbone
from detcore.config import schema
from detcore.detectors.postprocess import Detections
from detcore.distributed import Gang
from detcore.layers.progress import Scheduled
from detcore.necks import build_neck


class Detector(nn.Module):
    """forward(images) gives the outputs; losses(outputs, ...) and detect(outputs, ...) say what
    they mean. A subclass names its losses in `parts` and builds its head under `component`."""

    parts: tuple[str, ...]

    def __init__(self, cfg: schema.Detector, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = tuple(8 * 2**i for i in range(cfg.neck.levels))
        self._root = int(torch.randint(2**62, ()))
        with self.component("backbone"):
            self.backbone = build_backbone(cfg.backbone)
        with self.component("neck"):
            self.neck = build_neck(cfg.neck, self.backbone.channels, cfg.hook)  # type: ignore[arg-type]

    @contextmanager
    def component(self, name: str) -> Iterator[None]:
        """Inside, random numbers come from a stream of this component's own, so that another neck
        does not change the first weights of the head; and a ValueError names the component."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._root ^ zlib.crc32(name.encode()))
            try:
                yield
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    def maps(self, images: Tensor) -> list[Tensor]:
        """B x 3 x H x W float -> the maps of the pyramid, each B x C x H/stride x W/stride, sizes
        rounded up."""
        maps: list[Tensor] = self.neck(self.backbone(images))
        return maps

    def set_progress(self, fraction: float) -> None:
        """Tell layers that change over a run how much of it is done, 0 to 1. No host sync."""
        for module in self.modules():
            if isinstance(module, Scheduled):
                module.set_progress(fraction)

    def losses(self, outputs: Any, boxes: Tensor, labels: Tensor, gang: Gang) -> dict[str, Tensor]:
        """boxes B x M x 4 corners in pixels, labels B x M (-1 = no box) -> for each of `parts` a
        float32 scalar, normalised; their sum is what to minimise. No host sync; works on images
        without boxes."""
        raise NotImplementedError

    def detect(self, outputs: Any, sizes: Tensor) -> Detections:
        """sizes B x 2 int64, the valid (height, width) -> per image boxes N x 4, scores N, labels
        N, best first."""
        raise NotImplementedError
