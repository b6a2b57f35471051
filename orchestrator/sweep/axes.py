"""Axes, levels and what they write into a config: the keys `axes` and `set` of a sweep file."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from detcore.config import Config, ConfigError, check_path, nearest
from orchestrator.sweep.document import EXPONENT, Document, KeyPath
from orchestrator.sweep.expr import FUNCTIONS, Expr, ExprError, Value, evaluate, parse

Label = bool | int | float | str

SECTIONS = tuple(name for name in Config.__dataclass_fields__ if name != "seed")
"""The first keys of a config: `schedule`, `model` ..."""

RESERVED = {"seed", "workers", "base", *FUNCTIONS}

ABSENT = "-"
"""The label of an axis in an arm in which its `when` does not hold."""

UNSET = "base"
"""The label of an axis for which an arm names no level: what the base config has, and no level."""


@dataclass(frozen=True)
class Write:
    """One value on its way into the config; `at` and `who` say who asks for it, for errors."""

    path: str  # dotted path in the config
    value: Any  # plain data; text that begins with '=' is an Expr, at any depth
    at: KeyPath  # the key of the sweep
    who: str  # "axis norm"


@dataclass(frozen=True)
class Level:
    label: Label
    writes: tuple[Write, ...]
    names: Mapping[str, Label]  # what expressions may read beside the label
    at: KeyPath
    base: Config | None = None  # what cells of this level start from, instead of the sweep's base


@dataclass(frozen=True)
class Axis:
    name: str
    levels: tuple[Level, ...]
    when: Expr | None = None  # only arms in which this holds have the axis

    @cached_property
    def absent(self) -> Level:
        """Stands in for a level where `when` does not hold: it writes nothing."""
        return self._stand_in(ABSENT)

    @cached_property
    def unset(self) -> Level:
        """Stands in for a level where none is named: what the base config has."""
        return self._stand_in(UNSET)

    def _stand_in(self, label: str) -> Level:
        names = dict.fromkeys(self.levels[0].names, label)
        return Level(label, (), names, ("axes", self.name))

    def level(self, label: object) -> Level | None:
        """The level with this label, or None."""
        return next((v for v in self.levels if _same(v.label, label)), None)

    def labels(self) -> list[str]:
        return [text_of(v.label) for v in self.levels]


def text_of(label: Label) -> str:
    """A label as tables show it."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def check_name(document: Document, path: KeyPath, name: Any) -> str:
    """Axes and derived values are named in expressions, so their names must look like names."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise document.error(path, f"{name!r} is not a name: letters, digits and _ are allowed")
    if keyword.iskeyword(name) or name in RESERVED:
        raise document.error(path, f"the name {name!r} is taken; use another")
    return name


def check_config_path(document: Document, at: KeyPath, path: Any) -> str:
    """`path` is a key of the config, and not one that the sweep itself writes."""
    if not isinstance(path, str) or not path:
        raise document.error(at, f"must be a config path such as optim.lr, is {path!r}")
    try:
        check_path(Config, path)
    except ConfigError as error:
        raise document.error(at, f"no config has {path!r}: {error.problem}") from None
    if path == "seed":
        raise document.error(at, "the seed is written by `seeds`: every arm runs with every seed")
    if path == "train.workers":
        raise document.error(at, "train.workers is written by `resources`: use resources.workers")
    return path


ReadBase = Callable[[KeyPath, Any], Config]
"""From the key where a base config is named, and its path, to the config."""


def read_axes(document: Document, read_base: ReadBase) -> tuple[Axis, ...]:
    """The axes without their `when`: that is read by `orchestrator.sweep.conditions`."""
    axes = document.data.get("axes")
    if not isinstance(axes, dict) or not axes:
        problem = "at least one axis is needed, for example norm: {path: model.neck.norm_act, "
        raise document.error(("axes",), problem + "values: [bn, gn]}")
    out = tuple(_axis(document, name, body, read_base) for name, body in axes.items())
    with_base = [axis for axis in out if any(level.base for level in axis.levels)]
    if len(with_base) > 1:
        at = next(level.at for level in with_base[1].levels if level.base)
        raise document.error(
            (*at, "base"),
            f"axes {with_base[0].name} and {with_base[1].name} both give a base; only one may",
        )
    return out


def _axis(document: Document, name: Any, body: Any, read_base: ReadBase) -> Axis:
    at = ("axes", str(name))
    check_name(document, at, name)
    if not isinstance(body, dict):
        raise document.error(at, f"must be a mapping with `values` and mostly `path`, is {body!r}")
    for key in body:
        if key not in ("path", "values", "when"):
            hint = nearest(str(key), ["path", "values", "when"])
            raise document.error((*at, str(key)), f"unknown key {key!r}; {hint}")
    paths = body.get("path")
    paths = [] if paths is None else paths if isinstance(paths, list) else [paths]
    for path in paths:
        check_config_path(document, (*at, "path"), path)
    values = body.get("values")
    here = (*at, "values")
    if not isinstance(values, list | dict):
        raise document.error(
            here, f"must be a list or a mapping from label to value, is {values!r}"
        )
    if not values:
        raise document.error(here, "an axis needs at least one level, this one has none")
    if isinstance(values, list):
        pairs = [(v, v, (*here, str(i))) for i, v in enumerate(values)]
    else:
        pairs = [(k, v, (*here, str(k))) for k, v in values.items()]
    levels: list[Level] = []
    for label, value, spot in pairs:
        level = _level(
            document, name, paths, label, value, spot, read_base, labelled=isinstance(values, dict)
        )
        if any(
            text_of(v.label) == text_of(level.label) or _same(v.label, level.label) for v in levels
        ):
            raise document.error(spot, f"level {text_of(level.label)!r} is given twice")
        if levels and set(levels[0].names) != set(level.names):
            raise document.error(
                spot,
                f"every level of an axis gives the same names: {sorted(levels[0].names)} "
                f"in the first, {sorted(level.names)} here",
            )
        levels.append(level)
    return Axis(name, tuple(levels))


def _level(
    document: Document,
    axis: str,
    paths: list[Any],
    label: Any,
    value: Any,
    at: KeyPath,
    read_base: ReadBase,
    *,
    labelled: bool,
) -> Level:
    if not isinstance(label, bool | int | float | str) or label == "":
        raise document.error(
            at,
            f"a level that is not a word or a number needs a label: write the levels as "
            f"label: value, this one is {label!r}",
        )
    if isinstance(label, str) and EXPONENT.fullmatch(label):
        raise document.error(
            at, f"YAML reads {label} as text, write {float(label):.1e} without quotes"
        )
    if isinstance(label, str) and (not label.isprintable() or label != label.strip()):
        raise document.error(at, f"a label must be printable text, is {label!r}")
    who = f"axis {axis}"
    if paths:
        return Level(label, tuple(Write(p, value, at, who) for p in paths), {}, at)
    if not labelled:
        return Level(label, (), {}, at)
    if not isinstance(value, dict):
        raise document.error(
            at,
            "the axis has no path, so a level must say what it gives: a mapping of config "
            f"paths, of names for expressions, or a base, is {value!r}",
        )
    writes: list[Write] = []
    names: dict[str, Label] = {}
    base = None
    for key, given in value.items():
        spot = (*at, str(key))
        if key == "base":
            base = read_base(spot, given)
            continue
        if isinstance(key, str) and ("." in key or key in SECTIONS):
            check_config_path(document, spot, key)
            writes.append(Write(key, given, spot, who))
            continue
        check_name(document, spot, key)
        if not isinstance(given, bool | int | float | str):
            raise document.error(spot, f"a name for expressions is a number or text, is {given!r}")
        names[key] = given
    return Level(label, tuple(writes), names, at, base)


def _same(label: Label, other: object) -> bool:
    return isinstance(label, bool) == isinstance(other, bool) and label == other


# ---------------------------------------------------------------- set


def read_set(document: Document, known: set[str]) -> tuple[Write, ...]:
    """The entries of `set`. Text that begins with '=' is an expression over `known`."""
    entries = document.data.get("set", {})
    if not isinstance(entries, dict):
        raise document.error(("set",), f"must map config paths to values, is {entries!r}")
    writes = []
    for path, value in entries.items():
        at = ("set", str(path))
        check_config_path(document, at, path)
        writes.append(Write(path, _parsed(document, at, value, known), at, "`set`"))
    return tuple(writes)


def _parsed(document: Document, at: KeyPath, value: Any, known: set[str]) -> Any:
    if isinstance(value, str) and value.startswith("="):
        try:
            return parse(value[1:], known)
        except ExprError as error:
            raise document.error(at, str(error)) from None
    if isinstance(value, dict):
        return {k: _parsed(document, (*at, str(k)), v, known) for k, v in value.items()}
    if isinstance(value, list):
        return [_parsed(document, (*at, str(i)), v, known) for i, v in enumerate(value)]
    return value


def exprs_in(value: Any) -> Iterator[Expr]:
    """The expressions in a value of `set`, at any depth."""
    if isinstance(value, Expr):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        yield from exprs_in(part)


def filled(value: Any, scope: Mapping[str, Value]) -> Any:
    """`value` with every expression in it replaced by its value in `scope`; raises ExprError."""
    if isinstance(value, Expr):
        return tidy(evaluate(value, scope))
    if isinstance(value, dict):
        return {k: filled(v, scope) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, scope) for v in value]
    return value


def tidy(value: Value) -> Any:
    """A computed number as a person would write it: whole numbers whole, others to 12 digits.

    `0.02 * 12 / 8` and `0.03` must be one setting and one identity, and 16 / 8 a number of steps.
    """
    if isinstance(value, float):
        return int(value) if value == int(value) else float(f"{value:.12g}")
    return list(value) if isinstance(value, tuple) else value


def leaves(path: str, value: Any) -> set[str]:
    """The config keys that writing `value` at `path` decides; a `kind` counts as its component."""
    if not isinstance(value, dict):
        return {path.removesuffix(".kind")}
    return {leaf for key, inner in value.items() for leaf in leaves(f"{path}.{key}", inner)}
