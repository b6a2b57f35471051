"""Weights from files: what each norm takes of them, and one-line errors for those that cannot be
used. Nothing here uses the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights

from detcore.backbones import build_backbone
from detcore.config import schema

from .published import config, hollow_state, save, torchvision_model

KINDS = ["resnet18", "mobilenet_v3_large", "efficientnet_b0"]
OTHER_NORMS = [
    schema.GroupNorm(groups=8),
    schema.EvoNormS0(groups=8),
    schema.SwitchableNorm(),
    schema.NoNorm(),
]


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        *(("mobilenet_v3_large", norm) for norm in OTHER_NORMS),
        ("resnet18", schema.GroupNorm()),
        ("resnet18", schema.NoNorm()),
        ("efficientnet_b0", schema.EvoNormS0(groups=8)),
    ],
)
def test_other_norms_take_the_convolutions_and_keep_their_own_values(
    kind: str, norm: Any, tmp_path: Path
) -> None:
    theirs = torchvision_model(kind)
    published = theirs.state_dict()
    initial = build_backbone(config(kind, norm=norm)).state_dict()
    loaded = build_backbone(config(kind, save(tmp_path, published), norm)).state_dict()
    from_file = {
        f"{name}.{part}"
        for name, module in theirs.named_modules()
        if isinstance(module, nn.Conv2d)
        for part, value in module.named_parameters()
        if f"{name}.{part}" in loaded
    }
    assert len(from_file) >= 20
    for key, value in loaded.items():
        assert torch.equal(value, published[key] if key in from_file else initial[key]), key


@pytest.mark.parametrize(
    "norm",
    [schema.BatchNorm(), schema.SyncBatchNorm(), schema.FrozenBatchNorm(affine="frozen")],
    ids=lambda norm: norm.kind,
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_norms_take_the_statistics_too(kind: str, norm: Any, tmp_path: Path) -> None:
    published = torchvision_model(kind).state_dict()
    loaded = build_backbone(config(kind, save(tmp_path, published), norm)).state_dict()
    assert any("running_var" in key for key in loaded)
    assert all(torch.equal(value, published[key]) for key, value in loaded.items())


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        *(("mobilenet_v3_large", norm) for norm in OTHER_NORMS),
        ("resnet18", schema.EvoNormS0()),
        ("efficientnet_b0", schema.BatchNorm()),
    ],
)
def test_our_own_state_dict_loads_whole(kind: str, norm: Any, tmp_path: Path) -> None:
    model = build_backbone(config(kind, norm=norm))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    again = build_backbone(config(kind, save(tmp_path, model.state_dict()), norm)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    """So that arms with and without weights stay paired behind the backbone."""
    path = save(tmp_path, hollow_state("resnet18"))
    states = []
    for weights in ("none", path):
        torch.manual_seed(0)
        build_backbone(config("resnet18", weights, schema.GroupNorm()))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def one_line(weights: str, kind: str = "resnet18", norm: Any = None) -> str:
    with pytest.raises(ValueError) as error:
        build_backbone(config(kind, weights, norm or schema.BatchNorm()))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file() -> None:
    assert one_line("no/such/file.pt") == "weights: no such file: no/such/file.pt"


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_name_lists_the_choices(kind: str) -> None:
    message = one_line("IMAGENET1K_V3", kind)
    assert f"'IMAGENET1K_V3' for {kind}" in message
    assert "choices: none, IMAGENET1K_V1" in message


@pytest.mark.parametrize("norm", [schema.FrozenBatchNorm(), schema.NoNorm()], ids=lambda n: n.kind)
@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("resnet18", "resnet34"),
        ("mobilenet_v3_large", "mobilenet_v3_small"),
        ("efficientnet_b0", "efficientnet_b1"),
        ("efficientnet_b0", "mobilenet_v3_large"),
    ],
)
def test_wrong_architecture(kind: str, other: str, norm: Any, tmp_path: Path) -> None:
    path = save(tmp_path, hollow_state(other))
    message = one_line(path, kind, norm)
    assert message.startswith(f"weights: {path} does not hold a {kind} with {norm.kind} (")


def test_a_lost_entry_is_named(tmp_path: Path) -> None:
    for key in ("features.4.block.2.fc1.bias", "features.4.block.1.0.weight"):
        state = hollow_state("mobilenet_v3_large")
        del state[key]
        path = save(tmp_path, state)
        for norm in (schema.FrozenBatchNorm(), schema.NoNorm()):
            message = one_line(path, "mobilenet_v3_large", norm)
            assert f"(1 entries are missing, unknown or of another shape, first {key})" in message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\n."])
def test_a_file_that_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert str(path) in one_line(str(path))


def test_a_whole_training_checkpoint_is_named_as_such(tmp_path: Path) -> None:
    path = save(tmp_path, {"model": hollow_state("resnet18"), "step": 3})
    assert "top level: model, step" in one_line(path)


def test_tensors_without_names(tmp_path: Path) -> None:
    assert "is not a plain state dict" in one_line(save(tmp_path, {0: torch.zeros(3)}))


@pytest.mark.parametrize("kind", KINDS)
def test_no_network(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "/nonexistent-cache")
    monkeypatch.setattr("torch.hub.os.makedirs", lambda *a, **k: None)
    message = one_line("IMAGENET1K_V1", kind)
    assert get_model_weights(kind).IMAGENET1K_V1.url in message
    assert "on a machine with network" in message
