"""What settings ask for that need not be installed."""

from __future__ import annotations

import importlib.util


def check_backend(backend: str) -> None:
    """Raise ValueError for a backend that is not installed."""
    if backend == "hotcoco" and importlib.util.find_spec("hotcoco") is None:
        raise ValueError(
            "runtime.coco_eval is hotcoco, which is not installed; "
            "run pip install 'detection-ablation[fast]', or take pycocotools"
        )
