"""ResNets against torchvision's own models with the same weights; weights that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d

from detcore.backbones import build_backbone
from detcore.config import schema
from detcore.layers.evonorm import EvoNormS0

TAPS = {"layer2": "c3", "layer3": "c4", "layer4": "c5"}


def torchvision_with_statistics(kind: str, norm_layer: Any = None) -> nn.Module:
    torch.manual_seed(0)
    model = get_model(kind, norm_layer=norm_layer)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "bn" in name or "downsample.1" in name:
                value.copy_(torch.rand_like(value.float()) + 0.5)
    return model


def save(tmp_path: Path, state: Any) -> str:
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    return str(path)


def taps(model: nn.Module, images: Tensor) -> list[Tensor]:
    return list(create_feature_extractor(model, TAPS)(images).values())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_bn_is_torchvisions_model(kind: Any, train: bool, tmp_path: Path) -> None:
    theirs = torchvision_with_statistics(kind)
    cfg = schema.ResNet(kind, save(tmp_path, theirs.state_dict()), schema.BatchNorm())
    ours = build_backbone(cfg)
    images = torch.rand(2, 3, 64, 64)
    extractor = create_feature_extractor(theirs, TAPS).train(train)
    expected = list(extractor(images).values())
    found = ours.train(train)(images)
    assert [m.shape[1] for m in found] == list(ours.channels)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("train", [True, False])
def test_frozen_bn_uses_the_loaded_statistics_in_both_modes(train: bool, tmp_path: Path) -> None:
    theirs = torchvision_with_statistics("resnet18", FrozenBatchNorm2d)
    cfg = schema.ResNet("resnet18", save(tmp_path, theirs.state_dict()), schema.FrozenBatchNorm())
    ours = build_backbone(cfg).train(train)
    images = torch.rand(1, 3, 64, 64)
    for mine, other in zip(ours(images), taps(theirs, images), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_torchvisions_init() -> None:
    torch.manual_seed(5)
    ours = build_backbone(schema.ResNet("resnet18", norm_act=schema.BatchNorm())).state_dict()
    torch.manual_seed(5)
    theirs = get_model("resnet18").state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_evonorm_has_its_gate_only_where_a_relu_followed() -> None:
    """resnet50: one stem and two of three norms per block, of 16 blocks; the rest has no v."""
    model = build_backbone(schema.ResNet("resnet50", norm_act=schema.EvoNormS0()))
    norms = [m for m in model.modules() if isinstance(m, EvoNormS0)]
    assert len(norms) == 1 + 3 * 16 + 4
    assert sum(m.v is not None for m in norms) == 1 + 2 * 16


@pytest.mark.parametrize("norm", [schema.GroupNorm(), schema.EvoNormS0()])
def test_other_norms_take_the_convolutions_and_keep_their_own_values(
    norm: schema.NormAct, tmp_path: Path
) -> None:
    theirs = torchvision_with_statistics("resnet18").state_dict()
    ours = build_backbone(schema.ResNet("resnet18", save(tmp_path, theirs), norm)).state_dict()
    assert torch.equal(ours["layer3.1.conv2.weight"], theirs["layer3.1.conv2.weight"])
    assert torch.equal(ours["layer3.0.downsample.0.weight"], theirs["layer3.0.downsample.0.weight"])
    assert ours["layer3.0.bn1.weight"].eq(1).all()
    assert ours["layer3.0.downsample.1.weight"].eq(1).all()


def test_our_own_state_dict_loads_whole(tmp_path: Path) -> None:
    model = build_backbone(schema.ResNet("resnet18", norm_act=schema.EvoNormS0()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    path = save(tmp_path, model.state_dict())
    again = build_backbone(schema.ResNet("resnet18", path, schema.EvoNormS0())).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def one_line(weights: str, kind: Any = "resnet18") -> str:
    with pytest.raises(ValueError) as error:
        build_backbone(schema.ResNet(kind, weights, schema.BatchNorm()))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file() -> None:
    assert one_line("no/such/file.pt") == "weights: no such file: no/such/file.pt"


def test_unknown_name_lists_the_choices() -> None:
    message = one_line("IMAGENET1K_V3")
    assert "'IMAGENET1K_V3'" in message
    assert "choices: none, IMAGENET1K_V1" in message


def test_wrong_architecture(tmp_path: Path) -> None:
    path = save(tmp_path, get_model("resnet50").state_dict())
    message = one_line(path)
    assert path in message
    assert "resnet18" in message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\n."])
def test_a_file_that_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert str(path) in one_line(str(path))


def test_a_whole_training_checkpoint_is_named_as_such(tmp_path: Path) -> None:
    path = save(tmp_path, {"model": get_model("resnet18").state_dict(), "step": 3})
    assert "top level: model, step" in one_line(path)


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "/nonexistent-cache")
    monkeypatch.setattr("torch.hub.os.makedirs", lambda *a, **k: None)
    message = one_line("IMAGENET1K_V1")
    assert ResNet18_Weights.IMAGENET1K_V1.url in message
    assert "on a machine with network" in message
