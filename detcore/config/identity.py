"""What makes two runs the same run."""

from __future__ import annotations

from typing import Any

from detcore.config.load import to_dict
from detcore.config.schema import Config

CODE_VERSION = "1"
"""Raise this by one in every change that alters what a config trains to; settled results of older
versions are then stale."""


def identity_dict(config: Config) -> dict[str, Any]:
    """The part of `config` that decides its result: all but `runtime`. Where the data lies does not
    count (its content does: callers add a data fingerprint), so the paths of a COCO folder are left
    out."""
    out = to_dict(config)
    assert isinstance(out, dict)
    del out["runtime"]
    source = out["data"]["source"]
    if source["kind"] == "coco":
        out["data"]["source"] = {"kind": "coco"}
    return out
