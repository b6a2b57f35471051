"""FCOS (Tian et al. 2019): every cell of the pyramid is a point that gives classes, the distances
to the four sides of its box, and how central it is in it.

Shape legend: B batch, M boxes of the fullest image, P points of all levels, K classes, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.detectors.detector import Detector
from detcore.detectors.postprocess import Detections, best_of_levels, suppress, take_rows
from detcore.distributed import Gang
from detcore.heads import TowerHead
from detcore.heads.towers import rows
from detcore.layers.conv import last_of
from detcore.losses import build_class_loss, build_corner_loss
from detcore.losses.normaliser import LossNormaliser
from detcore.matchers import POSITIVE
from detcore.matchers.points import PointMatcher
from detcore.ops.anchors import AnchorSet, grid_anchors
from detcore.ops.boxes import centres, clip, from_sides, to_sides


class Outputs(NamedTuple):
    logits: Tensor  # B x P x K
    sides: Tensor  # B x P x 4 float32: pixels to the left, upper, right and lower side, at least 0
    centerness: Tensor  # B x P, a logit
    feature_sizes: list[tuple[int, int]]  # (h, w) of the L levels
    input_size: tuple[int, int]  # (H, W) of the padded batch


class Fcos(Detector):
    """A point is the centre of a cell; its sides are relu(s_l * conv) * 2 * stride pixels, with s_l
    a learned number per level. Centre-ness is read off the box tower.

    That reading of the sides is the report's, and serves the published form too, whose own are
    exp(s_l * conv) pixels (the paper) or relu(s_l * conv) * stride (its authors' later code): a
    constant factor in the start of s_l. The report also lets s_l learn at a fifth of its gradient.

    The report's last box convolution starts with Xavier weights and bias 0 (`box_start: xavier`).
    Then half of the sides are 0, where ReLU passes no gradient, and training can fail to start:
    the tiny form of sweeps/bases, from random weights and at learning rates of 0.01 to 0.05, still
    had a box loss of about 1 after 300 steps. `small` has the published N(0, 0.01) weights, and a
    bias of 1, which is ours. Whether the report's runs, from pretrained weights, met this is not
    known.

    Matching, the weights of the box loss and the score have a report's and a published form, in
    `schema.Fcos`; see also `PointMatcher`.
    """

    parts = ("class", "box", "centerness")

    def __init__(self, cfg: schema.Fcos, num_classes: int, class_counts: Sequence[int]) -> None:
        super().__init__(cfg, num_classes)
        self.cfg = cfg
        levels = cfg.neck.levels
        with self.component("head"):
            self.head = TowerHead(cfg.head, cfg.neck.channels, 1, num_classes, levels, extra=1)
            if cfg.box_start == "small":
                _start_small(last_of(self.head.box_out))
        self.side_scales = nn.Parameter(torch.ones(levels))
        squares = tuple(float(stride) for stride in self.strides)
        self.cells = schema.GridAnchors(sizes=squares, octave=1, ratios=(1.0,))
        self.matcher = PointMatcher(cfg.ranges, cfg.ties, cfg.centre_radius)
        self.class_loss = build_class_loss(cfg.class_loss, class_counts)
        self.box_loss = build_corner_loss(cfg.box_loss)
        self.normaliser = LossNormaliser(cfg.normaliser)
        self.box_normaliser = LossNormaliser(cfg.normaliser) if cfg.weighted_boxes else None

    def forward(self, images: Tensor) -> Outputs:
        """B x 3 x H x W float -> Outputs."""
        maps = self.maps(images)
        levels = [self.head.level(x, i) for i, x in enumerate(maps)]
        logits = torch.cat([rows(y[0], self.num_classes) for y in levels], dim=1)
        sides = torch.cat([self._sides(y[1], i) for i, y in enumerate(levels)], dim=1)
        centerness = torch.cat([y[2].flatten(1) for y in levels], dim=1)
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        return Outputs(logits, sides, centerness, sizes, (images.shape[-2], images.shape[-1]))

    def _sides(self, x: Tensor, level: int) -> Tensor:
        """B x 4 x h x w -> B x (h * w) x 4 pixels, in float32 also under autocast."""
        scale = self.side_scales[level]
        scale = scale.detach() + 0.2 * (scale - scale.detach())  # the value whole, a fifth to learn
        return F.relu(scale * rows(x, 4).float()) * (2 * self.strides[level])

    def losses(
        self, outputs: Outputs, boxes: Tensor, labels: Tensor, gang: Gang
    ) -> dict[str, Tensor]:
        """`class` over all points, `box` and `centerness` over the positive ones, each summed over
        this rank and divided by the number of positives as `normaliser` counts them.

        With `weighted_boxes` (published) a point's box term is weighted by its target centre-ness,
        and their sum is divided by the sum of those weights, so that `box` is still a mean; the
        normaliser counts it like the positives, never below 1 in the whole gang (the authors' code:
        never below 1e-6). In the report's form all points weigh the same.
        """
        logits, sides, centerness, cells = self._read(outputs)
        index, state = self.matcher(cells, boxes, labels >= 0)
        positive = state == POSITIVE
        point_labels = labels.gather(1, index).masked_fill(~positive, -1)
        is_class = point_labels[..., None] == torch.arange(self.num_classes, device=labels.device)
        points = centres(cells.boxes)
        # the background's target is its cell: a proper box, and centre-ness 1
        targets = torch.where(positive[..., None], take_rows(boxes, index), cells.boxes)
        central = target_centerness(to_sides(points, targets))

        pos = positive.float()
        class_sum = self.class_loss(logits, is_class, torch.ones_like(pos))
        box_weight = pos if self.box_normaliser is None else pos * central
        found = from_sides(points, sides)
        box_sum = self.box_loss(found, targets, box_weight, outputs.input_size)
        bce = F.binary_cross_entropy_with_logits(centerness, central, reduction="none")

        divisor = self.normaliser(pos.sum(), gang)
        box_divisor = divisor
        if self.box_normaliser is not None:
            box_divisor = self.box_normaliser(box_weight.sum(), gang)
        return {
            "class": class_sum / divisor,
            "box": box_sum / box_divisor,
            "centerness": (pos * bce).sum() / divisor,
        }

    @torch.no_grad()
    def detect(self, outputs: Outputs, sizes: Tensor) -> Detections:
        """Candidates are chosen by their class score alone, `top_k` of each level and those above
        the threshold; NMS and order go by class x centre-ness (the report's and the paper's score)
        or its square root (`score: root`, the authors' code).

        The authors' code takes the `top_k` by the product; here, as in the report, by the class.
        sizes B x 2 (height, width) -> for each image boxes N x 4, scores N, labels N, best first.
        """
        cfg = self.cfg.postprocess
        logits, sides, centerness, cells = self._read(outputs)
        values, index, labels = best_of_levels(logits, cells.level_lengths, cfg.top_k)
        boxes = clip(from_sides(centres(cells.boxes)[index], take_rows(sides, index)), sizes)
        class_scores = values.sigmoid()
        scores = class_scores * centerness.gather(1, index).sigmoid()
        if self.cfg.score == "root":
            scores = scores.sqrt()
        keep = class_scores > cfg.score_threshold
        return suppress(boxes, scores, labels, keep, cfg.nms_iou, cfg.max_detections)

    def _read(self, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor, AnchorSet]:
        """Logits, sides and centre-ness in float32, and the cells of these feature sizes, as
        anchors: squares of one stride, the points their centres."""
        logits, sides, centerness, sizes, _ = outputs
        cells = grid_anchors(self.cells, sizes, self.strides, logits.device)
        return logits.float(), sides.float(), centerness.float(), cells


def target_centerness(sides: Tensor) -> Tensor:
    """... x 4 positive distances (left, upper, right, lower) -> ... centre-ness in (0, 1], 1 at the
    centre: sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (Tian et al. 2019, equation 3)."""
    a, b = sides[..., :2], sides[..., 2:]
    ratio = torch.minimum(a, b) / torch.maximum(a, b)
    return (ratio[..., 0] * ratio[..., 1]).sqrt()


def _start_small(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.ones_(conv.bias)
