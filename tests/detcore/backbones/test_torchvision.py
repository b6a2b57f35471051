"""What holds for every torchvision backbone: its features are torchvision's own, of any size, in
any memory format, compiled whole, under every norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from detcore.backbones import build_backbone
from detcore.config import schema
from detcore.layers.conv import needs_bias

from .published import TAPS, config, inner_features, save, torchvision_model

EPS = {"mobilenet_v3_large": 1e-3}  # torchvision's; 1e-5 elsewhere
NORMS = [
    schema.BatchNorm(),
    schema.SyncBatchNorm(),
    schema.FrozenBatchNorm(),
    schema.GroupNorm(groups=8),
    schema.EvoNormS0(groups=8),
    schema.SwitchableNorm(),
    schema.NoNorm(),
]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", list(TAPS))
def test_bn_gives_torchvisions_own_features(kind: str, train: bool, tmp_path: Path) -> None:
    theirs = torchvision_model(kind).train(train)
    norm = schema.BatchNorm(eps=EPS.get(kind, 1e-5))
    ours = build_backbone(config(kind, save(tmp_path, theirs.state_dict()), norm)).train(train)
    for module in theirs.modules():
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    images = torch.rand(2, 3, 64, 64)
    found = ours(images)
    assert [m.shape[1] for m in found] == list(ours.channels)
    for mine, other in zip(found, inner_features(theirs, kind, images), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3_large", "efficientnet_b0"])
def test_frozen_bn_uses_the_loaded_statistics_in_both_modes(
    kind: str, train: bool, tmp_path: Path
) -> None:
    theirs = torchvision_model(kind, norm_layer=FrozenBatchNorm2d).eval()
    cfg = config(kind, save(tmp_path, theirs.state_dict()), schema.FrozenBatchNorm())
    ours = build_backbone(cfg).train(train)
    images = torch.rand(1, 3, 64, 64)
    for mine, other in zip(ours(images), inner_features(theirs, kind, images), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3_large", "efficientnet_b0"])
def test_the_same_seed_gives_torchvisions_init(kind: str) -> None:
    torch.manual_seed(5)
    ours = build_backbone(config(kind, norm=schema.BatchNorm())).state_dict()
    torch.manual_seed(5)
    theirs = get_model(kind, weights=None).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("size", [(33, 65), (97, 50)])
@pytest.mark.parametrize("taps", [{}, {"taps": "slim"}])
@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3_large", "efficientnet_b0"])
def test_odd_sizes_are_rounded_up(kind: str, taps: Any, size: tuple[int, int]) -> None:
    if taps and kind != "resnet18":
        return
    model = build_backbone(config(kind, **taps))
    maps = model(torch.rand(1, 3, *size))
    assert [m.shape[1] for m in maps] == list(model.channels)
    for feature, stride in zip(maps, (8, 16, 32), strict=True):
        assert feature.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


def test_channels_last_changes_nothing_but_the_memory() -> None:
    for kind, settings in (
        ("resnet50", {"taps": "slim"}),
        ("mobilenet_v3_large", {}),
        ("efficientnet_b0", {}),
    ):
        torch.manual_seed(0)
        model = build_backbone(config(kind, norm=schema.GroupNorm(groups=8), **settings))
        images = torch.rand(1, 3, 64, 64)
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        found = model(images.to(memory_format=torch.channels_last))
        for mine, other in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
            assert mine.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("resnet18", {"taps": "slim"}), ("efficientnet_b0", {"drop_connect": 0.2})],
)
def test_it_compiles_without_a_graph_break(kind: str, settings: dict[str, Any]) -> None:
    """MobileNetV3 is left out: it is EfficientNet's module over the same kind of blocks."""
    torch._dynamo.reset()
    model = build_backbone(config(kind, norm=schema.BatchNorm(), **settings))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    images = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    expected = model(images)
    torch.manual_seed(0)
    for mine, other in zip(compiled(images), expected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.kind)
@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3_large", "efficientnet_b0"])
def test_under_every_norm_every_parameter_learns(kind: str, norm: Any) -> None:
    torch.manual_seed(0)
    model = build_backbone(config(kind, norm=norm))
    # tenths of the images' scale: ResNet without a norm grows its maps by 2 per unit
    sum(m.abs().mean() for m in model(torch.rand(2, 3, 64, 64) / 10)).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert not needs_bias(norm) or all(conv.bias is not None for conv in convolutions)


@pytest.mark.parametrize("kind", ["resnet18", "mobilenet_v3_large", "efficientnet_b0"])
def test_spectral_norm_is_refused_in_one_line(kind: str) -> None:
    with pytest.raises(ValueError) as error:
        config(kind, norm=schema.SpectralNorm())
    assert str(error.value).startswith("norm_act: spectral needs the weight")
    assert "choices: bn, sync_bn, frozen_bn, gn, evonorm_s0, switchable, none" in str(error.value)
    assert "\n" not in str(error.value)
