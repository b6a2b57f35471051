"""What accuracy costs."""

from __future__ import annotations

from typing import Any

from dashboards.study import Study


def pareto(study: Study) -> dict[str, Any]:
    return {}
