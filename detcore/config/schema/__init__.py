"""Every setting of one training run, as frozen dataclasses. Imports no torch: a planner reads
configs in milliseconds.

A field whose type is a union of dataclasses is a *choice*: each member has a `kind`, and in YAML
`neck: fpn` is short for `neck: {kind: fpn}`. Ranges are checked in `__post_init__`; types, unknown
keys and unknown kinds by `detcore.config.load`.

`runtime` holds what must not change a result (loader workers, device, logging); everything else is
part of a run's identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from detcore.config.schema.backbone import (
    Backbone,
    EfficientNet,
    MobileNetV3,
    ResNet,
    TinyBackbone,
)
from detcore.config.schema.data import (
    CocoFolder,
    Data,
    InputSize,
    ReportStitch,
    Shapes,
    Stitch,
)
from detcore.config.schema.dense import (
    Anchors,
    BoxLoss,
    ClassLoss,
    FocalLoss,
    FrequencyFocalLoss,
    GridAnchors,
    HuberLoss,
    IouLoss,
    ListedAnchors,
    Normaliser,
    Postprocess,
    SmoothL1Loss,
    TowerHead,
)
from detcore.config.schema.detector import (
    CenterNet,
    Detector,
    Fcos,
    RetinaNet,
)
from detcore.config.schema.matcher import (
    Atss,
    AtssV2,
    AtssV3,
    AtssV4,
    Matcher,
    MaxIouMatcher,
    ReportAtss,
    ReportMaxIouMatcher,
)
from detcore.config.schema.neck import (
    BalanceHook,
    BiFpn,
    DropBlock,
    ExtraLevels,
    Fpn,
    Hook,
    Neck,
    PConv,
    Sepc,
    TwoWayFpn,
)
from detcore.config.schema.norm import (
    Act,
    BatchNorm,
    EvoNormS0,
    FrozenBatchNorm,
    GroupNorm,
    NoNorm,
    NormAct,
    SpectralNorm,
    SwitchableNorm,
    SyncBatchNorm,
)
from detcore.config.schema.require import require
from detcore.config.schema.training import (
    CosineSchedule,
    Eval,
    Monitor,
    ProgressCheck,
    Runtime,
    Sgd,
    StepSchedule,
    Train,
)

__all__ = [
    "Act",
    "Anchors",
    "Atss",
    "AtssV2",
    "AtssV3",
    "AtssV4",
    "Backbone",
    "BalanceHook",
    "BatchNorm",
    "BiFpn",
    "BoxLoss",
    "CenterNet",
    "ClassLoss",
    "CocoFolder",
    "Config",
    "CosineSchedule",
    "Data",
    "Detector",
    "DropBlock",
    "EfficientNet",
    "Eval",
    "EvoNormS0",
    "ExtraLevels",
    "Fcos",
    "FocalLoss",
    "Fpn",
    "FrequencyFocalLoss",
    "FrozenBatchNorm",
    "GridAnchors",
    "GroupNorm",
    "Hook",
    "HuberLoss",
    "InputSize",
    "IouLoss",
    "ListedAnchors",
    "Matcher",
    "MaxIouMatcher",
    "MobileNetV3",
    "Monitor",
    "Neck",
    "NoNorm",
    "NormAct",
    "Normaliser",
    "PConv",
    "Postprocess",
    "ProgressCheck",
    "ReportAtss",
    "ReportMaxIouMatcher",
    "ReportStitch",
    "ResNet",
    "RetinaNet",
    "Runtime",
    "Sepc",
    "Sgd",
    "Shapes",
    "SmoothL1Loss",
    "SpectralNorm",
    "StepSchedule",
    "Stitch",
    "SwitchableNorm",
    "SyncBatchNorm",
    "TinyBackbone",
    "TowerHead",
    "Train",
    "TwoWayFpn",
]


@dataclass(frozen=True)
class Config:
    """One training run, whole."""

    data: Data = field(default_factory=Data)
    model: Detector = field(default_factory=RetinaNet)
    optim: Sgd = field(default_factory=Sgd)
    schedule: StepSchedule | CosineSchedule = field(default_factory=StepSchedule)
    train: Train = field(default_factory=Train)
    eval: Eval = field(default_factory=Eval)
    monitor: Monitor = field(default_factory=Monitor)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must not be negative, is {self.seed}")
        warmup = self.schedule.warmup_steps
        require(
            warmup < self.train.steps,
            f"schedule.warmup_steps ({warmup}) must be smaller than "
            f"train.steps ({self.train.steps})",
        )
        stitch, batch = self.data.stitch, self.train.batch_per_gpu
        require(
            not isinstance(stitch, ReportStitch) or batch >= 2,
            f"data.stitch stitch2 joins two images of a rank's batch, and train.batch_per_gpu "
            f"is {batch}; stitch4 works at any batch",
        )
