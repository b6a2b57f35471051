"""Conclusions in words, from verdicts only."""

from __future__ import annotations

from dashboards.study import Study


def conclusions(study: Study) -> list[object]:
    return []
