"""What the network is fed and in which precision it computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

MEAN = (123.675, 116.28, 103.53)  # RGB, ImageNet
STD = (58.395, 57.12, 57.375)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """B x 3 x H x W uint8 RGB to float32, minus the mean colour, over its spread; the padding
    becomes (nearly) zero."""
    mean = torch.tensor(MEAN).to(images.device, non_blocking=True).view(1, 3, 1, 1)
    std = torch.tensor(STD).to(images.device, non_blocking=True).view(1, 3, 1, 1)
    return (images.float() - mean) / std


def autocast(amp: str, device: torch.device) -> AbstractContextManager[None]:
    """bf16 where the config asks for it and the device is a GPU; the losses leave it by
    themselves."""
    if amp == "bf16" and device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
