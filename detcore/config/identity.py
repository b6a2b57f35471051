"""What makes two runs the same run."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from detcore.config.load import to_dict
from detcore.config.schema import Config

CODE_VERSION = "2"
"""Raise this by one in every change that alters what a config trains to; settled results of older
versions are then stale."""


def identity_dict(config: Config) -> dict[str, Any]:
    """The part of `config` that decides its result: all but `runtime`. Where the data lies does not
    count (its content does: callers add a data fingerprint), so the paths of a COCO folder are left
    out."""
    names = [f.name for f in dataclasses.fields(config) if f.name != "runtime"]
    return {name: identity_of(name, getattr(config, name)) for name in names}


def identity_of(name: str, part: Any) -> Any:
    """The entry `name` of `identity_dict`, from that part of a config."""
    out = to_dict(part)
    if name == "model":
        backbone = out["backbone"]
        file = Path(backbone.get("weights", "none"))
        if file.is_file():  # what is in the file counts, not its name
            backbone["weights"] = _digest_of(file, file.stat().st_mtime_ns)
    if name == "data" and out["source"]["kind"] == "coco":
        out["source"] = {"kind": "coco"}
    if name == "data" and not out["holdout"]:
        del out["holdout"]  # came later than CODE_VERSION 2: without it, runs are what they were
    return out


@lru_cache
def _digest_of(file: Path, changed_ns: int) -> str:
    """The file's SHA-256; read again when it has changed."""
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
