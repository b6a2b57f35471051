"""docker-compose.yml as compose reads it: files laid over each other, variables put in. Only the
part of the format that this project uses; anything else is an error."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE, CPU = ROOT / "docker-compose.yml", ROOT / "docker-compose.cpu.yml"

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>\w+)"
    r"|\{(?P<name>\w+)(?:(?P<how>:?[-?+])(?P<word>(?:[^{}$]|\$\{[^{}]*\})*))?\}|(?P<wrong>))"
)


class MissingVariable(ValueError):
    """A variable that the file requires (`${NAME:?what it is}`), where compose ends, too."""


class _Reset:
    """`!reset`: what the files before say is taken away."""


class _Loader(yaml.SafeLoader):
    """YAML with compose's tag `!reset`."""


_Loader.add_constructor("!reset", lambda loader, node: _Reset())


def read(environment: Mapping[str, str], *files: Path) -> dict[str, Any]:
    """The document that compose makes of `files` (default: the base file alone)."""
    document: Any = {}
    for file in files or (BASE,):
        given = yaml.load(file.read_text(), _Loader)  # a SafeLoader
        document = _laid_over(document, _filled(given, environment))
    assert isinstance(document, dict)
    return document


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its variables, by the rules of compose's interpolation."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["wrong"] is not None:
            raise ValueError(f"not a variable as compose has it: {text!r}")
        given = environment.get(match["plain"] or match["name"])
        how, word = match["how"] or "", substitute(match["word"] or "", environment)
        there = given is not None if len(how) < 2 else bool(given)
        if how.endswith("+"):
            return word if there else ""
        if how.endswith("?") and not there:
            raise MissingVariable(f"{match['name']}: {word}")
        return (given or "") if there else word

    return _VARIABLE.sub(value, text)


def argv(command: str | Sequence[object]) -> list[str]:
    """A `command` as the words that are run."""
    return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]


def ports(service: Mapping[str, Any]) -> list[int]:
    """Where it listens, inside its container."""
    published = [str(port).rpartition(":")[2] for port in service.get("ports", [])]
    return [int(port) for port in [*published, *service.get("expose", [])]]


def mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """What lies where: path in the container to a volume's name, or a path of the host."""
    split = [str(volume).split(":") for volume in service.get("volumes", [])]
    return {parts[1]: parts[0] for parts in split}


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    """Values with their variables; keys have none."""
    if isinstance(value, str):
        return substitute(value, environment)
    if isinstance(value, list):
        return [_filled(item, environment) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, environment) for key, item in value.items()}
    return value


def _laid_over(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        merged = {k: _laid_over(below.get(k), v) for k, v in above.items()}
        return {k: v for k, v in {**below, **merged}.items() if not isinstance(v, _Reset)}
    return below if above is None else above
