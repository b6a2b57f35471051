"""From a sweep to its cells: a pure function.

The order is seed by seed, and within a seed the order of the design: when the first seed is done,
there is a whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detcore.config import Config, ConfigError, Memo, from_dict, set_path, to_dict
from orchestrator.arms import Arm, arms_of, scope_for
from orchestrator.axes import Label, Level, Write, filled, text_of, tidy
from orchestrator.conditions import hint
from orchestrator.derive import reads_seed
from orchestrator.explain import explained
from orchestrator.expr import Expr, ExprError, Value, evaluate, parse
from orchestrator.identity import Texts, arm_key
from orchestrator.overrides import check_conditional, is_data
from orchestrator.rules import Excluded, check_claims, failed, value_of
from orchestrator.spec import Sweep, SweepError


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
    axes: dict[str, Label]  # `-` for an axis that the arm does not have
    seed: int
    config: Config
    resources: Resources
    ref: str | None = None  # the row of another report that this arm repeats
    blocks: tuple[str, ...] = ()  # the blocks of the design that ask for this cell
    name: str | None = None  # what the sweep calls this arm


@dataclass(frozen=True)
class Expansion:
    """What a sweep comes to: its cells, and the arms of its design that a rule leaves out."""

    cells: list[Cell] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)


def expand(sweep: Sweep) -> list[Cell]:
    """The cells of `sweep`.

    Raises SweepError for a value that no config takes, and for two arms that are the same run.
    """
    return expansion(sweep).cells


def expansion(sweep: Sweep) -> Expansion:
    """The cells of `sweep` and what is left out of it; raises SweepError."""
    shared = _Shared(sweep)
    arms, excluded = arms_of(sweep, lambda arm: _of_the_base(sweep, shared, arm))
    by_seed: dict[int, list[Cell]] = {seed: [] for seed in sweep.seeds}
    firsts = []
    for arm in arms:
        cells = list(_cells(sweep, shared, arm))
        firsts.append(cells[0])
        for cell in cells:
            by_seed[cell.seed].append(cell)
    _check_effect(sweep, arms, firsts)
    return Expansion([cell for cells in by_seed.values() for cell in cells], excluded)


def filter_cells(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells for which `only`, an expression over axes and seed, is true.

    Raises SweepError when there are none.
    """
    if not cells:
        return []
    try:
        expr = parse(only, {*cells[0].axes, "seed"})
        chosen = [cell for cell in cells if _wanted(expr, cell)]
    except ExprError as error:
        raise SweepError(f"--only: {error}") from None
    if not chosen:
        levels = {n: dict.fromkeys(text_of(c.axes[n]) for c in cells) for n in cells[0].axes}
        have = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in levels.items())
        raise SweepError(f"--only: {only!r} matches none of {len(cells)} cells; choices: {have}")
    return chosen


def _wanted(expr: Expr, cell: Cell) -> bool:
    scope = {**cell.axes, "seed": cell.seed}
    try:
        verdict = evaluate(expr, scope)
    except ExprError as error:
        raise ExprError(f"{error}{hint(expr.names, scope)}") from None
    if not isinstance(verdict, bool):
        raise ExprError(f"must be true or false for every cell, is {verdict!r}")
    return verdict


