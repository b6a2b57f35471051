"""Matchers: which anchor learns which box.

A matcher maps (anchors: AnchorSet of A, boxes B x M x 4, valid B x M) to (index B x A int64, state
B x A int8), where state is one of POSITIVE, BACKGROUND, IGNORED and index is the row of `boxes` of
a positive anchor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from detcore.config import schema
from detcore.matchers.atss import AtssMatcher
from detcore.matchers.max_iou import MaxIouMatcher
from detcore.matchers.report_atss import ReportAtssMatcher
from detcore.matchers.report_max_iou import ReportMaxIouMatcher
from detcore.matchers.state import BACKGROUND, IGNORED, POSITIVE
from detcore.ops.anchors import AnchorSet

__all__ = ["BACKGROUND", "IGNORED", "MATCHERS", "POSITIVE", "Matcher", "build_matcher"]

Matcher = Callable[[AnchorSet, Tensor, Tensor], tuple[Tensor, Tensor]]
MATCHERS: dict[str, Callable[[Any], Matcher]] = {
    "max_iou": MaxIouMatcher,
    "max_iou_report": ReportMaxIouMatcher,
    "atss": AtssMatcher,
    "atss_v2": ReportAtssMatcher,
    "atss_v3": ReportAtssMatcher,
    "atss_v4": ReportAtssMatcher,
    "atss_v5": ReportAtssMatcher,
}


def build_matcher(cfg: schema.Matcher) -> Matcher:
    return MATCHERS[cfg.kind](cfg)
