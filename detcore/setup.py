"""What a run starts with: its data, its detector, its optimiser."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from detcore.config import Config
from detcore.config.schema import Data
from detcore.data.coco import CocoSplit, open_split
from detcore.data.folder import DataError
from detcore.detectors import Detector, build_detector


def open_splits(data: Data) -> tuple[CocoSplit, CocoSplit]:
    """The training and the evaluation split; raises DataError."""
    train_split, val_split = open_split(data, "train"), open_split(data, "val")
    check_splits(train_split, val_split)
    return train_split, val_split


def check_splits(train_split: CocoSplit, val_split: CocoSplit) -> None:
    """Raise DataError for splits that cannot be trained on the one and scored on the other."""
    if train_split.category_ids != val_split.category_ids:
        raise DataError(
            f"{val_split.annotation_file}: its categories are not those of "
            f"{train_split.annotation_file}; class numbers would mean different things"
        )
    if len(val_split.boxes) == 0:
        file = val_split.annotation_file
        held = "the part held out " if file == train_split.annotation_file else ""
        raise DataError(f"{file}: {held}has no boxes, so mAP is undefined")


def first_detector(config: Config, train_split: CocoSplit) -> Detector:
    """The detector with its first weights, on the CPU; seeds torch. Raises ValueError."""
    torch.manual_seed(config.seed)
    num_classes = len(train_split.category_ids)
    class_counts = np.bincount(train_split.labels, minlength=num_classes).tolist()
    return build_detector(config.model, num_classes, class_counts)


def build_optimizer(detector: nn.Module, config: Config) -> torch.optim.Optimizer:
    """SGD; weight decay on convolution weights only, not on norms and biases (one dimension)."""
    weights = [p for p in detector.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in detector.parameters() if p.requires_grad and p.ndim <= 1]
    optim = config.optim
    return torch.optim.SGD(
        [
            {"params": weights, "weight_decay": optim.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        fused=True,
    )
