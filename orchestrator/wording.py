"""Numbers in sentences."""

from __future__ import annotations


def count(n: int, what: str) -> str:
    """`1 cell`, `2 cells`"""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
