"""What the tests of torchvision-shaped backbones share: torchvision's models with statistics that
are not 0 and 1, their inner features, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from detcore.config import schema

TAPS = {
    "resnet18": ("layer2", "layer3", "layer4"),
    "resnet50": ("layer2", "layer3", "layer4"),
    "mobilenet_v3_large": ("features.6", "features.12", "features.16"),
    "efficientnet_b0": ("features.3", "features.5", "features.7"),
}
CONFIGS = {
    "resnet18": schema.ResNet,
    "resnet50": schema.ResNet,
    "mobilenet_v3_large": schema.MobileNetV3,
    "efficientnet_b0": schema.EfficientNet,
}


def config(kind: str, weights: str = "none", norm: Any = None, **settings: Any) -> Any:
    if norm is not None:
        settings["norm_act"] = norm
    return CONFIGS[kind](kind=kind, weights=weights, **settings)


def torchvision_model(kind: str, **arguments: Any) -> nn.Module:
    """Random convolutions, gamma and variance in 0.5 to 1.5, beta and mean in -0.25 to 0.25."""
    torch.manual_seed(0)
    model = get_model(kind, weights=None, **arguments)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            with torch.no_grad():
                for value in (module.weight, module.running_var):
                    value.copy_(torch.rand_like(value) + 0.5)
                for value in (module.bias, module.running_mean):
                    value.copy_(torch.rand_like(value) / 2 - 0.25)
    return model


def hollow_state(kind: str) -> dict[str, Tensor]:
    """torchvision's entries and shapes over one stored number each: quick to make and small."""
    with torch.device("meta"):
        state = get_model(kind, weights=None).state_dict()
    return {key: torch.zeros((), dtype=v.dtype).expand(v.shape) for key, v in state.items()}


def inner_features(model: nn.Module, kind: str, images: Tensor) -> list[Tensor]:
    """C3, C4, C5 as the whole model's forward makes them, classifier and all."""
    found = []
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out: found.append(out))
        for name in TAPS[kind]
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return found


def save(tmp_path: Path, state: Any) -> str:
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    return str(path)
