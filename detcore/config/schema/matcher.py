"""Matchers: which anchor learns which box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.dense import Anchors
from detcore.config.schema.require import require


@dataclass(frozen=True)
class MaxIouMatcher:
    """Positive from `high`, background below `low`, ignored between; `rescue` makes each box's best
    anchors positive too."""

    kind: Literal["max_iou"] = "max_iou"
    low: float = 0.4
    high: float = 0.5
    rescue: bool = True

    def __post_init__(self) -> None:
        _check_thresholds(self.low, self.high)


@dataclass(frozen=True)
class ReportMaxIouMatcher:
    """`max_iou` as the report's code had it: an overlap below `floor` counts as 0, and of each box
    the single best anchor is rescued, if it reaches `floor`."""

    kind: Literal["max_iou_report"] = "max_iou_report"
    low: float = 0.4
    high: float = 0.5
    floor: float = 0.1  # 0.0625 in the report's runs after 2020-08-17

    def __post_init__(self) -> None:
        _check_thresholds(self.low, self.high)
        require(0 <= self.floor <= 1, f"floor must be in [0, 1], is {self.floor}")


@dataclass(frozen=True)
class Atss:
    """Zhang et al. 2020: of each level the anchors of the `top_k` cells nearest to a box's centre
    are its candidates; positive are candidates with an IoU of at least mean + standard deviation of
    the candidates' and their centre inside the box."""

    kind: Literal["atss"] = "atss"
    top_k: int = 9

    def __post_init__(self) -> None:
        require(self.top_k >= 1, f"top_k must be at least 1, is {self.top_k}")


@dataclass(frozen=True)
class AtssV2:
    """The report's ATSSMatcher2. It and its successors take all anchors with an IoU above `floor`
    for candidates and admit any anchor; see `detcore.matchers.report_atss`."""

    kind: Literal["atss_v2"] = "atss_v2"
    floor: float = 0.1

    def __post_init__(self) -> None:
        _check_report_atss(self.floor)


@dataclass(frozen=True)
class AtssV3:
    """The report's ATSSMatcher3, the only one of them that ignores anchors."""

    kind: Literal["atss_v3"] = "atss_v3"
    floor: float = 0.1
    cap: float = 0.5  # no box asks for more than this IoU
    margin: float = 0.1  # ignored are anchors that miss a box's threshold by less than this

    def __post_init__(self) -> None:
        _check_report_atss(self.floor, self.cap)
        require(0 <= self.margin <= 1, f"margin must be in [0, 1], is {self.margin}")


@dataclass(frozen=True)
class AtssV4:
    """The report's ATSSMatcher4; 5 takes its candidates among one anchor of each cell alone."""

    kind: Literal["atss_v4", "atss_v5"] = "atss_v4"
    floor: float = 0.1
    cap: float = 0.5  # as in atss_v3

    def __post_init__(self) -> None:
        _check_report_atss(self.floor, self.cap)


ReportAtss = AtssV2 | AtssV3 | AtssV4
Matcher = MaxIouMatcher | ReportMaxIouMatcher | Atss | ReportAtss


def check_v5_anchors(anchors: Anchors) -> None:
    """atss_v5 looks at the fourth anchor of a cell for the one of ratio 1 in the smallest size."""
    for sizes, ratios in anchors.table():
        fits = len(sizes) == len(ratios) == 3 and ratios[1] == 1 and sizes[0] == min(sizes)
        require(
            fits,
            "matcher atss_v5 needs nine anchors in each cell, 3 sizes from the smallest on x 3 "
            f"ratios with 1 in the middle; a level has the sizes {_rounded(sizes)} and the ratios "
            f"{_rounded(ratios)}",
        )


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(v, 2) for v in values]


def _check_report_atss(floor: float, cap: float = 1.0) -> None:
    require(0 <= floor <= 1, f"floor must be in [0, 1], is {floor}")
    require(0 < cap <= 1, f"cap must be in (0, 1], is {cap}")


def _check_thresholds(low: float, high: float) -> None:
    require(0 <= low <= high <= 1, f"0 <= low <= high <= 1 must hold, low is {low}, high is {high}")
