"""Detectors: a backbone, a neck and a head, with what their outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from detcore.config import schema
from detcore.detectors.centernet import CenterNet
from detcore.detectors.detector import Detector
from detcore.detectors.fcos import Fcos
from detcore.detectors.retinanet import RetinaNet

__all__ = ["DETECTORS", "Detector", "build_detector"]

DETECTORS: dict[str, Callable[[Any, int, Sequence[int]], Detector]] = {
    "retinanet": RetinaNet,
    "fcos": Fcos,
    "centernet": CenterNet,
}


def build_detector(
    cfg: schema.Detector, num_classes: int, class_counts: Sequence[int] = ()
) -> Detector:
    """The detector with weights drawn from torch's global generator.

    `class_counts` are the boxes of each class in the training data; a loss that weighs classes
    needs them. Raises ValueError, one line that names the component, for settings that do not fit
    together or weights that cannot be loaded.
    """
    return DETECTORS[cfg.kind](cfg, num_classes, class_counts)
