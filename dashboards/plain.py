"""Names that users choose, on one line and without tricks."""

from __future__ import annotations

import unicodedata

_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: object) -> str:
    """On one line, without the characters that steer a terminal or turn the direction of writing:
    what a name says is what is seen."""
    kept = " ".join(str(text).split())
    return "".join(c for c in kept if unicodedata.category(c) not in ("Cc", "Cs")).translate(
        {ord(c): None for c in _DIRECTIONS}
    )
