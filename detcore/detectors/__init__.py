"""Detectors: a backbone, a neck and a head with their anchors, matcher, losses and
post-processing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detcore.config import schema
from detcore.detectors.retinanet import RetinaNet

__all__ = ["DETECTORS", "RetinaNet", "build_detector"]

DETECTORS: dict[str, Callable[[Any, int], RetinaNet]] = {"retinanet": RetinaNet}


def build_detector(cfg: schema.RetinaNet, num_classes: int) -> RetinaNet:
    """The detector with weights drawn from torch's global generator. Raises ValueError, one line
    that names the component, for settings that do not fit together or weights that cannot be
    loaded."""
    return DETECTORS[cfg.kind](cfg, num_classes)
