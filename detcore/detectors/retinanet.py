"""RetinaNet (Lin et al. 2017): backbone, pyramid, shared head, anchors, focal loss.

Shape legend: B batch, M boxes of the fullest image, A anchors of all levels, K classes, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from detcore.config import schema
from detcore.detectors.detector import Detector
from detcore.detectors.postprocess import Detections, select_detections
from detcore.distributed import Gang
from detcore.heads import TowerHead
from detcore.losses import build_box_loss, build_class_loss
from detcore.losses.normaliser import LossNormaliser
from detcore.matchers import IGNORED, POSITIVE, build_matcher
from detcore.ops.anchors import AnchorSet, grid_anchors, num_anchors_per_cell


class Outputs(NamedTuple):
    logits: Tensor  # B x A x K
    deltas: Tensor  # B x A x 4
    feature_sizes: list[tuple[int, int]]  # (h, w) of the L levels
    input_size: tuple[int, int]  # (H, W) of the padded batch


class RetinaNet(Detector):
    """Every anchor gives K class logits and four deltas."""

    parts = ("class", "box")

    def __init__(
        self, cfg: schema.RetinaNet, num_classes: int, class_counts: Sequence[int]
    ) -> None:
        super().__init__(cfg, num_classes)
        self.cfg = cfg
        per_cell, levels = num_anchors_per_cell(cfg.anchors), cfg.neck.levels
        with self.component("head"):
            self.head = TowerHead(cfg.head, cfg.neck.channels, per_cell, num_classes, levels)
        self.matcher = build_matcher(cfg.matcher)
        self.class_loss = build_class_loss(cfg.class_loss, class_counts)
        self.box_loss = build_box_loss(cfg.box_loss)
        self.normaliser = LossNormaliser(cfg.normaliser)

    def forward(self, images: Tensor) -> Outputs:
        """B x 3 x H x W float -> Outputs."""
        maps = self.maps(images)
        logits, deltas = self.head(maps)
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        return Outputs(logits, deltas, sizes, (images.shape[-2], images.shape[-1]))

    def losses(
        self, outputs: Outputs, boxes: Tensor, labels: Tensor, gang: Gang
    ) -> dict[str, Tensor]:
        """`class` and `box`, each summed over this rank's anchors and divided by the number of
        positive ones as `normaliser` counts them."""
        logits, deltas, anchors = self._read(outputs)
        index, state = self.matcher(anchors, boxes, labels >= 0)
        positive = state == POSITIVE
        anchor_labels = labels.gather(1, index).masked_fill(~positive, -1)
        is_class = anchor_labels[..., None] == torch.arange(self.num_classes, device=labels.device)
        targets = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        # a proper box everywhere
        targets = torch.where(positive[..., None], targets, anchors.boxes)
        class_sum = self.class_loss(logits, is_class, (state != IGNORED).float())
        box_sum = self.box_loss(
            deltas, anchors.boxes, targets, positive.float(), outputs.input_size
        )
        divisor = self.normaliser(positive.sum().float(), gang)
        return {"class": class_sum / divisor, "box": box_sum / divisor}

    @torch.no_grad()
    def detect(self, outputs: Outputs, sizes: Tensor) -> Detections:
        logits, deltas, anchors = self._read(outputs)
        return select_detections(
            self.cfg.postprocess, logits, deltas, anchors.boxes, anchors.level_lengths, sizes
        )

    def _read(self, outputs: Outputs) -> tuple[Tensor, Tensor, AnchorSet]:
        """Logits and deltas in float32 (autocast may have made them bf16), and the anchors of these
        feature sizes."""
        logits, deltas, sizes, _ = outputs
        anchors = grid_anchors(self.cfg.anchors, sizes, self.strides, logits.device)
        return logits.float(), deltas.float(), anchors
