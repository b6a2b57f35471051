"""The computed numbers of a sweep: the lines of `derive` and of `resources`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detcore.config import nearest
from orchestrator.sweep.axes import Axis, check_name
from orchestrator.sweep.document import Document, KeyPath
from orchestrator.sweep.expr import Expr, ExprError, parse

RESOURCES = ["workers", "cpus_per_worker", "gpus_per_worker"]


@dataclass(frozen=True)
class Line:
    """A named expression."""

    name: str
    expr: Expr
    at: KeyPath


def read_lines(
    document: Document, axes: Sequence[Axis], base_workers: int, others: Collection[str] = ()
) -> tuple[Line, ...]:
    """`derive` and `resources.workers`, each after the lines that it reads; `others` are names that
    they may read beside the axes.

    The order in the file does not matter, so `derive` may use `workers` and `resources.workers` a
    derived number; left out, `workers` is what the base says. Raises SweepError for an unknown name
    and for a line that needs its own value.
    """
    derive = document.data.get("derive", {})
    if not isinstance(derive, dict):
        raise document.error(("derive",), f"must map names to expressions, is {derive!r}")
    _check_names(document, axes, derive)
    workers = _resources(document).get("workers", base_workers)
    sources: dict[str, tuple[Any, KeyPath]] = {
        name: (value, ("derive", name)) for name, value in derive.items()
    }
    sources["workers"] = (workers, ("resources", "workers"))
    known = names_of(axes) | set(others) | set(sources)
    lines = {n: Line(n, _expr(document, at, v, known), at) for n, (v, at) in sources.items()}
    done: dict[str, Line] = {}

    def visit(line: Line, above: tuple[str, ...]) -> None:
        if line.name in above:
            circle = " -> ".join((*above[above.index(line.name) :], line.name))
            raise document.error(line.at, f"needs its own value: {circle}")
        for name in sorted(line.expr.names & set(lines) - set(done)):
            visit(lines[name], (*above, line.name))
        done[line.name] = line

    for line in lines.values():
        if line.name not in done:
            visit(line, ())
    return tuple(done.values())


def read_resource(document: Document, key: str, default: int, known: set[str]) -> Line:
    """`cpus_per_worker` or `gpus_per_worker`, over axes and derived numbers."""
    at = ("resources", key)
    value = _resources(document).get(key, default)
    return Line(key, _expr(document, at, value, known), at)


def names_of(axes: Sequence[Axis]) -> set[str]:
    """What expressions may read before any line is computed."""
    return {"seed"} | {n for a in axes for n in (a.name, *a.levels[0].names)}


def needed(lines: Sequence[Line], names: Collection[str]) -> tuple[Line, ...]:
    """Of `lines`, in their order, those that an expression over `names` needs, directly or not."""
    wanted = set(names)
    for line in reversed(lines):
        if line.name in wanted:
            wanted |= line.expr.names
    return tuple(line for line in lines if line.name in wanted)


def reads_seed(lines: Sequence[Line], names: Collection[str]) -> bool:
    """Whether an expression over `names` may have another value under another seed."""
    return "seed" in behind(lines, names)


def behind(lines: Sequence[Line], names: Collection[str]) -> set[str]:
    """`names` and all that they are computed from."""
    return {*names, *(n for line in needed(lines, names) for n in line.expr.names)}


def _check_names(document: Document, axes: Sequence[Axis], derive: Mapping[Any, Any]) -> None:
    taken = {axis.name: f"axis {axis.name}" for axis in axes}
    for axis in axes:
        for name in axis.levels[0].names:
            if name in taken:
                spot = (*axis.levels[0].at, name)
                raise document.error(spot, f"the name {name!r} is taken by {taken[name]}")
            taken[name] = f"axis {axis.name}"
    for name in derive:
        at = ("derive", str(name))
        if name == "workers":
            raise document.error(at, "the number of workers is written under resources.workers")
        check_name(document, at, name)
        if name in taken:
            raise document.error(at, f"the name {name!r} is taken by {taken[name]}")


def _resources(document: Document) -> Mapping[str, Any]:
    resources = document.data.get("resources", {})
    if not isinstance(resources, dict):
        raise document.error(("resources",), f"must be a mapping; choices: {', '.join(RESOURCES)}")
    for key in resources:
        if key not in RESOURCES:
            hint = nearest(str(key), RESOURCES)
            raise document.error(("resources", str(key)), f"unknown key {key!r}; {hint}")
    return resources


def _expr(document: Document, at: KeyPath, value: Any, known: set[str]) -> Expr:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise document.error(at, f"must be a number or an expression, is {value!r}")
    try:
        return parse(str(value), known)
    except ExprError as error:
        raise document.error(at, str(error)) from None
