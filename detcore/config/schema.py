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
from typing import Literal


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


# ---------------------------------------------------------------- norm + activation


@dataclass(frozen=True)
class BatchNorm:
    """Batch statistics of one rank (not synchronised), then the activation."""

    kind: Literal["bn"] = "bn"
    act: Literal["relu", "none"] = "relu"
    eps: float = 1e-5
    momentum: float = 0.1  # torch's convention: new = (1 - momentum) * old + momentum * batch


@dataclass(frozen=True)
class FrozenBatchNorm:
    """Running statistics used and never updated; `affine` says whether gamma and beta still learn
    (the report's do)."""

    kind: Literal["frozen_bn"] = "frozen_bn"
    act: Literal["relu", "none"] = "relu"
    eps: float = 1e-5
    affine: Literal["trainable", "frozen"] = "trainable"


@dataclass(frozen=True)
class GroupNorm:
    """Wu & He 2018; `groups` must divide the channels."""

    kind: Literal["gn"] = "gn"
    act: Literal["relu", "none"] = "relu"
    groups: int = 32
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _require(self.groups >= 1, f"groups must be at least 1, is {self.groups}")


@dataclass(frozen=True)
class EvoNormS0:
    """Liu et al. 2020, EvoNorm-S0: y = gamma * x * sigmoid(v x) / sqrt(Var_g(x) + eps) + beta.
    Contains its activation."""

    kind: Literal["evonorm_s0"] = "evonorm_s0"
    groups: int = 32
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _require(self.groups >= 1, f"groups must be at least 1, is {self.groups}")


NormAct = BatchNorm | FrozenBatchNorm | GroupNorm | EvoNormS0


# ---------------------------------------------------------------- model


@dataclass(frozen=True)
class TinyBackbone:
    """A small residual net for the embedded default: taps at strides 8, 16 and 32 with 2, 4 and 4
    times `width` channels."""

    kind: Literal["tiny"] = "tiny"
    width: int = 16
    norm_act: NormAct = GroupNorm(groups=8)

    def __post_init__(self) -> None:
        _require(self.width >= 4, f"width must be at least 4, is {self.width}")


@dataclass(frozen=True)
class ResNet:
    """torchvision's ResNet, taps C3 to C5 (strides 8, 16, 32)."""

    kind: Literal["resnet18", "resnet50"] = "resnet50"
    # none | a path to a state dict | the name of a torchvision weights entry, e.g. IMAGENET1K_V1
    weights: str = "none"
    norm_act: NormAct = FrozenBatchNorm()


Backbone = TinyBackbone | ResNet


@dataclass(frozen=True)
class Fpn:
    """Feature pyramid P3 to P7 with norm and activation on the outputs (the report's form)."""

    kind: Literal["fpn"] = "fpn"
    channels: int = 256
    norm_act: NormAct = GroupNorm()

    def __post_init__(self) -> None:
        _require(self.channels >= 1, f"channels must be at least 1, is {self.channels}")


@dataclass(frozen=True)
class RetinaHead:
    """Two towers of convolutions shared over the levels.

    `norm_levels` says what a norm in a shared head means: `per_level` gives every level its own
    norm parameters and running statistics (the report's form), `shared` makes all levels use one
    norm in turn.
    """

    kind: Literal["retina"] = "retina"
    num_convs: int = 4
    norm_act: NormAct = GroupNorm()
    norm_levels: Literal["per_level", "shared"] = "per_level"
    prior_prob: float = 0.01

    def __post_init__(self) -> None:
        _require(self.num_convs >= 0, f"num_convs must be at least 0, is {self.num_convs}")
        _require(
            0 < self.prior_prob < 1, f"prior_prob must be between 0 and 1, is {self.prior_prob}"
        )


@dataclass(frozen=True)
class Anchors:
    """Per level one base size in pixels of the network input, times 2^(i/octave) for i < octave,
    times the aspect ratios w/h."""

    kind: Literal["grid"] = "grid"
    sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    octave: int = 3
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        _require(
            len(self.sizes) == 5,
            f"sizes needs one entry for each of the 5 levels P3 to P7, has {len(self.sizes)}",
        )
        _require(all(s > 0 for s in self.sizes), f"sizes must be positive, are {list(self.sizes)}")
        _require(self.octave >= 1, f"octave must be at least 1, is {self.octave}")
        _require(len(self.ratios) > 0, "ratios needs at least one entry")
        _require(
            all(r > 0 for r in self.ratios), f"ratios must be positive, are {list(self.ratios)}"
        )


