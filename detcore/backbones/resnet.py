"""torchvision's ResNet-18 and -50 with the norm+activation of the config.

Shape legend: B batch, H x W input size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet as tv

from detcore.backbones.weights import load_weights
from detcore.config import schema
from detcore.layers.norm_act import build_norm_act


def build_resnet(cfg: schema.ResNet) -> nn.Module:
    """The backbone with its weights loaded. Raises ValueError when the weights cannot be found or
    do not fit."""
    model = ResNet(cfg)
    if cfg.weights != "none":
        load_weights(model, cfg)
    return model


class BasicBlock(tv.BasicBlock):
    """torchvision's block with each norm and the ReLU behind it as one layer; only the ReLU after
    the addition is apart."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(tv.Bottleneck):
    """As BasicBlock, with three convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(tv.ResNet):
    """The taps C3, C4, C5 are the ends of layer2, layer3 and layer4; the classifier is left out.
    Keys are torchvision's."""

    def __init__(self, cfg: schema.ResNet) -> None:
        block, layers = ARCHITECTURES[cfg.kind]
        super().__init__(block, layers, norm_layer=partial(build_norm_act, cfg.norm_act, act=False))
        del self.fc, self.avgpool, self.relu
        self.channels = tuple(c * block.expansion for c in (128, 256, 512))
        self.bn1 = build_norm_act(cfg.norm_act, self.conv1.out_channels)
        for block in self.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                block.bn1 = build_norm_act(cfg.norm_act, block.conv1.out_channels)
            if isinstance(block, Bottleneck):
                block.bn2 = build_norm_act(cfg.norm_act, block.conv2.out_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B x 3 x H x W -> (C3, C4, C5) at H/8, H/16, H/32, sizes rounded up."""
        x = self.layer1(self.maxpool(self.bn1(self.conv1(images))))
        c3 = self.layer2(x)
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)


ARCHITECTURES: dict[str, tuple[Any, list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
