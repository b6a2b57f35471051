"""How many digits a difference is printed with: so many that the printed numbers say what the
verdict says."""

from __future__ import annotations

from decimal import Decimal

MOST = 9  # what is nothing to so many digits is what rounding left


def places(least: int, low: float | None, high: float | None, matters: float | None = None) -> int:
    """At least `least`, and as many as the interval from `low` to `high` needs: one that leaves out
    0 has no end that prints as 0, one that holds 0 has a width that is seen, and one that lies
    within `matters`, the smallest difference that does, is printed within it."""
    if low is None or high is None:
        return least
    shown = min if low * high > 0 else max
    size, most = shown(abs(low), abs(high)), max(abs(low), abs(high))
    for digits in range(least, MOST + 1):
        zero = round(size, digits) == 0 and size > 0
        reaches = matters is not None and most < matters <= round(most, digits)
        if not zero and not reaches:
            return digits
    return least


def written(value: float) -> str:
    """A number as someone wrote it, never with an exponent: `0.00004`."""
    return f"{Decimal(str(value)):f}"
