"""Backbones: what makes the maps C3, C4 and C5 (strides 8, 16, 32) from images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from detcore.config.schema.norm import FrozenBatchNorm, GroupNorm, NormAct
from detcore.config.schema.require import require

# `weights` of a backbone: none | a path to a state dict | the name of one of torchvision's weights
# entries, e.g. IMAGENET1K_V1


@dataclass(frozen=True)
class TinyBackbone:
    """A small residual net for the embedded default: taps at strides 8, 16 and 32 with 2, 4 and 4
    times `width` channels."""

    kind: Literal["tiny"] = "tiny"
    width: int = 16
    norm_act: NormAct = GroupNorm(groups=8)

    def __post_init__(self) -> None:
        require(self.width >= 4, f"width must be at least 4, is {self.width}")


@dataclass(frozen=True)
class ResNet:
    """torchvision's ResNet. `taps` says where the strides lie and so what C3 and C4 are.

    `usual`: the first block of a stage has the stride; C3, C4, C5 are layer2, layer3, layer4.
    `slim`: the last block of layer1, layer2 and layer3 has the stride, as in TF-slim, which the
    report used; C3 and C4 are then layer1 and layer2 (of a ResNet-50: 256 and 512 channels), and
    layer3 only leads to C5. Published weights load either way; torchvision trained them with the
    `usual` strides, so with `slim` the first steps have to adapt.

    The ReLU after a unit's addition stays whatever `norm_act` is.
    """

    kind: Literal["resnet18", "resnet50"] = "resnet50"
    weights: str = "none"
    norm_act: NormAct = FrozenBatchNorm()
    taps: Literal["usual", "slim"] = "usual"

    def __post_init__(self) -> None:
        _require_norm_alone(self.norm_act)


@dataclass(frozen=True)
class MobileNetV3:
    """torchvision's MobileNetV3-Large (Howard et al. 2019); C3, C4, C5 have 40, 112, 960
    channels.

    Its published weights were trained with eps 1e-3; bn, sync_bn and frozen_bn with another eps
    load them and compute something slightly different. The activations are the architecture's:
    `act` of the norm has no effect, evonorm_s0 takes their place (its groups must divide all
    widths: 1, 2, 4 or 8).

    From random weights (`weights: none`) take bn, gn or evonorm_s0: with frozen_bn, whose
    statistics are then 0 and 1, or none, the maps shrink from layer to layer to 1e-8 and less.
    """

    kind: Literal["mobilenet_v3_large"] = "mobilenet_v3_large"
    weights: str = "none"
    norm_act: NormAct = FrozenBatchNorm(eps=1e-3)

    def __post_init__(self) -> None:
        _require_norm_alone(self.norm_act)


@dataclass(frozen=True)
class EfficientNet:
    """torchvision's EfficientNet-B0 (Tan & Le 2019); C3, C4, C5 have 40, 112, 320 channels.

    In training, block i of 16 (from 0) leaves out its residual branch for an image with
    probability drop_connect * i / 16; the report's was off. What MobileNetV3 says of activations
    and of random weights holds here too.
    """

    kind: Literal["efficientnet_b0"] = "efficientnet_b0"
    weights: str = "none"
    norm_act: NormAct = FrozenBatchNorm()
    drop_connect: float = 0.0

    def __post_init__(self) -> None:
        _require_norm_alone(self.norm_act)
        require(
            0 <= self.drop_connect < 1, f"drop_connect must be in [0, 1), is {self.drop_connect}"
        )


def _require_norm_alone(norm_act: NormAct) -> None:
    choices = ", ".join(norm.kind for norm in get_args(NormAct) if norm.kind != "spectral")
    require(
        norm_act.kind != "spectral",
        "norm_act: spectral needs the weight of the convolution before it, which torchvision's "
        f"backbones do not hand on; choices: {choices}",
    )


Backbone = TinyBackbone | ResNet | MobileNetV3 | EfficientNet