@dataclass(frozen=True)
class MaxIouMatcher:
    """Positive from `high`, background below `low`, ignored between; `rescue` makes each box's best
    anchors positive too."""

    kind: Literal["max_iou"] = "max_iou"
    low: float = 0.4
    high: float = 0.5
    rescue: bool = True

    def __post_init__(self) -> None:
        _require(
            0 <= self.low <= self.high <= 1,
            f"0 <= low <= high <= 1 must hold, low is {self.low}, high is {self.high}",
        )


@dataclass(frozen=True)
class FocalLoss:
    """Lin et al. 2017: sum over anchors and classes of alpha_t (1 - p_t)^gamma CE, divided by the
    number of positives."""

    kind: Literal["focal"] = "focal"
    alpha: float = 0.25
    gamma: float = 2.0


@dataclass(frozen=True)
class HuberLoss:
    """Huber on the four box deltas; with delta = 1 this is what the report's `default` box loss
    was."""

    kind: Literal["huber"] = "huber"
    delta: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        _require(self.delta > 0, f"delta must be positive, is {self.delta}")


@dataclass(frozen=True)
class GiouLoss:
    """Rezatofighi et al. 2019: 1 - GIoU of the decoded box."""

    kind: Literal["giou"] = "giou"
    weight: float = 1.0


BoxLoss = HuberLoss | GiouLoss

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


@dataclass(frozen=True)
class RetinaNet:
    """Lin et al. 2017."""

    kind: Literal["retinanet"] = "retinanet"
    backbone: Backbone = ResNet()
    neck: Fpn = Fpn()
    head: RetinaHead = RetinaHead()
    anchors: Anchors = Anchors()
    matcher: MaxIouMatcher = MaxIouMatcher()
    class_loss: FocalLoss = FocalLoss()
    box_loss: BoxLoss = HuberLoss()
    normaliser: Normaliser = "running"
    postprocess: Postprocess = Postprocess()


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class Shapes:
    """The embedded synthetic set, drawn on first use into a cache folder in COCO format."""

    kind: Literal["shapes"] = "shapes"
    train_images: int = 512
    val_images: int = 128
    size: int = 128  # pixels, both sides
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.train_images >= 1, f"train_images must be at least 1, is {self.train_images}")
        _require(self.val_images >= 1, f"val_images must be at least 1, is {self.val_images}")
        _require(self.size >= 64, f"size must be at least 64 pixels, is {self.size}")


@dataclass(frozen=True)
class CocoFolder:
    """Any folder in COCO format. Paths are relative to `root`; a path left out is looked for under
    the usual names."""

    kind: Literal["coco"] = "coco"
    root: str = ""
    train_annotations: str | None = None
    val_annotations: str | None = None
    train_images: str | None = None
    val_images: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.root != "", "root is missing: the folder that holds annotations/ and the images"
        )


@dataclass(frozen=True)
class InputSize:
    """Short sides to draw from in training, one short side in evaluation, the cap of the long side,
    the padding multiple."""

    train_short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    train_max_side: int = 1333
    eval_short_side: int = 800
    eval_max_side: int = 1333
    pad_multiple: int = 32

    def __post_init__(self) -> None:
        _require(len(self.train_short_sides) > 0, "train_short_sides needs at least one entry")
        smallest = min(
            *self.train_short_sides, self.eval_short_side, self.train_max_side, self.eval_max_side
        )
        _require(smallest >= 16, f"sides must be at least 16 pixels, the smallest is {smallest}")
        _require(self.pad_multiple >= 1, f"pad_multiple must be at least 1, is {self.pad_multiple}")


@dataclass(frozen=True)
class Data:
    source: Shapes | CocoFolder = Shapes()
    input: InputSize = InputSize()
    flip: float = 0.5  # probability of a horizontal flip in training
    crowd: Literal["drop", "keep"] = (
        "drop"  # crowd boxes in training: left out, or ordinary boxes (as in the report)
    )
    empty_images: Literal["keep", "drop"] = "keep"  # training images without boxes
    on_bad_image: Literal["error", "skip"] = (
        "error"  # an image that is listed and absent or truncated
    )

    def __post_init__(self) -> None:
        _require(0 <= self.flip <= 1, f"flip is a probability, is {self.flip}")


# ---------------------------------------------------------------- optimisation


@dataclass(frozen=True)
class Sgd:
    kind: Literal["sgd"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4  # on weights of convolutions only: never on norms and biases
    clip_norm: float = 32.0  # global norm; 0 switches clipping off

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"lr must be positive, is {self.lr}")
        _require(0 <= self.momentum < 1, f"momentum must be in [0, 1), is {self.momentum}")
        _require(
            self.weight_decay >= 0, f"weight_decay must not be negative, is {self.weight_decay}"
        )
        _require(self.clip_norm >= 0, f"clip_norm must not be negative, is {self.clip_norm}")


