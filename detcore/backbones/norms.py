"""How the config's norm+activation gets into a network that torchvision builds: torchvision takes a
norm alone and never gives the convolution before it a bias."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from detcore.config import schema
from detcore.layers.conv import needs_bias
from detcore.layers.norm_act import build_norm_act


def norm_layer(cfg: schema.NormAct) -> Callable[[int], nn.Module]:
    """torchvision's `norm_layer`: channels -> the norm without its activation."""
    return partial(build_norm_act, cfg, act=False)


def contain_activations(model: nn.Module, cfg: schema.NormAct) -> None:
    """Where a norm that contains its activation is followed by one of the network's own, let it
    take that one's place. Other norms keep the network's activation behind them."""
    if cfg.kind != "evonorm_s0":
        return
    for layer in model.modules():
        if isinstance(layer, Conv2dNormActivation) and len(layer) == 3:
            layer[1] = build_norm_act(cfg, layer[0].out_channels)
            layer[2] = nn.Identity()


def add_biases(model: nn.Module, cfg: schema.NormAct) -> None:
    """Give every convolution a bias of 0 when no norm brings one."""
    if not needs_bias(cfg):
        return
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and conv.bias is None:
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
