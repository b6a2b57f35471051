"""The one way a setting refuses a value."""

from __future__ import annotations


def require(ok: bool, message: str) -> None:
    """Raise ValueError(message) unless `ok`. The message begins with the field's name."""
    if not ok:
        raise ValueError(message)
