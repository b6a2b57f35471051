"""MobileNetV3 and EfficientNet: stochastic depth, and where the activations are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import Conv2dNormActivation

from detcore.backbones import build_backbone
from detcore.config import schema
from detcore.layers.evonorm import EvoNormS0

from .published import config, inner_features, save, torchvision_model

KINDS = ["mobilenet_v3_large", "efficientnet_b0"]


def test_drop_connect_is_torchvisions_stochastic_depth(tmp_path: Path) -> None:
    """The classifier's dropout comes after the taps, so the same seed drops the same branches."""
    theirs = torchvision_model("efficientnet_b0", stochastic_depth_prob=0.9).train()
    path = save(tmp_path, theirs.state_dict())
    cfg = schema.EfficientNet(weights=path, norm_act=schema.BatchNorm(), drop_connect=0.9)
    images = torch.rand(4, 3, 64, 64)
    ours = build_backbone(cfg).train()
    torch.manual_seed(1)
    found = ours(images)
    torch.manual_seed(1)
    expected = inner_features(theirs, "efficientnet_b0", images)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_drop_connect_0_draws_nothing_and_above_0_drops_in_training_only() -> None:
    images = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    norm = schema.GroupNorm(groups=8)
    off = build_backbone(schema.EfficientNet(norm_act=norm))
    on = build_backbone(schema.EfficientNet(norm_act=norm, drop_connect=0.9))
    on.load_state_dict(off.state_dict())
    before = torch.get_rng_state()
    expected = off.train()(images)[2]
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(on.eval()(images)[2], expected)
    assert not torch.allclose(on.train()(images)[2], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_evonorm_takes_the_place_of_every_activation_behind_a_norm(kind: str) -> None:
    """Squeeze and excitation has no norm and keeps its own."""
    theirs = get_model(kind, weights=None)
    layers = [m for m in theirs.features.modules() if isinstance(m, Conv2dNormActivation)]
    if kind == "efficientnet_b0":
        layers.pop()  # the expansion behind C5
    ours = build_backbone(config(kind, norm=schema.EvoNormS0(groups=8)))
    norms = [m for m in ours.modules() if isinstance(m, EvoNormS0)]
    assert [m.v is not None for m in norms] == [len(layer) == 3 for layer in layers]
    kept = [m for m in ours.modules() if isinstance(m, nn.ReLU | nn.SiLU | nn.Hardswish)]
    inside = [m.activation for m in ours.modules() if type(m).__name__ == "SqueezeExcitation"]
    assert {id(m) for m in kept} == {id(m) for m in inside}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", [schema.GroupNorm(), schema.EvoNormS0()])
def test_groups_that_do_not_divide_a_width_are_refused(kind: str, norm: Any) -> None:
    with pytest.raises(ValueError, match="groups = 32 does not divide 16 channels; choices: 1, 2"):
        build_backbone(config(kind, norm=norm))