def _check_effect(sweep: Sweep, arms: Sequence[Arm], cells: Sequence[Cell]) -> None:
    """Two arms that resolve to one config would be trained once and shown as two findings."""
    first: dict[str, int] = {}
    texts = Texts()
    for i, cell in enumerate(cells):
        j = first.setdefault(arm_key(cell.config, texts), i)
        if j == i:
            continue
        differing = [
            (axis.name, a, b)
            for axis, a, b in zip(sweep.axes, arms[j].levels, arms[i].levels, strict=True)
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


# ---------------------------------------------------------------- one arm


class _Shared:
    """What the cells of a sweep have in common, so that it is done once."""

    def __init__(self, sweep: Sweep) -> None:
        levels = (level for axis in sweep.axes for level in axis.levels)
        bases = [sweep.base, *(level.base for level in levels if level.base)]
        self.bases: dict[int, Mapping[str, Any]] = {id(base): to_dict(base) for base in bases}
        self.parts: Memo = {}  # settings that many cells share, as `from_dict` made them
        self.interned: dict[tuple[str, str], Any] = {}
        computed = [line.expr for line in (sweep.cpus_per_worker, sweep.gpus_per_worker)]
        computed += [claim.expr for claim in sweep.claims]
        computed += [line.expr for line in sweep.lines]
        computed += [expr for write in sweep.writes for expr in exprs_in(write.value)]
        self.by_seed = any(reads_seed(sweep.lines, expr.names) for expr in computed)

    def alike(self, data: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """`data` with equal sections as the same objects, so that each is read and hashed once."""
        return {
            name: part
            if part is base.get(name)
            else self.interned.setdefault((name, repr(part)), part)
            for name, part in data.items()
        }


def exprs_in(value: Any) -> Iterator[Expr]:
    """The expressions in a value of `set`, at any depth."""
    if isinstance(value, Expr):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        yield from exprs_in(part)


def _cells(sweep: Sweep, shared: _Shared, arm: Arm) -> Iterator[Cell]:
    """The cells of one arm. Apart from the seed they are the same, unless an expression reads
    it."""
    row = sweep.reference.of(list(arm.axes.values()))
    made = None
    for seed in arm.seeds:
        if made is None or shared.by_seed:
            made = _config(sweep, shared, arm, seed)
        config, resources = made
        yield Cell(
            label=f"{arm.label} seed={seed}",
            arm_label=arm.label,
            axes=arm.axes,
            seed=seed,
            config=config if config.seed == seed else replace(config, seed=seed),
            resources=resources,
            ref=row.id if row else None,
            blocks=tuple(block for block, seeds in arm.blocks.items() if seed in seeds),
            name=arm.name,
        )


def _config(sweep: Sweep, shared: _Shared, arm: Arm, seed: int) -> tuple[Config, Resources]:
    scope = {"seed": seed, **scope_for(sweep.axes, arm)}
    for line in sweep.lines:
        scope[line.name] = value_of(sweep.document, line.at, line.expr, scope, arm.label)
    check_claims(sweep.document, sweep.claims, scope, arm.label)
    resources = _resources(sweep, scope, arm.label)
    if len(sweep.conditional) > 1:
        check_conditional(sweep.document, arm.levels)
    writes = [w for level in arm.levels for w in level.writes] + [
        Write(w.path, _filled(sweep, w, scope, arm.label), w.at, w.who) for w in sweep.writes
    ]
    # a component first, then settings inside it; x.kind is as much as x
    writes.sort(key=lambda w: w.path.removesuffix(".kind").count("."))
    writes += sweep.overrides
    writes.append(Write("train.workers", resources.workers, ("resources", "workers"), "resources"))
    base = next((level.base for level in arm.levels if level.base), sweep.base)
    start = shared.bases[id(base)]
    data: Mapping[str, Any] = {**start, "seed": seed}
    for write in writes:
        data = _written(data, write)
    try:
        return from_dict(Config, shared.alike(data, start), memo=shared.parts), resources
    except ConfigError as error:
        raise explained(sweep, writes, error, arm) from None


def _of_the_base(sweep: Sweep, shared: _Shared, arm: Arm) -> Iterator[Level]:
    """The levels of `arm`; for an axis without one the level that its config has anyway, else
    none."""
    config, _ = _config(sweep, shared, arm, arm.seeds[0])
    for axis, level in zip(sweep.axes, arm.levels, strict=True):
        if level is not axis.unset:
            yield level
            continue
        same = [v for v in axis.levels if v.writes and _with(config, v) == config]
        yield same[0] if same else level


def _with(config: Config, level: Level) -> Config | None:
    data = to_dict(config)
    for write in level.writes:
        data = _written(data, write)
    try:
        return from_dict(Config, data)
    except ConfigError:
        return None


def _written(data: Mapping[str, Any], write: Write) -> dict[str, Any]:
    """`gn` is short for `{kind: gn}`: over a `gn` of the base it keeps that one's settings."""
    if is_data(write):
        return {**data, "data": {**data["data"], "source": write.value}}
    value = write.value
    keys = write.path.split(".")
    here: Any = data
    for key in keys:
        here = here.get(key, {}) if isinstance(here, dict) else {}
    if isinstance(value, str) and isinstance(here, dict) and "kind" in here:
        value = {"kind": value}
    if isinstance(value, dict) or keys[-1] == "kind":
        return set_path(data, write.path, value)
    return _put(data, keys, value) or set_path(data, write.path, value)


def _put(data: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any] | None:
    """`set_path` for a value that is no mapping, which is most of them, and quicker; None where a
    key on the way is no mapping yet."""
    out = here = dict(data)
    for key in keys[:-1]:
        below = here.get(key)
        if not isinstance(below, dict):
            return None
        here[key] = below = dict(below)
        here = below
    here[keys[-1]] = value
    return out


def _filled(sweep: Sweep, write: Write, scope: Mapping[str, Value], arm_label: str) -> Any:
    try:
        return filled(write.value, scope)
    except ExprError as error:
        expr = next(exprs_in(write.value))
        raise failed(sweep.document, write.at, error, expr, scope, arm_label) from None


def _resources(sweep: Sweep, scope: Mapping[str, Value], arm_label: str) -> Resources:
    numbers = {"workers": tidy(scope["workers"])}
    for line in (sweep.cpus_per_worker, sweep.gpus_per_worker):
        numbers[line.name] = tidy(value_of(sweep.document, line.at, line.expr, scope, arm_label))
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
