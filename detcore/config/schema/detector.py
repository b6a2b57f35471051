"""Detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.backbone import Backbone, ResNet
from detcore.config.schema.dense import (
    Anchors,
    BoxLoss,
    ClassLoss,
    FocalLoss,
    GridAnchors,
    HuberLoss,
    IouLoss,
    Normaliser,
    Postprocess,
    TowerHead,
    check_detections,
)
from detcore.config.schema.matcher import Matcher, MaxIouMatcher, check_v5_anchors
from detcore.config.schema.neck import Fpn, Hook, Neck
from detcore.config.schema.norm import EvoNormS0, NormAct
from detcore.config.schema.require import require


@dataclass(frozen=True)
class RetinaNet:
    """Lin et al. 2017. With a BiFPN and an EfficientNet it is EfficientDet (Tan et al. 2020)."""

    kind: Literal["retinanet"] = "retinanet"
    backbone: Backbone = ResNet()
    neck: Neck = Fpn()
    hook: Hook | None = None  # what refines the neck's maps
    head: TowerHead = TowerHead()
    anchors: Anchors = GridAnchors()
    matcher: Matcher = MaxIouMatcher()
    class_loss: ClassLoss = FocalLoss()
    box_loss: BoxLoss = HuberLoss()
    normaliser: Normaliser = "running"
    postprocess: Postprocess = Postprocess()

    def __post_init__(self) -> None:
        table = self.anchors.table()
        require(
            len(table) == self.neck.levels,
            f"anchors.sizes needs one entry for each of the {self.neck.levels} levels of the neck, "
            f"has {len(table)}",
        )
        if self.matcher.kind == "atss_v5":
            check_v5_anchors(self.anchors)


@dataclass(frozen=True)
class Fcos:
    """Tian et al. 2019, no anchors: every cell is a point. The defaults are the report's FCOS2, but
    for what its neck had besides (DropBlock, BalanceBackboneHook), its normaliser, `rank`, and
    `box_start`.

    The published form: `ranges: [64, 128, 256, 512]` on a five-level neck, `ties: area`,
    `weighted_boxes: true`, and in its authors' later code `centre_radius: 1.5` and `score: root`.

    `box_start`: with `small` every side of every box starts near two strides; `xavier` is the
    report's, with which half of them start at 0, where they do not learn (see
    `detcore.detectors.fcos`).
    """

    kind: Literal["fcos"] = "fcos"
    backbone: Backbone = ResNet()
    neck: Neck = Fpn(norm_act=EvoNormS0(), top="c6")
    hook: Hook | None = None
    head: TowerHead = TowerHead(norm_act=EvoNormS0())
    ranges: tuple[float, ...] = (64.0, 128.0, 256.0)  # pixels between the levels: one fewer
    ties: Literal["largest_side", "area"] = "largest_side"  # which box wins a point: the smaller
    centre_radius: float = 0.0  # centre sampling in strides; 0: all points inside a box
    weighted_boxes: bool = False  # GIoU terms weighted by the target centre-ness
    score: Literal["product", "root"] = "product"  # class x centre-ness, or its square root
    box_start: Literal["small", "xavier"] = "small"
    class_loss: ClassLoss = FocalLoss()
    box_loss: IouLoss = IouLoss()
    normaliser: Normaliser = "running"
    postprocess: Postprocess = Postprocess()

    def __post_init__(self) -> None:
        require(
            all(r > 0 for r in self.ranges) and list(self.ranges) == sorted(set(self.ranges)),
            f"ranges must be positive and rise, are {list(self.ranges)}",
        )
        require(
            len(self.ranges) == self.neck.levels - 1,
            f"ranges needs one number between each two of the {self.neck.levels} levels of the "
            f"neck, has {len(self.ranges)}",
        )
        require(
            self.centre_radius >= 0, f"centre_radius must not be negative, is {self.centre_radius}"
        )


@dataclass(frozen=True)
class CenterNet:
    """Keypoint triplets (Duan et al. 2019) on P3, in the report's form: corners and centres.

    `pooling` says how corner pooling is done. `exact`: the running maximum up to the border
    (published). `maxpool`: a sliding maximum of 11 cells (the report's "max pool"), up and down the
    wrong way round, as there. `maxpool_v2`: the same with 13 cells, norm and dilation in the
    pooling branches, and a plain centre branch (the report's "max poolv2"). Which state of its code
    made which row is a guess from dates. The report's neck also had DropBlock and the balance hook.
    """

    kind: Literal["centernet"] = "centernet"
    backbone: Backbone = ResNet()
    neck: Neck = Fpn(norm_act=EvoNormS0(), top="none")
    hook: Hook | None = None
    norm_act: NormAct = EvoNormS0()
    pooling: Literal["exact", "maxpool", "maxpool_v2"] = "exact"
    # the report's predictors start at probability 0.5; the published ones at 0.1
    prior_prob: float = 0.5
    corners: int = 100  # peaks taken from each heatmap
    pairs: int = 1000  # corner pairs kept before they are checked for a centre
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        require(
            0 < self.prior_prob < 1, f"prior_prob must be between 0 and 1, is {self.prior_prob}"
        )
        for name in ("corners", "pairs"):
            require(
                getattr(self, name) >= 1, f"{name} must be at least 1, is {getattr(self, name)}"
            )
        check_detections(self.score_threshold, self.nms_iou, self.max_detections)
        require(
            self.neck.channels >= 2,
            f"neck.channels must be at least 2, half of them are the head's, is "
            f"{self.neck.channels}",
        )


Detector = RetinaNet | Fcos | CenterNet
