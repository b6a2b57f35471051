"""Which training images are held out: a part to choose settings on, apart from the images that
judge them."""

from __future__ import annotations

import hashlib


def is_held_out(file_name: str, share: float) -> bool:
    """Whether the image of this name, as the annotation file spells it, is in the held-out `share`.

    The SHA-256 of the name decides, read as a number from 0 to 1: neither the order of the file nor
    the other images matter, entries of one picture stay together, and a larger share holds out what
    a smaller one does and more.
    """
    digest = hashlib.sha256(file_name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
