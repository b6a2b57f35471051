"""Norm and activation, chosen together: EvoNorm contains its activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.require import require


def _check_statistics(eps: float, momentum: float = 0.0) -> None:
    require(eps > 0, f"eps must be positive, is {eps}")
    require(0 <= momentum <= 1, f"momentum must be in [0, 1], is {momentum}")


Act = Literal["relu", "swish", "none"]
"""What follows the norm; swish is x * sigmoid(x)."""


@dataclass(frozen=True)
class BatchNorm:
    """Batch statistics of one rank (not synchronised), then the activation."""

    kind: Literal["bn"] = "bn"
    act: Act = "relu"
    eps: float = 1e-5
    momentum: float = 0.1  # torch's convention: new = (1 - momentum) * old + momentum * batch

    def __post_init__(self) -> None:
        _check_statistics(self.eps, self.momentum)


@dataclass(frozen=True)
class SyncBatchNorm:
    """Batch statistics of the whole gang's batch (Peng et al. 2018, MegDet), then the
    activation."""

    kind: Literal["sync_bn"] = "sync_bn"
    act: Act = "relu"
    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        _check_statistics(self.eps, self.momentum)


@dataclass(frozen=True)
class FrozenBatchNorm:
    """Running statistics used and never updated; `affine` says whether gamma and beta still learn
    (the report's do)."""

    kind: Literal["frozen_bn"] = "frozen_bn"
    act: Act = "relu"
    eps: float = 1e-5
    affine: Literal["trainable", "frozen"] = "trainable"

    def __post_init__(self) -> None:
        _check_statistics(self.eps)


@dataclass(frozen=True)
class GroupNorm:
    """Wu & He 2018; `groups` must divide the channels."""

    kind: Literal["gn"] = "gn"
    act: Act = "relu"
    groups: int = 32
    eps: float = 1e-5

    def __post_init__(self) -> None:
        require(self.groups >= 1, f"groups must be at least 1, is {self.groups}")
        _check_statistics(self.eps)


@dataclass(frozen=True)
class EvoNormS0:
    """Liu et al. 2020, EvoNorm-S0: y = gamma * x * sigmoid(v x) / sqrt(Var_g(x) + eps) + beta.
    Contains its activation."""

    kind: Literal["evonorm_s0"] = "evonorm_s0"
    groups: int = 32
    eps: float = 1e-5

    def __post_init__(self) -> None:
        require(self.groups >= 1, f"groups must be at least 1, is {self.groups}")
        _check_statistics(self.eps)


@dataclass(frozen=True)
class SpectralNorm:
    """The report's SN: the convolution's output divided by the largest singular value of its
    weight, y = gamma * (W * x) / sigma(W) + beta, then the activation. Stands behind a convolution
    of a neck, a head or the tiny backbone only. Not switchable norm, which is `switchable`."""

    kind: Literal["spectral"] = "spectral"
    act: Act = "relu"
    beta: float = 1.0  # initial value of beta; the report's is 1, usual would be 0


@dataclass(frozen=True)
class SwitchableNorm:
    """Luo et al. 2019: means and variances are learned mixtures of those of instance, layer and
    batch norm."""

    kind: Literal["switchable"] = "switchable"
    act: Act = "relu"
    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        _check_statistics(self.eps, self.momentum)


@dataclass(frozen=True)
class NoNorm:
    """The activation alone; convolutions before it then have a bias."""

    kind: Literal["none"] = "none"
    act: Act = "relu"


NormAct = (
    BatchNorm
    | SyncBatchNorm
    | FrozenBatchNorm
    | GroupNorm
    | EvoNormS0
    | SpectralNorm
    | SwitchableNorm
    | NoNorm
)
