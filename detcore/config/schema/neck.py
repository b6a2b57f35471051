"""Necks: what makes the pyramid P3, P4, ... (strides 8, 16, ...) from C3, C4 and C5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.norm import EvoNormS0, GroupNorm, NormAct
from detcore.config.schema.require import require


def _check_channels(channels: int) -> None:
    require(channels >= 1, f"channels must be at least 1, is {channels}")


@dataclass(frozen=True)
class DropBlock:
    """Ghiasi et al. 2018: squares of a map set to 0 in training. The share that is dropped rises
    linearly from 0 to `drop` over the run."""

    size: int = 7  # cells, a side of the square
    drop: float = 0.1

    def __post_init__(self) -> None:
        require(
            self.size >= 1 and self.size % 2 == 1,
            f"size must be odd and at least 1, is {self.size}",
        )
        require(0 <= self.drop < 1, f"drop must be in [0, 1), is {self.drop}")


@dataclass(frozen=True)
class ExtraLevels:
    """C6 and C7, from C5 and from C6 by a 3 x 3 convolution of stride 2 and its norm. In the report
    they belong to the backbone: 256 wide with EvoNorm-S0, whatever the neck is."""

    channels: int = 256
    norm_act: NormAct = EvoNormS0()

    def __post_init__(self) -> None:
        _check_channels(self.channels)


@dataclass(frozen=True)
class Fpn:
    """Feature pyramid (Lin et al. 2017) with norm and activation on the outputs (the report's
    form).

    `top`: `p6p7` adds P6 and P7 by stride-2 convolutions of C5 and P6 (RetinaNet); `c6` adds C6, C5
    at every second cell, as one more input, so that there is a P6 (the report's FCOS2); `none` ends
    at P5.
    `fusion`: how a map from above joins a lateral one: `sum`, `avg`, or `wsum`, EfficientDet's fast
    normalised fusion with one learned weight for each of the two.
    `dropblock` acts on C3, C4 and C5 before the laterals (the report's "FPN DB"); C6, P6 and P7
    come from the clean C5.
    """

    kind: Literal["fpn"] = "fpn"
    channels: int = 256
    norm_act: NormAct = GroupNorm()
    fusion: Literal["sum", "avg", "wsum"] = "sum"
    top: Literal["p6p7", "c6", "none"] = "p6p7"
    dropblock: DropBlock | None = None

    def __post_init__(self) -> None:
        _check_channels(self.channels)

    @property
    def levels(self) -> int:
        return {"p6p7": 5, "c6": 4, "none": 3}[self.top]


@dataclass(frozen=True)
class TwoWayFpn:
    """A top-down and a bottom-up path side by side, P3 to P7, after EfficientPS (Mohan & Valada
    2020), as the report had it (section 5.5 of its components)."""

    kind: Literal["two_way_fpn"] = "two_way_fpn"
    channels: int = 256
    norm_act: NormAct = EvoNormS0()
    fusion: Literal["sum", "wsum"] = "wsum"  # which of the two the report ran is not certain
    pool: Literal["max", "avg"] = "max"  # likewise
    extra: ExtraLevels = ExtraLevels()

    def __post_init__(self) -> None:
        _check_channels(self.channels)

    @property
    def levels(self) -> int:
        return 5


@dataclass(frozen=True)
class PConv:
    """The report's "PConv": three rounds in which a level takes from its neighbours by 1 x 1
    convolutions that all levels share. Published pyramid convolution is `sepc`."""

    kind: Literal["pconv"] = "pconv"
    channels: int = 256
    norm_act: NormAct = EvoNormS0()
    repeats: int = 3
    # norm on the sum of the three branches or on each; which the report ran is not certain
    norm_on: Literal["sum", "branch"] = "sum"
    extra: ExtraLevels = ExtraLevels()

    def __post_init__(self) -> None:
        _check_channels(self.channels)
        require(self.repeats >= 1, f"repeats must be at least 1, is {self.repeats}")
        require(
            self.norm_act.kind != "spectral" or self.norm_on == "branch",
            "norm_act spectral divides by one convolution's weight and norm_on sum adds three; "
            "choose norm_on branch",
        )

    @property
    def levels(self) -> int:
        return 5


@dataclass(frozen=True)
class Sepc:
    """Pyramid convolution of SEPC (Wang et al. 2020) on the maps of a plain FPN: as `pconv`, with
    3 x 3 kernels at stride 2 (from below), 1, and 1 with upsampling (from above).

    `norm_levels`: `integrated` takes the statistics over the cells of all levels together (with
    `bn` the paper's iBN); `shared` applies the same layer to each level by itself.
    """

    kind: Literal["sepc"] = "sepc"
    channels: int = 256
    norm_act: NormAct = GroupNorm()
    repeats: int = 4
    norm_levels: Literal["integrated", "shared"] = "integrated"

    def __post_init__(self) -> None:
        _check_channels(self.channels)
        require(self.repeats >= 1, f"repeats must be at least 1, is {self.repeats}")
        require(
            self.norm_act.kind != "spectral",
            "norm_act spectral divides by one convolution's weight and sepc adds three; "
            "choose another kind, or the neck pconv with norm_on branch",
        )

    @property
    def levels(self) -> int:
        return 5


@dataclass(frozen=True)
class BiFpn:
    """EfficientDet's pyramid (Tan et al. 2020), P3 to P7, fast normalised fusion.

    The report's has full 3 x 3 convolutions, GN and swish; the published one separable
    convolutions (`conv: separable`), BN and swish, and one repeat more than the paper's table.
    The activation of `norm_act` acts on the fused map, before the convolution; a kind that contains
    its activation (EvoNorm) keeps it behind the convolution.
    """

    kind: Literal["bifpn"] = "bifpn"
    channels: int = 64
    repeats: int = 2
    norm_act: NormAct = GroupNorm(act="swish")
    conv: Literal["full", "separable"] = "full"
    extra: ExtraLevels = ExtraLevels()

    def __post_init__(self) -> None:
        _check_channels(self.channels)
        require(self.repeats >= 1, f"repeats must be at least 1, is {self.repeats}")

    @property
    def levels(self) -> int:
        return 5


Neck = Fpn | TwoWayFpn | PConv | Sepc | BiFpn


@dataclass(frozen=True)
class BalanceHook:
    """The report's BalanceBackboneHook, on any neck: all levels are averaged at the size of the
    second, refined by one convolution, and added back to each."""

    kind: Literal["balance"] = "balance"
    norm_act: NormAct = EvoNormS0()


Hook = BalanceHook
