"""From a sweep to its cells: a pure function.

The order is seed by seed, and within a seed the order of the design: when the first seed is done,
there is a whole table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detcore.config import Config, ConfigError, from_dict, set_path, to_dict
from orchestrator.axes import Axis, Label, Level, Write, filled, text_of, tidy
from orchestrator.derive import Line
from orchestrator.expr import ExprError, Value, evaluate, parse
from orchestrator.identity import arm_key
from orchestrator.overrides import COMMAND_LINE, is_data
from orchestrator.spec import Sweep, SweepError

MAX_CELLS = 100_000

Arm = tuple[Level, ...]


@dataclass(frozen=True)
class Resources:
    """What one cell needs at once, all of it reserved before it starts."""

    workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: the unit that is trained, hashed, cached and retried."""

    label: str  # "norm=gn batch_per_gpu=2 seed=0"
    arm_label: str  # "norm=gn batch_per_gpu=2"
    axes: dict[str, Label]
    seed: int
    config: Config
    resources: Resources
    ref: str | None = None  # the row of another report that this arm repeats


def expand(sweep: Sweep) -> list[Cell]:
    """The cells of `sweep`.

    Raises SweepError for a value that no config takes, and for two arms that are the same run.
    """
    arms = _arms(sweep)
    bases = {id(b): to_dict(b) for b in _bases(sweep)}
    cells = [_cell(sweep, bases, arm, seed) for seed in sweep.seeds for arm in arms]
    _check_effect(sweep, arms, cells[: len(arms)])
    return cells


