"""torchvision's ResNet-18 and -50 with the norm+activation of the config, with the strides where
torchvision has them or where TF-slim has them.

Shape legend: B batch, H x W input size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet as tv

from detcore.backbones.norms import add_biases, norm_layer
from detcore.backbones.weights import load_weights
from detcore.config import schema
from detcore.layers.norm_act import build_norm_act


def build_resnet(cfg: schema.ResNet) -> nn.Module:
    """The backbone with its weights loaded. Raises ValueError when the weights cannot be found or
    do not fit."""
    model = ResNet(cfg)
    if cfg.weights != "none":
        load_weights(model, cfg, left_out=("fc.",))
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


class Subsample(nn.Module):
    """B x C x H x W -> every second row and column, sizes rounded up: the identity shortcut of a
    unit with stride 2 (TF-slim's max-pooling with a 1 x 1 window)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]


class ResNet(tv.ResNet):
    """The taps C3, C4, C5 are the ends of layer2, layer3 and layer4, with `slim` strides of layer1,
    layer2 and layer4; the classifier is left out. Keys and shapes are torchvision's either way."""

    def __init__(self, cfg: schema.ResNet) -> None:
        block, layers = ARCHITECTURES[cfg.kind]
        super().__init__(block, layers, norm_layer=norm_layer(cfg.norm_act))
        del self.fc, self.avgpool, self.relu
        self.slim = cfg.taps == "slim"
        widths = (64, 128, 512) if self.slim else (128, 256, 512)
        self.channels = tuple(c * block.expansion for c in widths)
        self.bn1 = build_norm_act(cfg.norm_act, self.conv1.out_channels)
        for block in self.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                block.bn1 = build_norm_act(cfg.norm_act, block.conv1.out_channels)
            if isinstance(block, Bottleneck):
                block.bn2 = build_norm_act(cfg.norm_act, block.conv2.out_channels)
        add_biases(self, cfg.norm_act)
        if self.slim:
            _stride_last(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B x 3 x H x W -> (C3, C4, C5) at H/8, H/16, H/32, sizes rounded up."""
        x = self.maxpool(self.bn1(self.conv1(images)))
        c3 = x = self.layer1(x)
        c4 = x = self.layer2(x)
        x = self.layer3(x)
        if not self.slim:
            c3, c4 = c4, x
        return c3, c4, self.layer4(x)


def _stride_last(model: ResNet) -> None:
    """Move the stride of layer2, layer3 and layer4 from the first unit to the last unit of the
    stage before (TF-slim, resnet_v1.py). In a Bottleneck it stays with the 3 x 3 convolution."""
    stages = (model.layer1, model.layer2, model.layer3, model.layer4)
    for stage, following in pairwise(stages):
        assert stage[-1].downsample is None  # an identity shortcut
        _strided_conv(stage[-1]).stride = (2, 2)
        stage[-1].downsample = Subsample()
        _strided_conv(following[0]).stride = (1, 1)
        following[0].downsample[0].stride = (1, 1)
        stage[-1].stride, following[0].stride = 2, 1


def _strided_conv(block: nn.Module) -> nn.Conv2d:
    conv = block.conv2 if isinstance(block, Bottleneck) else block.conv1
    assert isinstance(conv, nn.Conv2d)
    return conv


ARCHITECTURES: dict[str, tuple[Any, list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
