"""From nested dicts to the frozen dataclasses of `schema` and back, with errors a user can act
on."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Path = tuple[str, ...]


class ConfigError(ValueError):
    """A mistake in a config. `path` is the key it concerns, `problem` the sentence without the
    key."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{'.'.join(path)}: {problem}" if path else problem)

    def __reduce__(self) -> tuple[Any, ...]:  # crosses processes as what it was made of
        return type(self), (self.path, self.problem)


def nearest(word: str, choices: list[str]) -> str:
    """'did you mean ...? ' for a close match, and all the choices; for the end of an error
    message."""
    close = difflib.get_close_matches(word, choices, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choices: {', '.join(choices)}"


Memo = dict[tuple[int, int], tuple[Any, Any]]
"""Mappings that have been read before, by identity, and what became of each."""


def from_dict(cls: type[T], data: Any, path: Path = (), memo: Memo | None = None) -> T:
    """Build `cls` from `data`; raises ConfigError for an unknown key, a wrong type or a value out
    of range. With `memo`, a mapping that it has met in an earlier call, the same object and not
    changed since, becomes the same component again."""
    value = _convert(cls, data, path, memo)
    assert isinstance(value, cls)
    return value


def to_dict(config: Any) -> Any:
    """The inverse of `from_dict`: plain dicts, lists and scalars, ready for YAML or JSON."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple):
        return [to_dict(v) for v in config]
    return config


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`. A value that names its `kind` (or is not a mapping) replaces; other
    mappings merge by key."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(below, str) and isinstance(value, Mapping):
            below = {"kind": below}
        if (
            isinstance(value, Mapping)
            and isinstance(below, Mapping)
            and value.get("kind", below.get("kind")) == below.get("kind")
        ):
            out[key] = merge(below, value)
        else:
            out[key] = value
    return out


def set_path(data: Mapping[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy of `data` with `a.b.c` set to `value`."""
    nested: Any = value
    for key in reversed(dotted.split(".")):
        nested = {key: nested}
    result = merge(data, nested)
    return result


def check_path(cls: type, dotted: str) -> None:
    """Raise ConfigError when no config of type `cls` has a key at `dotted`."""
    here: list[Any] = [cls]
    path: Path = ()
    for key in dotted.split("."):
        known = {name: hint for c in here for name, hint in _hints(c).items()}
        if key not in known:
            raise ConfigError(
                (*path, key),
                f"unknown key {key!r}; {nearest(key, sorted(known))}"
                if known
                else f"{'.'.join(path)} has no keys",
            )
        here = [m for c in here if key in _hints(c) for m in _dataclasses_in(_hints(c)[key])]
        path = (*path, key)


def type_name(hint: Any) -> str:
    """How a type is called in an error message."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(c) for c in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each entry {type_name(get_args(hint)[0])}"
    if hint is type(None):
        return "null"
    if _is_union(hint):
        return " or ".join(type_name(m) for m in get_args(hint))
    return f"a mapping ({hint.__name__})"


_SCALARS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


@cache
def _dataclasses_in(hint: Any) -> tuple[type, ...]:
    members = get_args(hint) if _is_union(hint) else (hint,)
    return tuple(m for m in members if dataclasses.is_dataclass(m) and isinstance(m, type))


def _kinds(cls: type) -> tuple[str, ...]:
    hint = _hints(cls).get("kind")
    return get_args(hint) if hint is not None else ()


@cache
def _by_kind(members: tuple[type, ...]) -> dict[str, type]:
    return {k: m for m in members for k in _kinds(m)}


def _convert(hint: Any, data: Any, path: Path, memo: Memo | None) -> Any:
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        if abs(data) > 1e300:
            raise ConfigError(path, "the number is too large")
        return float(data)
    if hint in _SCALARS:
        return _scalar(hint, data, path)
    if get_origin(hint) is Literal:
        return _literal(get_args(hint), data, path)
    if get_origin(hint) is tuple:
        if not isinstance(data, list | tuple):
            raise ConfigError(path, f"must be {type_name(hint)}, is {data!r}")
        inner = get_args(hint)[0]
        return tuple(_convert(inner, v, (*path, str(i)), memo) for i, v in enumerate(data))
    if members := _dataclasses_in(hint):
        optional = type(None) in get_args(hint)
        if data is None and optional:
            return None
        if memo is None or not isinstance(data, Mapping):
            return _component(members, data, path, memo, optional)
        key = (id(hint), id(data))
        if key not in memo:
            # kept with `data`, whose identity is its own as long as it is there
            memo[key] = data, _component(members, data, path, memo, optional)
        return memo[key][1]
    if _is_union(hint):
        if data is None and type(None) in get_args(hint):
            return None
        return _convert(next(m for m in get_args(hint) if m is not type(None)), data, path, memo)
    raise TypeError(f"a config field has the type {hint!r}, which the loader does not know")


def _scalar(hint: type, data: Any, path: Path) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        raise ConfigError(path, f"must be a finite number, is {data!r}")
    if isinstance(data, hint) and not (hint is not bool and isinstance(data, bool)):
        return data
    hint_for_text = ""
    if isinstance(data, str) and hint in (int, float):
        try:
            number = float(data)
        except ValueError:
            pass
        else:
            shown = f"{number:.1e}" if "e" in data.lower() else data
            hint_for_text = f"; YAML reads {data} as text, write {shown} without quotes"
    raise ConfigError(path, f"must be {_SCALARS[hint]}, is {data!r}{hint_for_text}")


def _literal(choices: tuple[Any, ...], data: Any, path: Path) -> Any:
    if data in choices and not isinstance(data, bool):
        return data
    hint = ""
    if isinstance(data, bool) and all(isinstance(c, str) for c in choices):
        hint = "YAML reads on, off, yes and no as true and false: put the word in quotes; "
    raise ConfigError(
        path, f"unknown value {data!r}; {hint}{nearest(str(data), [str(c) for c in choices])}"
    )


def _component(
    members: tuple[type, ...], data: Any, path: Path, memo: Memo | None, optional: bool
) -> Any:
    by_kind = _by_kind(members)
    choices = ["null"] * optional + list(by_kind)
    if by_kind and isinstance(data, str | bool):
        data = {"kind": data}
    if not isinstance(data, Mapping):
        what = (
            f"one of {', '.join(choices)}, or a mapping with a `kind`"
            if by_kind
            else "null or a mapping"
            if optional
            else "a mapping"
        )
        raise ConfigError(path, f"must be {what}, is {data!r}")
    cls = members[0]
    if by_kind:
        if "kind" not in data and len(by_kind) > 1:
            raise ConfigError(path, f"`kind` is missing; choices: {', '.join(by_kind)}")
        kind = data.get("kind", next(iter(by_kind)))
        if not isinstance(kind, str) or kind not in by_kind:
            raise ConfigError(
                (*path, "kind"), f"unknown kind {kind!r}; {nearest(str(kind), choices)}"
            )
        cls = by_kind[kind]
    hints = _hints(cls)
    for key in data:
        if key not in hints:
            raise ConfigError(
                (*path, str(key)), f"unknown key {key!r}; {nearest(str(key), sorted(hints))}"
            )
    values = {key: _convert(hints[key], value, (*path, key), memo) for key, value in data.items()}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(path, str(error)) from None
