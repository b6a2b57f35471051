"""YAML read safely, with the line of every key, so that an error can point at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str, ...]


class YamlError(ValueError):
    """One line: the file, the line and the problem."""

    def __init__(self, file: Path | str, line: int | None, problem: str) -> None:
        self.file, self.line, self.problem = str(file), line, problem
        super().__init__(f"{file}:{line}: {problem}" if line else f"{file}: {problem}")


@dataclass(frozen=True)
class YamlFile:
    """`data` as yaml.safe_load gives it, and where each key stands (1-based)."""

    file: Path
    data: Any
    lines: dict[KeyPath, int]

    def line_of(self, path: KeyPath) -> int | None:
        """The line of `path`, or of the nearest key above it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.lines.get(())

    def error(self, path: KeyPath, problem: str) -> YamlError:
        where = f"{'.'.join(path)}: " if path else ""
        return YamlError(self.file, self.line_of(path), where + problem)


def read_yaml(file: Path | str) -> YamlFile:
    """Read `file`; raises YamlError when it is absent, is not UTF-8, is not YAML, or repeats a
    key."""
    file = Path(file)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise YamlError(file, None, "no such file") from None
    except IsADirectoryError:
        raise YamlError(file, None, "is a folder, a YAML file is needed") from None
    except UnicodeDecodeError as error:
        raise YamlError(file, None, f"is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise YamlError(file, None, f"cannot be read: {error.strerror}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[KeyPath, int] = {}
        if node is not None:
            _walk(node, (), lines, file)
        return YamlFile(file, yaml.safe_load(text), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        if mark and "\t" in text.splitlines()[mark.line][: mark.column + 1]:
            raise YamlError(
                file, line, "a tab is used for indentation; YAML allows spaces only"
            ) from None
        raise YamlError(
            file, line, f"is not valid YAML: {error.problem or error.context}"
        ) from None
    except yaml.YAMLError as error:
        raise YamlError(file, None, f"is not valid YAML: {' '.join(str(error).split())}") from None


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: Path) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != "<<":
                raise YamlError(
                    file, line, f"key {name!r} is given twice, first in line {seen[name]}"
                )
            seen[name] = line
            lines[(*path, name)] = line
            _walk(value, (*path, name), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*path, str(i)), lines, file)
