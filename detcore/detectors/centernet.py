"""CenterNet (Duan et al. 2019, "Keypoint Triplets"): a box is a top-left and a bottom-right corner
whose tags agree, confirmed by a centre.

Shape legend: B batch, M boxes of the fullest image, K classes, h x w size of P3 in cells of 8
pixels, N keypoints of a kind, P pairs of corners. Three keypoints: top-left, bottom-right, centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from detcore.config import schema
from detcore.detectors.detector import Detector
from detcore.detectors.postprocess import Detections, suppress, take_rows
from detcore.distributed import Gang
from detcore.heads.centernet import CenterNetHead, KeypointMaps
from detcore.losses.keypoints import heatmap_focal_loss, offset_loss, tag_losses
from detcore.ops.boxes import area, clip
from detcore.ops.heatmaps import gaussian_heatmaps, gaussian_radius, top_peaks

SPREADS = (6.0, 6.0, 5.0)  # a bell's sigma is (2 radius + 1) / spread
MAX_TAG_DISTANCE = 1.0
LARGE_BOX = 130.0**2  # pixels^2; from here the central region is 1/5 of a side instead of 1/3


class Outputs(NamedTuple):
    maps: KeypointMaps
    unused: Tensor  # scalar 0 that hangs on P4, P5, ...


class CenterNet(Detector):
    """Keypoints on P3.

    Positions are in cells, x / stride, and a keypoint belongs to the cell it lies in, as published;
    the report multiplied by (size - 1) / size and rounded to the nearest cell, and drew the
    centre's bell in the cell to the upper left of the one that it read the offset from. The loss
    parts have weight 1, as in the report (CornerNet: tags 0.1).
    """

    parts = ("heatmap", "offset", "pull", "push")

    def __init__(
        self, cfg: schema.CenterNet, num_classes: int, class_counts: Sequence[int]
    ) -> None:
        super().__init__(cfg, num_classes)
        self.cfg = cfg
        with self.component("head"):
            self.head = CenterNetHead(cfg, cfg.neck.channels, num_classes)

    def forward(self, images: Tensor) -> Outputs:
        """B x 3 x H x W float -> Outputs."""
        first, *others = self.maps(images)
        # gives what only the other maps depend on (with an FPN their convolutions and norms) a
        # gradient of 0: DDP waits for a gradient of every parameter
        unused = 0 * torch.stack([m.mean() for m in others]).sum()
        return Outputs(self.head(first), unused)

    def losses(
        self, outputs: Outputs, boxes: Tensor, labels: Tensor, gang: Gang
    ) -> dict[str, Tensor]:
        """`heatmap` (three added), `offset`, `pull` and `push`, normalised over this rank's batch
        as in `losses.keypoints`."""
        heatmaps, tags, offsets = (m.float() for m in outputs.maps)
        height, width = heatmaps.shape[-2:]
        valid = labels >= 0
        points = keypoints(boxes) / self.strides[0]
        cells = torch.stack(
            (
                points[..., 0].floor().clamp(0, width - 1),
                points[..., 1].floor().clamp(0, height - 1),
            ),
            dim=-1,
        )
        side = (boxes[..., 2:] - boxes[..., :2]) / self.strides[0]
        radius = gaussian_radius(side[..., 1], side[..., 0])
        heatmap = outputs.unused.float()
        for i, spread in enumerate(SPREADS):
            target = gaussian_heatmaps(
                cells[:, i].long(), radius, labels, self.num_classes, (height, width), spread
            )
            heatmap = heatmap + heatmap_focal_loss(heatmaps[:, i], target)
        index = (cells[..., 1] * width + cells[..., 0]).long()
        found = torch.cat([_at(offsets[:, i], index[:, i]) for i in range(3)], dim=-1)
        wanted = (points - cells).permute(0, 2, 1, 3).flatten(2)
        tag = [_at(tags[:, i : i + 1], index[:, i])[..., 0] for i in range(2)]
        pull, push = tag_losses(tag[0], tag[1], valid)
        return {
            "heatmap": heatmap,
            "offset": offset_loss(found, wanted, valid),
            "pull": pull,
            "push": push,
        }

    @torch.no_grad()
    def detect(self, outputs: Outputs, sizes: Tensor) -> Detections:
        """Duan et al. 2019, sections 3.1 and 3.4, with the report's numbers: all pairs of corners
        of one class, in the right order, with tags at most 1 apart; the best `pairs` by the mean of
        their scores; of these, those with a centre of their class in the central region, the best
        of which counts; the score is the mean of the three. Then class-wise NMS.

        Boxes are cut to the valid size before they are judged. The report read the centres' offsets
        at the bottom-right corners' cells, by mistake; here they are read at the centres'.
        """
        cfg = self.cfg
        heatmaps, tags, offsets = (m.float() for m in outputs.maps)
        scores, labels, points, tag = [], [], [], []
        for i in range(3):
            score, label, cell = top_peaks(heatmaps[:, i].sigmoid(), cfg.corners)
            width = heatmaps.shape[-1]
            place = torch.stack((cell % width, cell // width), dim=-1)
            scores.append(score)
            labels.append(label)
            points.append((place + _at(offsets[:, i], cell)) * self.strides[0])
            if i < 2:
                tag.append(_at(tags[:, i : i + 1], cell)[..., 0])
        boxes, box_scores, box_labels = self._pairs(scores, labels, points, tag, sizes)
        inside = in_centre(points[2][:, None], boxes[:, :, None])
        match = inside & (labels[2][:, None] == box_labels[..., None])
        centre = (scores[2][:, None] * match).amax(-1)
        mean = (2 * box_scores + centre) / 3
        keep = (box_scores > 0) & (centre > 0) & (mean > cfg.score_threshold)
        return suppress(boxes, mean, box_labels, keep, cfg.nms_iou, cfg.max_detections)

    def _pairs(
        self,
        scores: list[Tensor],
        labels: list[Tensor],
        points: list[Tensor],
        tags: list[Tensor],
        sizes: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Corners, B x N each (points B x N x 2) -> the best pairs' boxes B x P x 4, mean scores B
        x P (0 where there is no pair) and labels B x P."""
        n = points[0].shape[1]
        first = points[0][:, :, None].expand(-1, n, n, 2)
        second = points[1][:, None].expand(-1, n, n, 2)
        boxes = clip(torch.cat((first, second), dim=-1).flatten(1, 2), sizes)
        close = (tags[0][:, :, None] - tags[1][:, None]).abs() <= MAX_TAG_DISTANCE
        same = labels[0][:, :, None] == labels[1][:, None]
        peaks = (scores[0] > 0)[:, :, None] & (scores[1] > 0)[:, None]
        ordered = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        mean = ((scores[0][:, :, None] + scores[1][:, None]) / 2).flatten(1)
        mean = mean * ((close & same & peaks).flatten(1) & ordered)
        best, index = mean.topk(min(self.cfg.pairs, mean.shape[1]))
        return take_rows(boxes, index), best, labels[0].gather(1, index // n)


def keypoints(boxes: Tensor) -> Tensor:
    """B x M x 4 -> B x 3 x M x 2: top-left, bottom-right, centre."""
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.stack((first, second, (first + second) / 2), dim=1)


def in_centre(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points (... x 2) lie in the central region of boxes (... x 4), which has 1/n of each
    side: n = 3, and 5 for boxes of more than 130 x 130 pixels (Duan et al. 2019, section 3.1: 150).
    Leading axes broadcast -> ... bool."""
    shrink = torch.where(area(boxes) > LARGE_BOX, 5.0, 3.0)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / (2 * shrink[..., None])
    return ((points - middle).abs() < half).all(-1)


def _at(values: Tensor, cells: Tensor) -> Tensor:
    """values B x D x h x w at cells B x N (row * w + column) -> B x N x D."""
    d = values.shape[1]
    return values.flatten(2).gather(2, cells[:, None].expand(-1, d, -1)).transpose(1, 2)
