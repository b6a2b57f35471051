"""ResNets: TF-slim's strides against a plain loop, frozen statistics, EvoNorm's gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcore.backbones import build_backbone
from detcore.config import schema
from detcore.layers.evonorm import EvoNormS0
from detcore.layers.norm_act import FrozenBatchNormAct

from .published import save, torchvision_model


def slim_unit(block: Any, x: Tensor, stride: int) -> Tensor:
    """A unit of torchvision's weights with a stride of our choice: on the 3 x 3 convolution (the
    first of two), and on the shortcut, max-pooled with a 1 x 1 window where it is the identity."""
    if hasattr(block, "conv3"):
        y = F.relu(block.bn1(F.conv2d(x, block.conv1.weight)))
        y = F.relu(block.bn2(F.conv2d(y, block.conv2.weight, stride=stride, padding=1)))
        y = block.bn3(F.conv2d(y, block.conv3.weight))
    else:
        y = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, stride=stride, padding=1)))
        y = block.bn2(F.conv2d(y, block.conv2.weight, padding=1))
    if block.downsample is None:
        return F.relu(y + F.max_pool2d(x, 1, stride))
    convolution, norm = block.downsample
    return F.relu(y + norm(F.conv2d(x, convolution.weight, stride=stride)))


def slim_taps(model: Any, images: Tensor) -> list[Tensor]:
    """Strides 2, 2, 2, 1 in the last unit of the four stages; C3, C4, C5 are stages 1, 2, 4."""
    x = F.max_pool2d(F.relu(model.bn1(model.conv1(images))), 3, 2, 1)
    ends = []
    for stage, stride in (
        (model.layer1, 2),
        (model.layer2, 2),
        (model.layer3, 2),
        (model.layer4, 1),
    ):
        for block in stage[:-1]:
            x = slim_unit(block, x, 1)
        x = slim_unit(stage[-1], x, stride)
        ends.append(x)
    return [ends[0], ends[1], ends[3]]


@pytest.mark.parametrize(
    ("kind", "channels"), [("resnet18", (64, 128, 512)), ("resnet50", (256, 512, 2048))]
)
def test_slim_strides_against_a_plain_loop(
    kind: Any, channels: tuple[int, int, int], tmp_path: Path
) -> None:
    theirs = torchvision_model(kind).eval()
    path = save(tmp_path, theirs.state_dict())
    ours = build_backbone(schema.ResNet(kind, path, schema.BatchNorm(), "slim")).eval()
    images = torch.rand(1, 3, 70, 97)
    found = ours(images)
    assert tuple(m.shape[1] for m in found) == channels == ours.channels
    assert [m.shape[2:] for m in found] == [(9, 13), (5, 7), (3, 4)]
    for mine, other in zip(found, slim_taps(theirs, images), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_slim_has_the_same_entries_and_other_features() -> None:
    torch.manual_seed(0)
    usual = build_backbone(schema.ResNet("resnet50"))
    torch.manual_seed(0)
    slim = build_backbone(schema.ResNet("resnet50", taps="slim"))
    states = usual.state_dict(), slim.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(usual(images)[2], slim(images)[2])


@pytest.mark.parametrize("affine", ["trainable", "frozen"])
def test_frozen_statistics_never_move_and_gamma_and_beta_learn_or_not(
    affine: Any, tmp_path: Path
) -> None:
    path = save(tmp_path, torchvision_model("resnet50").state_dict())
    norm = schema.FrozenBatchNorm(affine=affine)
    model = build_backbone(schema.ResNet("resnet50", path, norm)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sum(m.square().mean() for m in model(torch.rand(1, 3, 64, 64))).backward()
    optimizer.step()
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    norms = [n for n, m in model.named_modules() if isinstance(m, FrozenBatchNormAct)]
    assert len(norms) == 53
    affines = {f"{name}.{part}" for name in norms for part in ("weight", "bias")}
    convolutions = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert moved == convolutions | (affines if affine == "trainable" else set())
    assert {n for n, _ in model.named_parameters()} == moved


def test_evonorm_has_its_gate_only_where_a_relu_followed() -> None:
    """resnet50: one stem and two of three norms per block, of 16 blocks; the rest has no v."""
    model = build_backbone(schema.ResNet("resnet50", norm_act=schema.EvoNormS0()))
    norms = [m for m in model.modules() if isinstance(m, EvoNormS0)]
    assert len(norms) == 1 + 3 * 16 + 4
    assert sum(m.v is not None for m in norms) == 1 + 2 * 16
