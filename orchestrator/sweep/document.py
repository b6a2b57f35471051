"""A sweep as nested data that remembers where every key was written: a line, or an argument."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detcore.config import YamlError, read_yaml

KeyPath = tuple[str, ...]

KEYS = (
    "version",
    "name",
    "question",
    "base",
    "reference",
    "set",
    "axes",
    "baseline",
    "metric",
    "derive",
    "assert",
    "design",
    "exclude",
    "seeds",
    "resources",
    "tune",
    "budget",
    "failure",
    "notify",
    "profiles",
)
"""The keys of a sweep file."""


class SweepError(ValueError):
    """A mistake in a sweep file or an argument: one line with the place, problem and choices."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class Document:
    """`data` as YAML gives it, and where it comes from.

    `origins` maps a key path to the words that an error begins with, such as `sweeps/a.yaml:12`.
    """

    data: dict[str, Any]
    origins: dict[KeyPath, str]

    def where(self, path: KeyPath) -> str:
        """Where `path` was written, or the nearest key above it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        raise AssertionError("a document knows where it begins")

    def error(self, path: KeyPath, problem: str) -> SweepError:
        key = f"{'.'.join(path)}: " if path else ""
        return SweepError(f"{self.where(path)}: {key}{problem}")


def read_document(file: Path) -> Document:
    """Read a YAML file whose top is a mapping; raises SweepError."""
    try:
        read = read_yaml(file)
    except YamlError as error:
        raise SweepError(str(error)) from None
    except RecursionError:
        raise SweepError(f"{file}: is nested too deeply") from None
    except ValueError as error:  # a date such as 2026-02-30
        raise SweepError(f"{file}: a value cannot be read: {error}") from None
    if read.data is None:
        raise SweepError(f"{file}: is empty")
    if not isinstance(read.data, dict):
        kind = "list" if isinstance(read.data, list) else type(read.data).__name__
        line = read.line_of(()) or 1
        raise SweepError(f"{file}:{line}: must be a mapping (key: value), is a {kind}")
    return Document(read.data, {path: f"{file}:{line}" for path, line in read.lines.items()})


def part(document: Document, path: KeyPath) -> Document:
    """The mapping at `path` as a document of its own that keeps its origins."""
    data: Any = document.data
    for key in path:
        data = data[key]
    origins = {k[len(path) :]: v for k, v in document.origins.items() if k[: len(path)] == path}
    return Document(data, {(): document.where(path)} | origins)


def lay(below: Document, over: Document) -> Document:
    """`over` laid over `below`: mappings merge by key, all else replaces, null takes a key away.

    The `values` and the `path` of an axis, and every entry of `set`, are replaced whole: half a
    list of levels with another half would be a sweep that nobody wrote.
    """
    data: dict[str, Any] = copy.deepcopy(below.data)
    origins = dict(below.origins)

    def put(target: dict[str, Any], source: Mapping[str, Any], path: KeyPath) -> None:
        for key, value in source.items():
            here = (*path, str(key))
            old = target.get(key)
            if isinstance(value, Mapping) and isinstance(old, dict) and not _whole(here):
                put(old, value, here)
                continue
            for known in [k for k in origins if k[: len(here)] == here]:
                del origins[known]
            if value is None:
                if key not in target:
                    raise over.error(here, "null takes a key away, and there is no such key")
                del target[key]
            else:
                target[key] = copy.deepcopy(value)
                origins[here] = over.where(here)
                for known, origin in over.origins.items():
                    if known[: len(here)] == here:
                        origins[known] = origin

    put(data, over.data, ())
    return Document(data, origins)


def _whole(path: KeyPath) -> bool:
    is_axis_part = len(path) == 3 and path[0] == "axes" and path[2] in ("values", "path")
    return is_axis_part or (len(path) == 2 and path[0] == "set")


def split_argument(argument: str, option: str = "--set") -> tuple[str, Any]:
    """`a.b=value` as key and value. The value is YAML, but `1e-4` is the number that is meant."""
    key, sign, text = argument.partition("=")
    key, who = key.strip(), f"{option} {shown(argument)}"
    if not sign or not key or any(not part for part in key.split(".")):
        raise SweepError(f"{who}: write it as key=value, for example optim.lr=0.01")
    try:
        return key, _numbers(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError, ValueError):
        raise SweepError(f"{who}: what follows = is not a YAML value") from None


def shown(argument: str) -> str:
    """An argument as an error names it: without its value where that may be a webhook's address."""
    return re.split("[=:]", argument)[0] if re.search("notify|webhook", argument) else argument


def _numbers(value: Any) -> Any:
    if isinstance(value, str) and EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    if isinstance(value, dict):
        return {_numbers(k): _numbers(v) for k, v in value.items()}
    return value


EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""A number that PyYAML reads as text: YAML 1.1 wants a point and a sign, as in 1.0e-4."""
