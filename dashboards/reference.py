"""The rows of another report beside ours."""

from __future__ import annotations

from typing import Any

from dashboards.study import Study


def beside(study: Study) -> dict[str, Any]:
    return {}
