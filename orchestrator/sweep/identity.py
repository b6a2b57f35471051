"""The name of a cell: a hash of what decides its result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

from detcore.config import CODE_VERSION, Config, identity_of, to_dict

_NAMES = [f.name for f in dataclasses.fields(Config) if f.name not in ("runtime", "seed")]


class Texts:
    """Parts of configs as they enter a hash. The cells of a sweep share most of theirs (the same
    objects), and each is written out once."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[object, str]] = {}

    def of(self, name: str, part: Any) -> str:
        """`"optim":{...}`"""
        return self._once(part, lambda: f"{_json(name)}:{_json(identity_of(name, part))}")

    def plain(self, part: Any) -> str:
        return self._once(part, lambda: _json(to_dict(part)))

    def _once(self, part: Any, write: Callable[[], str]) -> str:
        known = self._texts.get(id(part))
        if known is None:
            known = self._texts[id(part)] = part, write()  # its id is its own while it is kept
        return known[1]


def cell_id(config: Config, data_fingerprint: str, texts: Texts | None = None) -> str:
    """12 hex digits (48 bits) from the config and its seed, the data's content, the code version.

    `runtime`, resources, names and notes are not in it, nor where the data lies: sweeps that share
    an arm share its id.
    """
    seed = _json(config.seed)
    whole = _object([*_parts(config, texts or Texts()), f'"seed":{seed}'])
    return _digest(f"[{_json(CODE_VERSION)},{_json(data_fingerprint)},{seed},{whole}]")


def arm_key(config: Config, texts: Texts | None = None) -> str:
    """Equal for two configs that train the same thing apart from the seed. Two folders of data
    count as different here, before anyone has looked into them."""
    texts = texts or Texts()
    return _digest(f"[{_object(_parts(config, texts))},{texts.plain(config.data.source)}]")


def _parts(config: Config, texts: Texts) -> list[str]:
    return [texts.of(name, getattr(config, name)) for name in _NAMES]


def _object(members: list[str]) -> str:
    return "{" + ",".join(sorted(members)) + "}"


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""Canonical: equal contents are equal texts."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