def filter_cells(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells for which `only`, an expression over axes and seed, is true.

    Raises SweepError when there are none.
    """
    if not cells:
        return []
    try:
        expr = parse(only, {*cells[0].axes, "seed"})
        chosen = []
        for cell in cells:
            verdict = evaluate(expr, {**cell.axes, "seed": cell.seed})
            if not isinstance(verdict, bool):
                raise ExprError(f"must be true or false for every cell, is {verdict!r}")
            if verdict:
                chosen.append(cell)
    except ExprError as error:
        raise SweepError(f"--only: {error}") from None
    if not chosen:
        levels = {n: dict.fromkeys(text_of(c.axes[n]) for c in cells) for n in cells[0].axes}
        have = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in levels.items())
        raise SweepError(f"--only: {only!r} matches none of {len(cells)} cells; choices: {have}")
    return chosen


# ---------------------------------------------------------------- arms


def _arms(sweep: Sweep) -> list[Arm]:
    """The arms of every block, each once. An axis that a block leaves out stays at the baseline."""
    arms: dict[tuple[str, ...], Arm] = {}
    for block in sweep.design:
        choices = [_levels(axis, axis.name in block, sweep.baseline) for axis in sweep.axes]
        count = len(sweep.seeds)
        for levels in choices:
            count *= len(levels)
        if count > MAX_CELLS:
            raise sweep.document.error(
                ("design",), f"{count} cells are too many, at most {MAX_CELLS}"
            )
        for arm in itertools.product(*choices):
            arms.setdefault(tuple(text_of(level.label) for level in arm), arm)
    return list(arms.values())


def _levels(axis: Axis, varied: bool, baseline: Mapping[str, Label]) -> tuple[Level, ...]:
    if varied:
        return axis.levels
    level = axis.level(baseline[axis.name])
    assert level is not None
    return (level,)


def _label(axes: Sequence[Axis], arm: Arm) -> str:
    return " ".join(
        f"{axis.name}={text_of(level.label)}" for axis, level in zip(axes, arm, strict=True)
    )


def _check_effect(sweep: Sweep, arms: Sequence[Arm], cells: Sequence[Cell]) -> None:
    """Two arms that resolve to one config would be trained once and shown as two findings."""
    first: dict[str, int] = {}
    for i, cell in enumerate(cells):
        j = first.setdefault(arm_key(cell.config), i)
        if j == i:
            continue
        differing = [
            (axis.name, a, b)
            for axis, a, b in zip(sweep.axes, arms[j], arms[i], strict=True)
            if a.label != b.label
        ]
        what = " and ".join(
            f"axis {name}, levels {text_of(a.label)!r} and {text_of(b.label)!r}"
            for name, a, b in differing
        )
        raise sweep.document.error(
            ("axes", differing[0][0]),
            f"{what}: the arms {cells[j].arm_label!r} and {cell.arm_label!r} are the same run; "
            "what `runtime` and `resources` say does not count",
        )


# ---------------------------------------------------------------- one cell


def _bases(sweep: Sweep) -> list[Config]:
    levels = (level for axis in sweep.axes for level in axis.levels)
    return [sweep.base, *(level.base for level in levels if level.base)]


def _cell(sweep: Sweep, bases: Mapping[int, Any], arm: Arm, seed: int) -> Cell:
    arm_label = _label(sweep.axes, arm)
    scope: dict[str, Value] = {"seed": seed}
    for axis, level in zip(sweep.axes, arm, strict=True):
        scope |= {axis.name: level.label, **level.names}
    for line in sweep.lines:
        scope[line.name] = _evaluate(sweep, line, scope, arm_label)
    resources = _resources(sweep, scope, arm_label)
    writes = [w for level in arm for w in level.writes] + [
        Write(w.path, _filled(sweep, w, scope, arm_label), w.at, w.who) for w in sweep.writes
    ]
    writes.sort(key=lambda w: w.path.count("."))  # a component first, then settings inside it
    writes += sweep.overrides
    writes.append(Write("train.workers", resources.workers, ("resources", "workers"), "resources"))
    base = next((level.base for level in arm if level.base), sweep.base)
    data: Mapping[str, Any] = {**bases[id(base)], "seed": seed}
    for write in writes:
        data = _written(data, write)
    try:
        config = from_dict(Config, data)
    except ConfigError as error:
        raise _explained(sweep, writes, error, arm, arm_label) from None
    axes = {axis.name: level.label for axis, level in zip(sweep.axes, arm, strict=True)}
    row = sweep.reference.of([level.label for level in arm])
    label = f"{arm_label} seed={seed}"
    return Cell(label, arm_label, axes, seed, config, resources, row.id if row else None)


def _written(data: Mapping[str, Any], write: Write) -> dict[str, Any]:
    """`gn` is short for `{kind: gn}`: over a `gn` of the base it keeps that one's settings."""
    if is_data(write):
        return {**data, "data": {**data["data"], "source": write.value}}
    value, here = write.value, data
    for key in write.path.split("."):
        here = here.get(key, {}) if isinstance(here, Mapping) else {}
    if isinstance(value, str) and isinstance(here, Mapping) and "kind" in here:
        value = {"kind": value}
    return set_path(data, write.path, value)


def _evaluate(sweep: Sweep, line: Line, scope: Mapping[str, Value], arm_label: str) -> Value:
    try:
        return evaluate(line.expr, scope)
    except ExprError as error:
        raise sweep.document.error(line.at, f"{error} (arm {arm_label})") from None


def _filled(sweep: Sweep, write: Write, scope: Mapping[str, Value], arm_label: str) -> Any:
    try:
        return filled(write.value, scope)
    except ExprError as error:
        raise sweep.document.error(write.at, f"{error} (arm {arm_label})") from None


def _resources(sweep: Sweep, scope: Mapping[str, Value], arm_label: str) -> Resources:
    numbers = {"workers": tidy(scope["workers"])}
    for line in (sweep.cpus_per_worker, sweep.gpus_per_worker):
        numbers[line.name] = tidy(_evaluate(sweep, line, scope, arm_label))
    for key, value in numbers.items():
        whole = key == "workers"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            what = "a whole number" if whole else "a number"
            raise sweep.document.error(
                ("resources", key), f"must be {what}, is {value!r} (arm {arm_label})"
            )
        if value < (1 if whole else 0):
            raise sweep.document.error(
                ("resources", key),
                f"must be at least {1 if whole else 0}, is {value} (arm {arm_label})",
            )
    return Resources(numbers["workers"], numbers["cpus_per_worker"], numbers["gpus_per_worker"])


def _explained(
    sweep: Sweep, writes: Sequence[Write], error: ConfigError, arm: Arm, arm_label: str
) -> SweepError:
    """The config's complaint, at the line that wrote the value it complains about."""
    write = _culprit(writes, error)
    spot = _spot(sweep, write, error)
    where = "" if write.at[0] == COMMAND_LINE else f"{'.'.join(write.at)}: "
    level = next((v for v in arm if write in v.writes), None)
    what = f"level {text_of(level.label)!r}: " if level else ""
    path = ".".join(error.path)
    path = f"{path}: " if (path and path != write.path) or level else ""
    trap = _trap(sweep, write.value, error.problem)
    return SweepError(f"{spot}: {where}{what}{path}{error.problem}{trap} (arm {arm_label})")


def _trap(sweep: Sweep, value: object, problem: str) -> str:
    """What a person who wrote `value` probably meant."""
    if isinstance(value, bool) and problem.startswith("unknown") and "quotes" not in problem:
        return "; YAML reads on, off, yes and no as true and false: put the word in quotes"
    names = {line.name for line in sweep.lines} | {axis.name for axis in sweep.axes}
    if isinstance(value, str) and value in names and "unknown" not in problem:
        return f"; an expression begins with '=': write ={value}"
    return ""


def _culprit(writes: Sequence[Write], error: ConfigError) -> Write:
    """The deepest write at or above the key, else the last below it that the message names."""
    full = (*error.path, *error.problem.split()[0].split("."))
    paths = [(tuple(w.path.split(".")), w) for w in reversed(writes)]
    above = [(p, w) for p, w in paths if full[: len(p)] == p]
    if above:
        return max(above, key=lambda pair: len(pair[0]))[1]
    below = [(p, w) for p, w in paths if p[: len(error.path)] == error.path]
    named = [w for p, w in below if p[-1] in error.problem]
    return named[0] if named else below[0][1] if below else paths[0][1]


def _spot(sweep: Sweep, write: Write, error: ConfigError) -> str:
    rest = error.path[len(write.path.split(".")) :]
    return sweep.document.where((*write.at, *rest))
