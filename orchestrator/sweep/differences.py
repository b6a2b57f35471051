"""In what two configs differ, in the words of the sweep file."""

from __future__ import annotations

import dataclasses
from typing import Any

from detcore.config import Config


def differences(base: Config, config: Config) -> dict[str, str]:
    """Dotted path -> value, for everything in which `config` differs from `base`, its seed and
    `runtime` aside.

    A component of another kind is named by its kind; of its settings those follow that differ from
    what stood there, and of those that only this kind has, those that are not its defaults.
    """
    found = _compare("", base, config)
    return {p: v for p, v in found.items() if p != "seed" and not p.startswith("runtime.")}


def _compare(path: str, base: Any, here: Any) -> dict[str, str]:
    if base == here:
        return {}
    if not dataclasses.is_dataclass(here):
        return {path: _text(here)}
    if not _alike(base, here):
        return {path: _component(here, base)}
    out: dict[str, str] = {}
    for f in dataclasses.fields(here):
        inner = f"{path}.{f.name}" if path else f.name
        out |= _compare(inner, getattr(base, f.name), getattr(here, f.name))
    return out


def _alike(one: Any, other: Any) -> bool:
    return type(one) is type(other) and getattr(one, "kind", 0) == getattr(other, "kind", 0)


def _text(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return _component(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    return str(value)


def _component(here: Any, base: Any = None) -> str:
    """`gn {groups: 8}`: the kind, and the settings that are not those of `base`, or where it has
    none such, not the kind's defaults; all without a kind."""
    kind = getattr(here, "kind", "")
    try:
        default = type(here)(**({"kind": kind} if kind else {}))
    except (TypeError, ValueError):  # a setting without a default
        default = None
    own = {}
    for f in dataclasses.fields(here):
        value = getattr(here, f.name)
        if f.name == "kind":
            continue
        before = getattr(base if hasattr(base, f.name) else default, f.name, None)
        if not kind or (value is not None and value != before):
            own[f.name] = _text(value)
    settings = "{" + ", ".join(f"{name}: {text}" for name, text in own.items()) + "}"
    return " ".join(filter(None, [kind, settings if own or not kind else ""]))
