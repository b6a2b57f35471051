"""The numbers of a cell's curves: (key, step, value), as its rank 0 wrote them, and as MLflow has
them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Points = Counter[tuple[str, int, float]]


def points_of(folder: Path) -> Points:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return Counter((key, p["step"], value) for p in lines for key, value in p["values"].items())


def stored_of(client: Any, run_id: str, keys: Iterable[str]) -> Points:
    return Counter((k, m.step, m.value) for k in keys for m in client.get_metric_history(run_id, k))
