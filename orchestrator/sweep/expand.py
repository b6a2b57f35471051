"""From a sweep to its cells: a pure function.

The order is seed by seed, and within a seed the order of the design: when the first seed is done,
there is a whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from detcore.config import Config
from orchestrator.sweep.arms import Arm, Fill, arm_with, arms_of
from orchestrator.sweep.axes import Label, Level, text_of
from orchestrator.sweep.conditions import hint
from orchestrator.sweep.design import MAX_CELLS
from orchestrator.sweep.expr import Expr, ExprError, evaluate, parse
from orchestrator.sweep.identity import Texts, arm_key
from orchestrator.sweep.resolve import Resources, Shared, config_of, levels_of_base
from orchestrator.sweep.rules import Excluded
from orchestrator.sweep.spec import Sweep, SweepError
from orchestrator.sweep.tune import Group, Tune, Values


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
    role: Literal["report", "tune"] = "report"  # `tune`: it chooses a value, and is in no table
    tuned: Values = field(default_factory=dict)  # of the parameters of `tune`


@dataclass(frozen=True)
class Expansion:
    """What a sweep comes to: its cells, the arms of its design that a rule leaves out, the cells
    that choose the values of `tune`, and those that arms may get while their verdict is open."""

    cells: list[Cell] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    tuning: list[Cell] = field(default_factory=list)
    more: list[Cell] = field(default_factory=list)


def expand(sweep: Sweep) -> list[Cell]:
    """The cells of `sweep`.

    Raises SweepError for a value that no config takes, and for two arms that are the same run.
    """
    return expansion(sweep).cells


def expansion(sweep: Sweep, choices: Mapping[Group, Values] | None = None) -> Expansion:
    """The cells of `sweep` and what is left out of it; raises SweepError.

    `choices` are the tuned values of groups of arms; other groups have the defaults of `tune`.
    """
    shared = Shared(sweep)

    def fill(arm: Arm) -> Iterator[Level]:
        return levels_of_base(sweep, shared, arm)

    arms, excluded = arms_of(sweep, fill)
    if sweep.tune:
        arms = [_with_choice(sweep.tune, arm, choices or {}) for arm in arms]
    by_seed: dict[int, list[Cell]] = {seed: [] for seed in sweep.seeds}
    firsts = []
    for arm in arms:
        cells = list(_cells(sweep, shared, arm))
        firsts.append(cells[0])
        for cell in cells:
            by_seed[cell.seed].append(cell)
    _check_effect(sweep, arms, firsts)
    tuning = _tuning(sweep, sweep.tune, shared, arms, fill) if sweep.tune else []
    cells = [cell for cells in by_seed.values() for cell in cells]
    return Expansion(cells, excluded, tuning, _further(sweep, shared, arms))


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


def _cells(sweep: Sweep, shared: Shared, arm: Arm) -> Iterator[Cell]:
    """The cells of one arm. Apart from the seed they are the same, unless an expression reads
    it."""
    row = sweep.reference.of(list(arm.axes.values()))
    made = None
    for seed in arm.seeds:
        if made is None or shared.by_seed:
            made = config_of(sweep, shared, arm, seed)
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
            tuned=arm.tuned,
        )


def _further(sweep: Sweep, shared: Shared, arms: Sequence[Arm]) -> list[Cell]:
    """The cells of the seeds that an arm may get (`planning.replicates`), seed by
    seed. An arm of which only blocks with seeds of their own ask has no more than those."""
    seeds = sweep.replicates.more
    if not seeds:
        return []
    at = ("seeds", "extend_to")
    if len(arms) == 1:
        raise sweep.document.error(at, "there is no second arm, and so no verdict that is open")
    baseline = next((arm for arm in arms if arm.axes == sweep.baseline), None)
    if baseline is None or baseline.seeds != sweep.seeds:
        lack = "with every seed of `list`" if baseline else "and the design has no such arm"
        problem = f"further seeds are run in pairs with the baseline, {lack}"
        raise sweep.document.error(at, problem)
    asking = {block.id: seeds for block in sweep.design if block.extends}
    cells: list[Cell] = []
    for arm in arms:
        blocks = {block: seeds for block in arm.blocks if block in asking}
        if blocks or arm is baseline:
            cells += _cells(sweep, shared, replace(arm, seeds=seeds, blocks=blocks))
    if len(cells) > MAX_CELLS:
        raise sweep.document.error(at, f"{len(cells)} further cells are too many")
    return sorted(cells, key=lambda cell: seeds.index(cell.seed))


# ---------------------------------------------------------------- tuning


def _with_choice(tune: Tune, arm: Arm, choices: Mapping[Group, Values]) -> Arm:
    return replace(arm, tuned=choices.get(tune.group(arm.axes), tune.default))


def _tuning(
    sweep: Sweep, tune: Tune, shared: Shared, arms: Sequence[Arm], fill: Fill
) -> list[Cell]:
    """For each group that has an arm, a short cell of every candidate."""
    groups: dict[Group, Arm] = {}
    for arm in arms:
        groups.setdefault(tune.group(arm.axes), arm)
    cells = [
        _tuning_cell(sweep, tune, shared, replace(arm, tuned=values))
        for group, member in groups.items()
        for arm in [_representative(sweep, tune, group, member, fill)]
        for values in tune.candidates()
    ]
    _check_tuning(sweep, tune, cells)
    return cells


def _representative(sweep: Sweep, tune: Tune, group: Group, member: Arm, fill: Fill) -> Arm:
    """The arm that is trained for its group: the group's levels of `per`, else the baseline's, so
    that it stays the same when the design grows."""
    named = {
        axis.name: level
        for axis, level in zip(sweep.axes, member.levels, strict=True)
        if axis.name in tune.per and level in axis.levels
    }
    at = ("tune", "per")
    arm = arm_with(sweep, named, at, tune.seed, fill)
    for name, wanted, got in zip(tune.per, group, tune.group(arm.axes), strict=True):
        if wanted != got:
            raise sweep.document.error(
                at,
                f"with the other axes at the baseline {name} is {got} where the arms that share "
                f"a tuning have {wanted}: add the axes that the `when` of {name} reads",
            )
    return arm


def _tuning_cell(sweep: Sweep, tune: Tune, shared: Shared, arm: Arm) -> Cell:
    config, resources = config_of(sweep, shared, arm, tune.seed)
    if config.data.holdout:
        raise sweep.document.error(
            ("tune", "holdout"),
            f"the cells of the sweep are scored on held-out training images themselves "
            f"(data.holdout {config.data.holdout:g}); nothing is left to tune on (arm {arm.label})",
        )
    steps = tune.steps or max(1, round(tune.share * config.train.steps))
    try:
        config = replace(
            config,
            train=replace(config.train, steps=steps),
            data=replace(config.data, holdout=tune.holdout),
        )
    except ValueError as error:
        at = ("tune", "steps" if tune.steps else "share")
        raise sweep.document.error(at, f"{error} (arm {arm.label})") from None
    shown = {name: arm.axes[name] for name in tune.per} | dict(arm.tuned)
    label = " ".join(f"{name}={text_of(value)}" for name, value in shown.items())
    return Cell(
        label=f"tune {label} seed={tune.seed}",
        arm_label=f"tune {label}",
        axes={**arm.axes, **arm.tuned},
        seed=tune.seed,
        config=config,
        resources=resources,
        role="tune",
        tuned=arm.tuned,
    )


def _check_tuning(sweep: Sweep, tune: Tune, cells: Sequence[Cell]) -> None:
    """Equal runs among the candidates would mean that there is nothing to choose, or that choosing
    undoes what an axis does."""
    first: dict[str, Cell] = {}
    texts = Texts()
    for cell in cells:
        same = first.setdefault(arm_key(cell.config, texts), cell)
        if same is cell:
            continue
        runs = f"{same.arm_label!r} and {cell.arm_label!r} are the same run"
        differing = [name for name in tune.per if same.axes[name] != cell.axes[name]]
        if not differing:
            raise sweep.document.error(("tune", "nuisance"), f"{runs}: there is nothing to choose")
        raise sweep.document.error(
            ("tune", "per"),
            f"{runs}: tuned apart, the levels of {' and '.join(differing)} would not differ; take "
            f"{'it' if len(differing) == 1 else 'them'} out of `per`",
        )
