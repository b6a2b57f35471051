"""RetinaNet (Lin et al. 2017): backbone, pyramid, shared head, anchors, focal loss.

Shape legend: B batch, M boxes of the fullest image, A anchors of all levels, K classes, L levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from detcore.backbones import build_backbone
from detcore.config import schema
from detcore.detectors.postprocess import Detections, select_detections
from detcore.heads import build_head
from detcore.losses import build_box_loss, build_class_loss
from detcore.losses.normaliser import LossNormaliser
from detcore.matchers import IGNORED, POSITIVE, build_matcher
from detcore.necks import build_neck
from detcore.ops.anchors import grid_anchors, num_anchors_per_cell

STRIDES = (8, 16, 32, 64, 128)
Outputs = tuple[Tensor, Tensor, list[tuple[int, int]]]


class RetinaNet(nn.Module):
    """forward(images) gives the outputs; losses(outputs, ...) and detect(outputs, ...) say what
    they mean."""

    def __init__(self, cfg: schema.RetinaNet, num_classes: int) -> None:
        super().__init__()
        self.cfg, self.num_classes = cfg, num_classes
        per_cell = num_anchors_per_cell(cfg.anchors)
        with _named("backbone"):
            self.backbone = build_backbone(cfg.backbone)
        with _named("neck"):
            channels = cast("tuple[int, int, int]", self.backbone.channels)
            self.neck = build_neck(cfg.neck, channels)
        with _named("head"):
            self.head = build_head(cfg.head, cfg.neck.channels, per_cell, num_classes)
        self.matcher = build_matcher(cfg.matcher)
        self.class_loss = build_class_loss(cfg.class_loss)
        self.box_loss = build_box_loss(cfg.box_loss)
        self.normaliser = LossNormaliser(cfg.normaliser)

    def forward(self, images: Tensor) -> Outputs:
        """B x 3 x H x W float -> logits B x A x K, deltas B x A x 4, the L feature sizes (h, w)."""
        maps = self.neck(self.backbone(images))
        logits, deltas = self.head(maps)
        return logits, deltas, [(m.shape[-2], m.shape[-1]) for m in maps]

    def losses(self, outputs: Outputs, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """boxes B x M x 4 corners in pixels, labels B x M (-1 = no box) -> float32 scalars.

        `class` and `box` are sums over this rank's batch; divided by `normaliser(num_pos, gang)`,
        their sum is what to minimise. `num_pos` counts the positive anchors. No host sync; works on
        images without boxes.
        """
        logits, deltas, anchors = self._read(outputs)
        index, state = self.matcher(anchors, boxes, labels >= 0)
        positive = state == POSITIVE
        num_pos = positive.sum().float()
        anchor_labels = labels.gather(1, index).masked_fill(~positive, -1)
        is_class = anchor_labels[..., None] == torch.arange(self.num_classes, device=labels.device)
        targets = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        targets = torch.where(positive[..., None], targets, anchors)  # a proper box everywhere
        class_sum = self.class_loss(logits, is_class, (state != IGNORED).float())
        box_sum = self.box_loss(deltas, anchors, targets, positive.float())
        return {"class": class_sum, "box": box_sum, "num_pos": num_pos}

    @torch.no_grad()
    def detect(self, outputs: Outputs, sizes: Tensor) -> Detections:
        """sizes B x 2 int64, the valid (height, width) -> per image boxes N x 4, scores N, labels
        N, best first."""
        logits, deltas, anchors = self._read(outputs)
        per_cell = num_anchors_per_cell(self.cfg.anchors)
        level_lengths = [h * w * per_cell for h, w in outputs[2]]
        return select_detections(
            self.cfg.postprocess, logits, deltas, anchors, level_lengths, sizes
        )

    def _read(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and deltas in float32 (autocast may have made them bf16), and the anchors of these
        feature sizes."""
        logits, deltas, feature_sizes = outputs
        anchors = grid_anchors(self.cfg.anchors, feature_sizes, STRIDES, logits.device)
        return logits.float(), deltas.float(), anchors


@contextmanager
def _named(component: str) -> Iterator[None]:
    """A mistake in a component's settings is reported under its key."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{component}: {error}") from None