@dataclass(frozen=True)
class StepSchedule:
    """lr times `gamma` at each milestone; milestones are fractions of the planned steps."""

    kind: Literal["step"] = "step"
    milestones: tuple[float, ...] = (0.6667, 0.8889)
    gamma: float = 0.1
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _require(
            all(0 < m < 1 for m in self.milestones),
            f"milestones are fractions of train.steps, are {list(self.milestones)}",
        )
        _require(
            list(self.milestones) == sorted(self.milestones),
            f"milestones must rise, are {list(self.milestones)}",
        )
        _require(
            self.warmup_steps >= 0, f"warmup_steps must not be negative, is {self.warmup_steps}"
        )


@dataclass(frozen=True)
class CosineSchedule:
    """Half a cosine from lr to `floor` between the warm-up and the last step."""

    kind: Literal["cosine"] = "cosine"
    floor: float = 1e-6
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _require(self.floor >= 0, f"floor must not be negative, is {self.floor}")
        _require(
            self.warmup_steps >= 0, f"warmup_steps must not be negative, is {self.warmup_steps}"
        )


@dataclass(frozen=True)
class Train:
    steps: int = 90_000  # optimiser steps
    batch_per_gpu: int = 2  # images of one rank in one forward pass
    workers: int = (
        1  # DDP ranks; they change the global batch, so they are part of a result's identity
    )
    accumulate: int = 1  # forward passes per optimiser step
    amp: Literal["none", "bf16"] = "none"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_per_gpu", "workers", "accumulate"):
            _require(
                getattr(self, name) >= 1, f"{name} must be at least 1, is {getattr(self, name)}"
            )


@dataclass(frozen=True)
class Eval:
    every: int = 0  # optimiser steps between evaluations; 0: only at the end
    batch: int = 8

    def __post_init__(self) -> None:
        _require(self.every >= 0, f"every must not be negative, is {self.every}")
        _require(self.batch >= 1, f"batch must be at least 1, is {self.batch}")


@dataclass(frozen=True)
class ProgressCheck:
    """At fraction `at` of the planned steps an evaluation must reach `min_map`, or the run is
    stopped as stalled."""

    at: float = 0.5
    min_map: float = 0.001

    def __post_init__(self) -> None:
        _require(0 < self.at < 1, f"at is a fraction of train.steps, is {self.at}")


@dataclass(frozen=True)
class Monitor:
    """When a run counts as failed to converge. Losses are those of the whole gang, read one step
    late."""

    window: int = 50  # steps of the running median
    explode_factor: float = 10.0  # exploding: loss above factor * median ...
    explode_patience: int = 10  # ... for this many steps on end
    min_map: float = 0.005  # never learned: final mAP below this
    progress: tuple[ProgressCheck, ...] = ()

    def __post_init__(self) -> None:
        _require(self.window >= 2, f"window must be at least 2, is {self.window}")
        _require(
            self.explode_factor > 1, f"explode_factor must be above 1, is {self.explode_factor}"
        )
        _require(
            self.explode_patience >= 1,
            f"explode_patience must be at least 1, is {self.explode_patience}",
        )


@dataclass(frozen=True)
class Runtime:
    """What must not change a result, and is therefore no part of its identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    loader_workers: int = 2  # processes per rank; 0 loads in the training process
    channels_last: bool = False  # memory format; off on CPU whatever is said here
    compile: bool = False  # torch.compile of the dense part; off on CPU whatever is said here
    log_every: int = 10  # optimiser steps between reported points
    checkpoint_every: int = 1000  # optimiser steps; also the last one; 0 writes none
    threads: int = 0  # CPU threads of a rank; 0 leaves torch's own choice

    def __post_init__(self) -> None:
        _require(
            self.loader_workers >= 0,
            f"loader_workers must not be negative, is {self.loader_workers}",
        )
        _require(self.log_every >= 1, f"log_every must be at least 1, is {self.log_every}")
        _require(
            self.checkpoint_every >= 0,
            f"checkpoint_every must not be negative, is {self.checkpoint_every}",
        )
        _require(self.threads >= 0, f"threads must not be negative, is {self.threads}")


@dataclass(frozen=True)
class Config:
    """One training run, whole."""

    data: Data = field(default_factory=Data)
    model: RetinaNet = field(default_factory=RetinaNet)
    optim: Sgd = field(default_factory=Sgd)
    schedule: StepSchedule | CosineSchedule = field(default_factory=StepSchedule)
    train: Train = field(default_factory=Train)
    eval: Eval = field(default_factory=Eval)
    monitor: Monitor = field(default_factory=Monitor)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.seed >= 0, f"seed must not be negative, is {self.seed}")
        warmup = self.schedule.warmup_steps
        _require(
            warmup < self.train.steps,
            f"schedule.warmup_steps ({warmup}) must be smaller than "
            f"train.steps ({self.train.steps})",
        )
