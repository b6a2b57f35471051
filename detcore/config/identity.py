"""What makes two runs the same run."""

from __future__ import annotations

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
    out = to_dict(config)
    assert isinstance(out, dict)
    del out["runtime"]
    backbone = out["model"]["backbone"]
    if Path(backbone.get("weights", "none")).is_file():  # what is in the file counts, not its name
        file = Path(backbone["weights"])
        backbone["weights"] = _digest_of(file, file.stat().st_mtime_ns)
    source = out["data"]["source"]
    if source["kind"] == "coco":
        out["data"]["source"] = {"kind": "coco"}
    return out


@lru_cache
def _digest_of(file: Path, changed_ns: int) -> str:
    """The file's SHA-256; read again when it has changed."""
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
