"""What settings refuse, and what they accept at the edge of a range."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, get_args

import pytest

from detcore.config import ConfigError, from_dict, schema

NORMS = {norm.kind: norm() for norm in get_args(schema.NormAct)}
CASES: dict[str, tuple[Any, str, list[float], list[float]]] = {  # settings, field, good, bad
    "candidates": (schema.Postprocess(), "top_k", [1], [0, -1]),
    **{
        f"{name} of {type(settings).__name__}": (settings, name, good, bad)
        for settings in (schema.Postprocess(), schema.CenterNet())
        for name, good, bad in (
            ("score_threshold", [0.0, 0.99], [-0.01, 1.0]),
            ("nms_iou", [0.01, 1.0], [0.0, 1.01]),
            ("max_detections", [1], [0, -1]),
        )
    },
    **{
        f"weight of {loss.kind}": (loss, "weight", [0.1], [0.0, -1.0])
        for loss in (schema.HuberLoss(), schema.SmoothL1Loss(), schema.IouLoss())
    },
    **{
        f"eps of {kind}": (norm, "eps", [1e-12], [0.0, -1e-5])
        for kind, norm in NORMS.items()
        if hasattr(norm, "eps")
    },
    **{
        f"momentum of {kind}": (norm, "momentum", [0.0, 1.0], [-0.1, 1.1])
        for kind, norm in NORMS.items()
        if hasattr(norm, "momentum")
    },
}


def test_the_norms_that_have_statistics_are_all_there() -> None:
    assert {name for name in CASES if name.startswith("eps")} == {
        f"eps of {kind}" for kind in NORMS if kind not in ("spectral", "none")
    }
    assert {name for name in CASES if name.startswith("momentum")} == {
        f"momentum of {kind}" for kind in ("bn", "sync_bn", "switchable")
    }


@pytest.mark.parametrize("name", CASES)
def test_a_range_holds_its_ends_and_nothing_beyond(name: str) -> None:
    settings, field, good, bad = CASES[name]
    for value in good:
        assert getattr(replace(settings, **{field: value}), field) == value
    for value in bad:
        with pytest.raises(ValueError, match=f"^{field} must .*, is {value}$"):
            replace(settings, **{field: value})


def test_half_of_a_centernets_channels_are_not_none() -> None:
    neck = schema.Fpn(channels=2, norm_act=schema.NoNorm(), top="none")
    schema.CenterNet(neck=neck)
    with pytest.raises(ValueError, match=r"neck\.channels must be at least 2.* is 1$"):
        schema.CenterNet(neck=replace(neck, channels=1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"model": {"kind": "retinanet", "hook": "none"}}, "choices: null, balance"),
        ({"data": {"stitch": "none"}}, "choices: null, stitch2, stitch4"),
        ({"data": {"stitch": 4}}, "must be one of null, stitch2, stitch4, or a mapping"),
        (
            {"model": {"kind": "retinanet", "neck": {"kind": "fpn", "dropblock": "none"}}},
            "must be null or a mapping, is 'none'",
        ),
        # only where it is one
        ({"model": {"kind": "retinanet", "neck": "none"}}, "choices: fpn"),
        ({"data": {"source": 4}}, "must be one of shapes, coco, or"),
        ({"data": {"stitch": {"probability": 1}}}, "missing; choices: stitch2, stitch4"),
    ],
)
def test_null_is_named_among_the_choices_where_it_is_one(data: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(schema.Config, data)


def test_a_mistake_in_a_config_crosses_processes_whole():
    told = pickle.loads(pickle.dumps(ConfigError(("optim", "lr"), "must be above 0")))
    assert (told.path, told.problem) == (("optim", "lr"), "must be above 0")
    assert str(told) == "optim.lr: must be above 0"
