"""Optimisation, evaluation, the verdict on convergence, and what must not change a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.require import require


@dataclass(frozen=True)
class Sgd:
    kind: Literal["sgd"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4  # on weights of convolutions only: never on norms and biases
    clip_norm: float = 32.0  # global norm; 0 switches clipping off

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be positive, is {self.lr}")
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), is {self.momentum}")
        require(
            self.weight_decay >= 0, f"weight_decay must not be negative, is {self.weight_decay}"
        )
        require(self.clip_norm >= 0, f"clip_norm must not be negative, is {self.clip_norm}")


@dataclass(frozen=True)
class StepSchedule:
    """lr times `gamma` at each milestone; milestones are fractions of the planned steps."""

    kind: Literal["step"] = "step"
    milestones: tuple[float, ...] = (0.6667, 0.8889)
    gamma: float = 0.1
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require(
            all(0 < m < 1 for m in self.milestones),
            f"milestones are fractions of train.steps, are {list(self.milestones)}",
        )
        require(
            list(self.milestones) == sorted(self.milestones),
            f"milestones must rise, are {list(self.milestones)}",
        )
        require(
            self.warmup_steps >= 0, f"warmup_steps must not be negative, is {self.warmup_steps}"
        )


@dataclass(frozen=True)
class CosineSchedule:
    """Half a cosine from lr to `floor` between the warm-up and the last step."""

    kind: Literal["cosine"] = "cosine"
    floor: float = 1e-6
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        require(self.floor >= 0, f"floor must not be negative, is {self.floor}")
        require(
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
            require(
                getattr(self, name) >= 1, f"{name} must be at least 1, is {getattr(self, name)}"
            )


@dataclass(frozen=True)
class Eval:
    every: int = 0  # optimiser steps between evaluations; 0: only at the end
    batch: int = 8
    # `coco`: the official protocol. `report`: as the report scored: boxes at the size of the
    # network input, area = box area, crowds as ordinary boxes, images without boxes left out
    protocol: Literal["coco", "report"] = "coco"

    def __post_init__(self) -> None:
        require(self.every >= 0, f"every must not be negative, is {self.every}")
        require(self.batch >= 1, f"batch must be at least 1, is {self.batch}")


@dataclass(frozen=True)
class ProgressCheck:
    """At fraction `at` of the planned steps an evaluation must reach `min_map`, or the run is
    stopped as stalled."""

    at: float = 0.5
    min_map: float = 0.001

    def __post_init__(self) -> None:
        require(0 < self.at < 1, f"at is a fraction of train.steps, is {self.at}")


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
        require(self.window >= 2, f"window must be at least 2, is {self.window}")
        require(
            self.explode_factor > 1, f"explode_factor must be above 1, is {self.explode_factor}"
        )
        require(
            self.explode_patience >= 1,
            f"explode_patience must be at least 1, is {self.explode_patience}",
        )


@dataclass(frozen=True)
class Runtime:
    """What must not change a result, but for how sums are rounded (channels_last, compile, device),
    and is therefore no part of its identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    loader_workers: int = 2  # processes per rank; 0 loads in the training process
    channels_last: bool = False  # memory format
    compile: bool = False  # torch.compile of the dense part; off on CPU whatever is said here
    log_every: int = 10  # optimiser steps between reported points
    checkpoint_every: int = 1000  # optimiser steps; also the last one; 0 writes none
    # disk for resized images, which all cells on a node share (see detcore/data/resized.py), in
    # 1e9 bytes; 0: none
    cache_gb: float = 0.0
    threads: int = 0  # CPU threads of a rank; 0 leaves torch's own choice
    # what computes the COCO metrics: the definition, or the same numbers many times sooner (needs
    # pip install 'detection-ablation[fast]')
    coco_eval: Literal["pycocotools", "hotcoco"] = "pycocotools"
    # where evaluations on the way (`eval.every`, `monitor.progress`) are scored: in a process
    # beside training, or while training waits; auto: beside it on GPUs, which leave the CPU idle
    scoring: Literal["auto", "beside", "inline"] = "auto"

    def __post_init__(self) -> None:
        require(
            self.loader_workers >= 0,
            f"loader_workers must not be negative, is {self.loader_workers}",
        )
        require(self.log_every >= 1, f"log_every must be at least 1, is {self.log_every}")
        require(
            self.checkpoint_every >= 0,
            f"checkpoint_every must not be negative, is {self.checkpoint_every}",
        )
        require(self.cache_gb >= 0, f"cache_gb must not be negative, is {self.cache_gb}")
        require(self.threads >= 0, f"threads must not be negative, is {self.threads}")
