"""What dense detectors are made of: heads, anchors, losses, choice of detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.norm import GroupNorm, NormAct
from detcore.config.schema.require import require


@dataclass(frozen=True)
class TowerHead:
    """Two towers of convolutions shared over the levels, for classes and for boxes.

    `norm_levels` says what a norm in a shared head means: `per_level` gives every level its own
    norm parameters and running statistics (the report's form), `shared` makes all levels use one
    norm in turn. `conv` separable is EfficientDet's published form.
    """

    kind: Literal["towers"] = "towers"
    num_convs: int = 4
    norm_act: NormAct = GroupNorm()
    norm_levels: Literal["per_level", "shared"] = "per_level"
    conv: Literal["full", "separable"] = "full"
    prior_prob: float = 0.01

    def __post_init__(self) -> None:
        require(self.num_convs >= 0, f"num_convs must be at least 0, is {self.num_convs}")
        require(
            0 < self.prior_prob < 1, f"prior_prob must be between 0 and 1, is {self.prior_prob}"
        )


# ---------------------------------------------------------------- anchors


@dataclass(frozen=True)
class GridAnchors:
    """Per level one base size in pixels of the network input, times 2^(i/octave) for i < octave,
    times the aspect ratios w/h."""

    kind: Literal["grid"] = "grid"
    sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    octave: int = 3
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        require(len(self.sizes) > 0, "sizes needs one entry for each level")
        require(all(s > 0 for s in self.sizes), f"sizes must be positive, are {list(self.sizes)}")
        require(self.octave >= 1, f"octave must be at least 1, is {self.octave}")
        require(len(self.ratios) > 0, "ratios needs at least one entry")
        require(
            all(r > 0 for r in self.ratios), f"ratios must be positive, are {list(self.ratios)}"
        )

    def table(self) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
        """For each level its sizes and its ratios."""
        steps = [2 ** (i / self.octave) for i in range(self.octave)]
        return tuple((tuple(size * s for s in steps), self.ratios) for size in self.sizes)


@dataclass(frozen=True)
class ListedAnchors:
    """For each level a list of sizes in pixels of the network input, and a list of ratios w/h: one
    list for all levels, or one for each."""

    kind: Literal["listed"] = "listed"
    sizes: tuple[tuple[float, ...], ...] = ()
    ratios: tuple[tuple[float, ...], ...] = ((0.5, 1.0, 2.0),)

    def __post_init__(self) -> None:
        require(len(self.sizes) > 0, "sizes needs one list for each level")
        require(
            len(self.ratios) in (1, len(self.sizes)),
            f"ratios needs one list, or one for each of the {len(self.sizes)} levels, "
            f"has {len(self.ratios)}",
        )
        for name in ("sizes", "ratios"):
            lists = getattr(self, name)
            require(
                all(len(part) > 0 and all(v > 0 for v in part) for part in lists),
                f"{name} must be lists of positive numbers, are {[list(part) for part in lists]}",
            )
            require(
                len({len(part) for part in lists}) == 1,
                f"{name} must be as many on every level, are {[len(part) for part in lists]}",
            )

    def table(self) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
        """For each level its sizes and its ratios."""
        ratios = self.ratios * len(self.sizes) if len(self.ratios) == 1 else self.ratios
        return tuple(zip(self.sizes, ratios, strict=True))


Anchors = GridAnchors | ListedAnchors


# ---------------------------------------------------------------- losses


@dataclass(frozen=True)
class FocalLoss:
    """Lin et al. 2017: sum over anchors and classes of alpha_t (1 - p_t)^gamma CE, divided by the
    number of positives."""

    kind: Literal["focal"] = "focal"
    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self) -> None:
        _check_focal(self.alpha, self.gamma)


@dataclass(frozen=True)
class FrequencyFocalLoss:
    """Focal loss whose negative terms are weaker for classes that are rare in the training data:
    the report's GIOUOutputsV2."""

    kind: Literal["frequency_focal"] = "frequency_focal"
    alpha: float = 0.25
    gamma: float = 2.0

    def __post_init__(self) -> None:
        _check_focal(self.alpha, self.gamma)


ClassLoss = FocalLoss | FrequencyFocalLoss


def _check_focal(alpha: float, gamma: float) -> None:
    require(0 <= alpha <= 1, f"alpha must be in [0, 1], is {alpha}")
    require(gamma >= 0, f"gamma must not be negative, is {gamma}")


@dataclass(frozen=True)
class HuberLoss:
    """Huber on the four box deltas; with delta = 1 this is what the report's `default` box loss
    was."""

    kind: Literal["huber"] = "huber"
    delta: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(self.delta > 0, f"delta must be positive, is {self.delta}")
        _check_weight(self.weight)


@dataclass(frozen=True)
class SmoothL1Loss:
    """Huber with delta = beta, divided by beta (Girshick 2015). The report's config gave beta = 0.1
    and never read it."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta must be positive, is {self.beta}")
        _check_weight(self.weight)


@dataclass(frozen=True)
class IouLoss:
    """1 - GIoU (Rezatofighi et al. 2019), 1 - DIoU or 1 - CIoU (Zheng et al. 2020) of the decoded
    box.

    `clip: true` cuts decoded boxes to the padded input first, as the report did: what sticks out
    gets no gradient.
    """

    kind: Literal["giou", "diou", "ciou"] = "giou"
    weight: float = 1.0
    clip: bool = False

    def __post_init__(self) -> None:
        _check_weight(self.weight)


BoxLoss = HuberLoss | SmoothL1Loss | IouLoss


def _check_weight(weight: float) -> None:
    require(weight > 0, f"weight must be positive, is {weight}")


Normaliser = Literal["rank", "gang", "running"]
"""Summed losses are divided by a rank's positive anchors, the gang's mean, or its running mean."""


@dataclass(frozen=True)
class Postprocess:
    """From logits to detections: per-level top-k, score threshold, class-wise NMS, the best
    `max_detections`."""

    score_threshold: float = 0.05
    top_k: int = 1000
    nms_iou: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        require(self.top_k >= 1, f"top_k must be at least 1, is {self.top_k}")
        check_detections(self.score_threshold, self.nms_iou, self.max_detections)


def check_detections(score_threshold: float, nms_iou: float, max_detections: int) -> None:
    """The settings that every detector's choice of detections has."""
    require(0 <= score_threshold < 1, f"score_threshold must be in [0, 1), is {score_threshold}")
    require(0 < nms_iou <= 1, f"nms_iou must be in (0, 1], is {nms_iou}")
    require(max_detections >= 1, f"max_detections must be at least 1, is {max_detections}")
